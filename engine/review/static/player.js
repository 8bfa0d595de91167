// Playing, stepping and seeking, and which frame is shown.

import { HlsSource, Source } from "./source.js";
import { TICKS_PER_S } from "./words.js";

const POLL_MS = 50;
const STUCK_MS = 500;
const PATIENCE_MS = 8000;

export const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 8, 16];

const once = (target, type) =>
  new Promise((done) => target.addEventListener(type, () => done(true), { once: true }));
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Drives one video element. Emits "frame" (a row of the frame table), "hole", "damaged", "failed". */
export class Player extends EventTarget {
  constructor(video) {
    super();
    this.video = video;
    this.shown = null;
    this.source = null;
    // Picture and readout come to rest on one and the same frame.
    video.addEventListener("pause", () => {
      if (!this.stepping && !this.running) this.settle();
    });
    video.addEventListener("error", () => {
      if (this.source) this.tell("failed", new Error(video.error?.message || "The browser cannot play this."));
    });
    this.watch();
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  async open(recording, frames) {
    this.close();
    await this.running;
    this.frames = frames;
    const Kind = typeof MediaSource === "undefined" || location.search === "?hls" ? HlsSource : Source;
    this.source = new Kind(this.video, recording, frames);
    for (const type of ["hole", "damaged", "failed"]) {
      this.source.addEventListener(type, (event) => this.tell(type, event.detail));
    }
    await this.source.open();
    await this.seek(frames.list[0]?.pts ?? 0);
  }

  close() {
    this.source?.close();
    this.source = null;
    this.shown = null;
    this.wanted = null;
    this.video.playbackRate = 1;
  }

  get isPlaying() {
    return !this.video.paused && !this.video.ended;
  }

  async toggle() {
    if (this.isPlaying) {
      this.video.pause();
      await this.settle();
    } else {
      await this.play();
    }
  }

  /** Show the frame at the position where it stopped. */
  async settle() {
    if (!this.video.ended) await this.seek(Math.floor(this.video.currentTime * TICKS_PER_S));
  }

  async play() {
    if (!this.source) return;
    if (this.video.ended) await this.seek(0);
    await this.video.play().catch((error) => {
      if (error.name !== "AbortError") this.tell("failed", error);
    });
  }

  /** Show the frame at a time, 90 kHz. Of several wishes in a row the last one counts. */
  async seek(pts) {
    if (!this.source || !this.frames.list.length) return;
    this.wanted = Math.min(Math.max(0, pts), this.frames.endPts);
    this.tell("busy", true);
    this.running ??= this.seekAll().finally(() => {
      this.running = null;
      if (!this.stepping) this.tell("busy", false);
    });
    await this.running;
  }

  async seekAll() {
    const { source } = this;
    while (this.wanted !== null && source === this.source) {
      const wanted = this.wanted;
      this.wanted = null;
      try {
        const row = await this.frames.frameAt(wanted);
        if (source === this.source) await this.goTo(row[0], source);
      } catch (error) {
        if (error.code !== "corrupt") {
          this.tell("failed", error);
          return;
        }
        this.tell("damaged", { index: this.frames.at(wanted), message: error.message });
      }
    }
  }

  /** Go to a frame and wait until it is shown, another one is wanted, or it will not come. */
  async goTo(pts, source) {
    const begun = performance.now();
    const isOver = () => {
      const passed = performance.now() - begun;
      return source !== this.source || passed > PATIENCE_MS || (this.wanted !== null && passed > STUCK_MS);
    };
    // Chromium is content with a picture a little later, if that is all there is: so first the data.
    const ready = source.prepare(pts);
    while (!(await Promise.race([ready, pause(POLL_MS)]))) if (isOver()) return;
    if (source !== this.source) return;
    // A little behind its start, so that rounding cannot show the frame before.
    this.video.currentTime = pts / TICKS_PER_S + 0.002;
    source.moved();
    while (this.shown?.[0] !== pts || this.video.seeking) {
      if (isOver()) return;
      await Promise.race([once(this, "frame"), once(this.video, "seeked"), pause(POLL_MS)]);
    }
  }

  /** One frame on or back from the one that is shown; a key that is held steps as fast as it shows. */
  async step(direction) {
    if (!this.source || !this.shown || this.stepping) return;
    this.stepping = true;
    this.tell("busy", true);
    try {
      if (this.isPlaying) {
        this.video.pause();
        await this.settle();
      }
      await this.running;
      const row = await this.frames.beside(this.shown[0], direction);
      await this.seek(row[0]);
    } catch (error) {
      this.tell("failed", error);
    } finally {
      this.stepping = false;
      this.tell("busy", false);
    }
  }

  by(seconds) {
    return this.seek(this.video.currentTime * TICKS_PER_S + seconds * TICKS_PER_S);
  }

  faster(direction) {
    const at = SPEEDS.indexOf(this.video.playbackRate) + direction;
    this.video.playbackRate = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, at))];
  }

  /** Follow the frames that are really shown. */
  watch() {
    this.video.requestVideoFrameCallback((_now, { mediaTime }) => {
      this.watch();
      this.show(Math.round(mediaTime * TICKS_PER_S));
    });
  }

  async show(pts) {
    const { source } = this;
    if (!source) return;
    try {
      // Half a millisecond: what rounding may cost.
      const row = await this.frames.frameAt(pts + 45);
      if (source !== this.source) return;
      this.shown = row;
      this.tell("frame", row);
    } catch { /* told by whoever fetches the picture itself */ }
  }
}
