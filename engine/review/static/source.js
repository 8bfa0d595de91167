// Feeds the video element through Media Source: fragments at their own absolute times, fetched when
// they are needed and dropped when they are not, holes stepped over, damage told and passed by.

import { TICKS_PER_S } from "./words.js";

const AHEAD_S = 12;
const BEHIND_S = 10;
const KEEP_S = 30;
const LOOK_MS = 60;

/** A player's input; one per opened recording. */
export class Source extends EventTarget {
  constructor(video, recording, frames) {
    super();
    this.video = video;
    this.recording = recording;
    this.frames = frames;
    this.held = new Set();
    this.bad = new Map();
    this.inits = new Map();
    this.part = null;
    this.running = false;
    this.closed = false;
    this.aim = null;
    this.prepared = null;
  }

  static mime(part) {
    return `video/mp4; codecs="${part.codec}"`;
  }

  /** Attach to the video element. Throws if this browser has no such codec. */
  async open() {
    const first = this.frames.parts.values().next().value;
    this.media = new MediaSource();
    this.address = URL.createObjectURL(this.media);
    this.video.src = this.address;
    await new Promise((done) => this.media.addEventListener("sourceopen", done, { once: true }));
    this.buffer = this.media.addSourceBuffer(Source.mime(first));
    this.media.duration = Math.max(this.frames.endPts, 1) / TICKS_PER_S;
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.fill();
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.fetching?.abort();
    this.video.removeAttribute("src");
    this.video.load();
    if (this.address) URL.revokeObjectURL(this.address);
    this.inits.clear();
  }

  /** Where the video element is, or will go once its picture is there. */
  get position() {
    return this.aim ?? Math.round(this.video.currentTime * TICKS_PER_S);
  }

  /** Fetch the picture of a time before all others; true once it is there, or cannot be. */
  prepare(pts) {
    this.aim = pts;
    this.fetching?.abort();
    this.prepared?.(true);
    const done = new Promise((prepared) => { this.prepared = prepared; });
    this.tellPrepared();
    this.fill();
    return done;
  }

  tellPrepared() {
    if (this.aim === null || !this.prepared) return;
    const index = this.frames.at(this.aim);
    if (!this.bad.has(index) && !(this.held.has(index) && this.covers(this.aim))) return;
    this.prepared(true);
    this.prepared = null;
  }

  /** The video element was told to go where it was prepared. */
  moved() {
    this.aim = null;
    this.fill();
  }

  look() {
    this.fill();
    this.stepOverHole();
  }

  /** Fetch and append what is missing, in the order in which it is needed. */
  async fill() {
    if (this.running || this.closed) return;
    this.running = true;
    try {
      let next;
      while (!this.closed && (next = this.missing()) !== null) {
        await this.take(next);
        this.tellPrepared();
      }
      if (!this.closed) await this.drop();
    } catch (error) {
      if (error.name !== "AbortError" && !this.closed) {
        this.dispatchEvent(new CustomEvent("failed", { detail: error }));
      }
    } finally {
      this.running = false;
    }
  }

  /** Index of the first fragment that is needed and not there. */
  missing() {
    const { list } = this.frames;
    if (!list.length || this.media.readyState === "closed") return null;
    const ahead = AHEAD_S * Math.max(1, this.video.playbackRate) * TICKS_PER_S;
    const until = this.position + ahead;
    const here = this.frames.at(this.position);
    for (let i = here; i < list.length && (i <= here + 1 || list[i].pts <= until); i += 1) {
      if (this.bad.has(i)) continue;
      if (!this.held.has(i) || !this.covers(list[i].pts)) return i;
    }
    return null;
  }

  covers(pts) {
    const { buffered } = this.buffer;
    const time = pts / TICKS_PER_S + 0.004;
    for (let i = 0; i < buffered.length; i += 1) {
      if (buffered.start(i) <= time && time < buffered.end(i)) return true;
    }
    return false;
  }

  async take(index) {
    const { part, number } = this.frames.list[index];
    const fetching = new AbortController();
    this.fetching = fetching;
    let data;
    try {
      data = await this.recording.media(part, number, fetching.signal);
    } catch (error) {
      if (error.name === "AbortError") return;  // something else is needed first
      if (error.code !== "corrupt") throw error;
      this.bad.set(index, error.message);
      this.dispatchEvent(new CustomEvent("damaged", { detail: { index, message: error.message } }));
      return;
    }
    if (this.closed) return;
    await this.turnTo(part);
    await this.append(data);
    this.held.add(index);
    if (index === this.frames.list.length - 1 && this.media.readyState === "open") this.media.endOfStream();
  }

  /** Announce the part that the next fragment is of. */
  async turnTo(index) {
    if (this.part === index) return;
    const part = this.frames.parts.get(index);
    if (!this.inits.has(index)) this.inits.set(index, await this.recording.init(index));
    if (this.part !== null) {
      const before = this.frames.parts.get(this.part);
      if (before.codec !== part.codec) this.buffer.changeType(Source.mime(part));
    }
    // A dead encoder's part may hold frames that its successor's part begins with.
    const end = part.until_pts === null ? Infinity : part.until_pts / TICKS_PER_S + 0.004;
    this.buffer.appendWindowEnd = end;
    await this.append(this.inits.get(index));
    this.part = index;
  }

  async append(data) {
    try {
      await this.change(() => this.buffer.appendBuffer(data));
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      const here = this.position / TICKS_PER_S;
      await this.remove(0, Math.max(0, here - 2));
      await this.remove(here + 4, Infinity);
      await this.change(() => this.buffer.appendBuffer(data));
    }
  }

  /** Do something to the buffer and wait until it is done. */
  change(action) {
    return new Promise((done, failed) => {
      const { buffer } = this;
      const end = (event) => {
        buffer.removeEventListener("updateend", end);
        buffer.removeEventListener("error", end);
        if (event.type === "error") failed(new Error("The browser cannot decode this part."));
        else done();
      };
      buffer.addEventListener("updateend", end);
      buffer.addEventListener("error", end);
      try {
        action();
      } catch (error) {
        buffer.removeEventListener("updateend", end);
        buffer.removeEventListener("error", end);
        failed(error);
      }
    });
  }

  async remove(start, end) {
    if (!(end > start)) return;
    await this.change(() => this.buffer.remove(start, end));
    for (const i of [...this.held]) {
      const at = this.frames.list[i].pts / TICKS_PER_S;
      if (at >= start - 1 && at < end) this.held.delete(i);
    }
  }

  /** Let go of what is far from the position. */
  async drop() {
    const { buffered } = this.buffer;
    if (!buffered.length) return;
    const here = this.position / TICKS_PER_S;
    const keep = KEEP_S * Math.max(1, this.video.playbackRate);
    if (buffered.start(0) < here - keep) await this.remove(0, here - BEHIND_S);
    if (buffered.length && buffered.end(buffered.length - 1) > here + keep) await this.remove(here + keep - 2, Infinity);
  }

  /** While playing, go on behind a stretch in which there is no picture. */
  stepOverHole() {
    const { video } = this;
    if (this.aim !== null || video.paused || video.seeking || video.readyState > HTMLMediaElement.HAVE_CURRENT_DATA) return;
    const here = this.frames.at(this.position);
    if (!this.held.has(here) && !this.bad.has(here)) return;
    let next = here + 1;
    while (this.bad.has(next)) next += 1;
    if (next >= this.frames.list.length || !this.held.has(next)) return;
    const to = this.frames.list[next].pts;
    if (to <= this.position || !this.covers(to)) return;
    const from = this.position;
    video.currentTime = to / TICKS_PER_S + 0.002;
    this.dispatchEvent(new CustomEvent("hole", { detail: { from, to } }));
  }
}

/** The same for a browser without Media Source: its own HLS player does it all. */
export class HlsSource extends EventTarget {
  constructor(video, recording) {
    super();
    this.video = video;
    this.recording = recording;
  }

  async open() {
    this.video.src = this.recording.playlist();
  }

  close() {
    this.video.removeAttribute("src");
    this.video.load();
  }

  async prepare() {
    return true;
  }

  moved() {}
}
