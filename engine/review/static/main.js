// The page: list, unlocking, watching, and what keeps them together.

import { Frames } from "./frames.js";
import { Happened } from "./happened.js";
import { showList } from "./list.js";
import { Player, SPEEDS } from "./player.js";
import { saveClip, saveStill } from "./saving.js";
import { Recording, library } from "./server.js";
import { Timeline } from "./timeline.js";
import { UnlockForm } from "./unlock.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 600;
const ALIVE_MS = 10000;
const ACTIVE_MS = 30000;
const PAGES = ["list", "unlock", "watch"];

let rows = new Map();
let open = new Set();
let recording = null;
let manifest = null;
let timelineData = null;
let poll = 0;
let lastActive = 0;
let noticeTimer = 0;

const player = new Player($("video"));
const timeline = new Timeline($("lanes"));
const unlockForm = new UnlockForm(watch, goHome);
const happened = new Happened({
  body: $("rows"),
  note: $("rows-note"),
  filter: $("filter"),
  sorts: [...document.querySelectorAll("input.sort")],
  seek: (pts) => player.seek(pts),
});

// --- pages ----------------------------------------------------------------------------------------

function show(page) {
  for (const name of PAGES) $(name).hidden = name !== page;
  document.body.dataset.page = page;
  performance.mark(page);
  $("badge").hidden = $("lock").hidden = page !== "watch";
  if (page !== "watch") {
    $("about").textContent = "";
    $("verdict").hidden = true;
  }
}

async function goHome() {
  stop();
  if (recording) recording.leave();
  recording = null;
  history.replaceState(null, "", location.pathname + location.search);
  await showLibrary();
}

async function showLibrary() {
  $("name").textContent = "Recordings";
  document.title = "sealrec review";
  $("recordings").replaceChildren();
  show("list");
  try {
    const list = await library();
    rows = new Map(list.recordings.map((row) => [row.id, row]));
    open = new Set(list.open);
    const minutes = list.idle_s / 60;
    $("idle").textContent = minutes >= 2 ? `${Math.round(minutes)} minutes` : `${Math.round(list.idle_s)} seconds`;
    $("name").textContent = list.title ? `Recordings in ${list.title}` : "Recordings";
    showList($("recordings"), $("list-note"), list, choose);
    return list;
  } catch (error) {
    $("list-note").textContent = error.message;
    return null;
  }
}

async function choose(row) {
  recording = new Recording(row.id);
  history.replaceState(null, "", `#${row.id}`);
  if (!open.has(row.id)) {
    ask("");
    return;
  }
  try {
    watch(recording, await recording.manifest());
  } catch (error) {
    ask(error.code === "locked" ? "" : error.message);
  }
}

function ask(why) {
  stop();
  const row = rows.get(recording.id);
  $("name").textContent = row.name;
  show("unlock");
  unlockForm.show(recording, row, why);
}

async function watch(opened, found) {
  stop();
  recording = opened;
  manifest = found;
  show("watch");
  document.title = `${manifest.name} – sealrec review`;
  $("name").textContent = manifest.name;
  const about = ["subject", "operator", "session_id"].map((key) => manifest.session[key]).filter(Boolean);
  $("about").textContent = about.join(" · ");
  showDamage();
  $("length").textContent = words.duration(manifest.end_pts);
  $("lanes").setAttribute("aria-valuemax", Math.round(manifest.end_pts / words.TICKS_PER_S));
  timeline.open(manifest.parts, manifest.end_pts);
  happened.show(null);
  showSpeed();
  follow();
  const frames = new Frames(recording, manifest);
  if (!frames.list.length) {
    notice("No picture in this recording can be shown.", 0);
    return;
  }
  try {
    await player.open(recording, frames);
    document.body.dataset.ready = "yes";
  } catch (error) {
    const codec = manifest.parts[0]?.codec ?? "";
    const known = typeof MediaSource === "undefined" || MediaSource.isTypeSupported(`video/mp4; codecs="${codec}"`);
    notice(known ? error.message : `This browser cannot play ${codec}. Save a clip and open it in a player.`, 0);
  }
}

function stop() {
  clearTimeout(poll);
  player.close();
  player.frames?.forget();
  notice("", 0);
  for (const name of ["ready", "pts", "frameId"]) delete document.body.dataset[name];
  timelineData = null;
  happened.show(null);
  for (const id of ["clock", "frame", "position", "camera"]) $(id).textContent = "–";
}

function showDamage() {
  const box = $("damage");
  box.hidden = !manifest.damage.length;
  box.replaceChildren();
  if (box.hidden) return;
  const head = document.createElement("h2");
  head.textContent = "This recording is damaged or not complete";
  const list = document.createElement("ul");
  for (const sentence of manifest.damage) {
    const item = document.createElement("li");
    item.textContent = sentence;
    list.append(item);
  }
  const kept = document.createElement("p");
  kept.textContent = manifest.parts.length
    ? `What is intact can be watched, up to ${words.duration(manifest.end_pts)}.`
    : "Nothing of it can be watched.";
  box.append(head, list, kept);
}

// --- what the server finds out in the background --------------------------------------------------

async function follow() {
  const mine = recording;
  try {
    if (!timelineData || timelineData.done < 1) {
      const found = await recording.timeline();
      if (mine !== recording || $("watch").hidden) return;
      timelineData = found;
      timeline.show(found);
      happened.show(found);
      const share = Math.floor(found.done * 100);
      $("reading").textContent = found.done < 1 ? `Reading the frame tables, ${share} %` : found.problems.slice(0, 1).join("");
    }
    const verdict = await recording.verdict();
    if (mine !== recording || $("watch").hidden) return;
    showVerdict(verdict);
    const busy = verdict.level === "checking" || timelineData.done < 1;
    poll = setTimeout(follow, busy ? POLL_MS : ALIVE_MS);
  } catch (error) {
    if (mine !== recording || $("watch").hidden) return;
    closed(error);
    if (error.code !== "locked") poll = setTimeout(follow, ALIVE_MS);
  }
}

function showVerdict(verdict) {
  const badge = $("badge");
  badge.dataset.level = verdict.level;
  const text = verdict.level === "checking" && verdict.done > 0
    ? `${verdict.headline}, ${Math.floor(verdict.done * 100)} %` : verdict.headline;
  if ($("badge-text").textContent !== text) $("badge-text").textContent = text;
  $("verdict").dataset.level = verdict.level;
  $("verdict-head").textContent = verdict.headline;
  $("verdict-text").replaceChildren(...verdict.sentences.map((sentence) => {
    const item = document.createElement("li");
    item.textContent = sentence;
    return item;
  }));
}

function closed(error) {
  if (error.code === "locked") ask("It was locked because nobody used it for a while.");
  else notice(error.message, 0);
}

// --- what is shown --------------------------------------------------------------------------------

function notice(text, seconds = 3) {
  clearTimeout(noticeTimer);
  $("notice").hidden = !text;
  $("notice").textContent = text;
  if (text && seconds) noticeTimer = setTimeout(() => notice("", 0), seconds * 1000);
}

player.addEventListener("frame", ({ detail: row }) => {
  const [pts, id, , camera, utc] = row;
  const at = words.duration(pts, 3);
  $("clock").textContent = utc === null ? "not known" : words.timeOfDay(utc);
  $("clock").title = utc === null ? "" : `${words.day(utc)}, local time`;
  $("frame").textContent = words.count(id);
  $("position").textContent = at;
  $("camera").textContent = words.cameraTime(camera);
  $("now").textContent = words.duration(pts);
  $("lanes").setAttribute("aria-valuenow", Math.round(pts / words.TICKS_PER_S));
  $("lanes").setAttribute("aria-valuetext", at);
  timeline.moveTo(pts);
  Object.assign(document.body.dataset, { pts, frameId: id });
});

player.addEventListener("busy", ({ detail: busy }) => $("stage").setAttribute("aria-busy", String(busy)));
player.addEventListener("hole", ({ detail: { from, to } }) => {
  notice(`No picture for ${((to - from) / words.TICKS_PER_S).toFixed(1)} s, until ${words.duration(to)}`);
});
player.addEventListener("damaged", ({ detail: { index, message } }) => {
  const at = words.duration(player.frames.list[index].pts);
  notice(`The picture at ${at} cannot be shown: the file was changed or damaged there. ${message}`, 8);
});
player.addEventListener("failed", ({ detail }) => closed(detail));

function showPlaying() {
  const playing = player.isPlaying;
  $("play-shape").setAttribute("d", playing ? "M6 4h4v16H6zM14 4h4v16h-4z" : "M7 4v16l13-8z");
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
}
for (const type of ["play", "pause", "ended"]) $("video").addEventListener(type, showPlaying);

function showSpeed() {
  $("speed").value = String($("video").playbackRate);
}
$("video").addEventListener("ratechange", showSpeed);

// --- what a person does ---------------------------------------------------------------------------

function toMark(direction) {
  const marks = (timelineData?.rows ?? []).filter((row) => row.sort === "mark").map((row) => row.pts);
  const here = player.shown?.[0] ?? 0;
  const next = direction > 0
    ? marks.find((pts) => pts > here + 4500)
    : marks.findLast((pts) => pts < here - 4500);
  if (next === undefined) notice(direction > 0 ? "No mark after this." : "No mark before this.");
  else player.seek(next);
}

async function fullScreen() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else await $("stage").requestFullscreen();
}

const still = () => saveStill({ recording, manifest, player, video: $("video"), notice });
const clip = () => saveClip({ recording, manifest, player, notice });

const KEYS = {
  " ": () => player.toggle(),
  k: () => player.toggle(),
  ",": () => player.step(-1),
  ".": () => player.step(1),
  ArrowLeft: (event) => player.by(event.shiftKey ? -5 : -1),
  ArrowRight: (event) => player.by(event.shiftKey ? 5 : 1),
  j: () => player.by(-10),
  l: () => player.by(10),
  ArrowUp: () => player.faster(1),
  ArrowDown: () => player.faster(-1),
  m: (event) => toMark(event.shiftKey ? -1 : 1),
  Home: () => player.seek(0),
  End: () => player.seek(manifest.end_pts),
  f: fullScreen,
  s: still,
  c: clip,
};

document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (target.matches("input[type=search], input:not([type]), input[type=password], select, textarea")) return;
  if (event.key === "?") {
    $("keys").showModal();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ($("watch").hidden || !(key in KEYS)) return;
  if (key === " " && target.matches("button, input")) return;
  if (key.startsWith("Arrow") && target.matches("input")) return;
  event.preventDefault();
  KEYS[key](event);
});

const CLICKS = {
  home: goHome,
  play: () => player.toggle(),
  "step-back": () => player.step(-1),
  "step-on": () => player.step(1),
  "back-10": () => player.by(-10),
  "on-10": () => player.by(10),
  "mark-back": () => toMark(-1),
  "mark-on": () => toMark(1),
  full: fullScreen,
  still,
  clip,
  "zoom-in": () => timeline.zoom(0.5),
  "zoom-out": () => timeline.zoom(2),
  "show-keys": () => $("keys").showModal(),
  lock: async () => {
    const locked = recording;
    stop();
    try {
      await locked.lock();
      ask("Locked. The key is forgotten.");
    } catch (error) {
      closed(error);
    }
  },
  badge: () => {
    $("verdict").hidden = !$("verdict").hidden;
    $("badge").setAttribute("aria-expanded", String(!$("verdict").hidden));
  },
};
for (const [id, action] of Object.entries(CLICKS)) $(id).addEventListener("click", action);
$("stage").addEventListener("click", () => player.toggle());

for (const speed of SPEEDS) $("speed").append(new Option(`${speed}×`, String(speed)));
$("speed").addEventListener("change", () => {
  $("video").playbackRate = Number($("speed").value);
  $("speed").blur();
});

timeline.addEventListener("seek", ({ detail: pts }) => player.seek(pts));
timeline.addEventListener("hover", ({ detail }) => {
  if (!detail) $("hover").textContent = "";
  else if (!detail.row) $("hover").textContent = words.duration(detail.pts);
  else {
    const { row } = detail;
    $("hover").textContent = [words.duration(row.pts), words.kindWords(row.kind), row.text].filter(Boolean).join(" · ");
  }
});

function somebodyIsThere() {
  const now = performance.now();
  if (!recording || $("watch").hidden || now - lastActive < ACTIVE_MS) return;
  lastActive = now;
  recording.active().catch(closed);
}
for (const type of ["pointermove", "pointerdown", "keydown"]) document.addEventListener(type, somebodyIsThere);
addEventListener("pagehide", () => recording?.leave());

// For whoever drives this page from a program: the same as a click on the timeline, to the tick.
window.sealrec = { seek: (pts) => player.seek(pts) };

// --- start ----------------------------------------------------------------------------------------

const list = await showLibrary();
const wanted = rows.get(location.hash.slice(1)) ?? (rows.size === 1 ? [...rows.values()][0] : undefined);
if (list && wanted) await choose(wanted);
