// Copies that leave the sealed file, on purpose: a still and a clip. Both are put on record first.

import { bytes, duration, parseDuration } from "./words.js";

const $ = (id) => document.getElementById(id);
let context = null;

/** Save the picture that is shown, as PNG. */
export async function saveStill({ recording, manifest, player, video, notice }) {
  const row = player.shown;
  if (!row || !video.videoWidth) return;
  video.pause();
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  try {
    await recording.still(row[0], row[1]);
  } catch (error) {
    notice(`Nothing was saved. ${error.message}`, 8);
    return;
  }
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${stem(manifest.name)}_${duration(row[0], 3).replaceAll(":", "-")}_frame-${row[1]}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  notice(`Saved, not encrypted: ${link.download}`, 5);
}

/** Ask from when to when, and let the server write it. */
export function saveClip(given) {
  context = given;
  const here = given.player.shown?.[0] ?? 0;
  $("clip-from").value = duration(here);
  $("clip-to").value = duration(Math.min(given.manifest.end_pts, here + 10 * 90000));
  $("clip-result").textContent = "";
  $("clip-save").disabled = false;
  $("clip-dialog").showModal();
}

$("clip-close").addEventListener("click", () => $("clip-dialog").close());
$("clip-save").addEventListener("click", async () => {
  const [from, to] = [parseDuration($("clip-from").value), parseDuration($("clip-to").value)];
  if (!(from < to)) {
    $("clip-result").textContent = "Write times such as 0:12:03.5, the first before the second.";
    return;
  }
  $("clip-save").disabled = true;
  $("clip-result").textContent = "Saving…";
  try {
    const done = await context.recording.clip(from, to);
    $("clip-result").textContent = `Saved: ${done.path} (${done.frames} frames, ${bytes(done.size_bytes)})`;
  } catch (error) {
    $("clip-result").textContent = `Nothing was saved. ${error.message}`;
  }
  $("clip-save").disabled = false;
});

function stem(name) {
  return name.split("/").at(-1).replace(/\.mp4\.enc$/, "");
}
