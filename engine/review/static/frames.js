// Which fragment and which frame a time belongs to, from the fragment index and the frame tables.

const KEPT = 64;

/** All fragments of all parts in order, and their frame tables as they are needed. */
export class Frames {
  constructor(recording, manifest) {
    this.recording = recording;
    this.endPts = manifest.end_pts;
    this.parts = new Map(manifest.parts.map((part) => [part.index, part]));
    this.list = manifest.parts.flatMap((part) =>
      part.fragments.map(([number, pts]) => ({ part: part.index, number, pts })));
    this.tables = new Map();
  }

  /** Index of the fragment that a time (90 kHz) lies in or behind. */
  at(pts) {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.list[middle].pts <= pts) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  /** The frame table of a fragment: {frames: [[pts, id, epoch, camera, utc, flags]], end_pts}. */
  table(index) {
    let found = this.tables.get(index);
    if (found === undefined) {
      const { part, number } = this.list[index];
      found = this.recording.frames(part, number);
      found.catch(() => this.tables.delete(index));
    }
    this.tables.delete(index);
    this.tables.set(index, found);  // newest last
    if (this.tables.size > KEPT) this.tables.delete(this.tables.keys().next().value);
    return found;
  }

  /** The frame shown at a time; in a gap the first one behind it, at the end the last one. */
  async frameAt(pts) {
    const index = this.at(pts);
    const { frames, end_pts: end } = await this.table(index);
    const behind = pts > end && index + 1 < this.list.length;
    if (behind && this.list[index + 1].pts > end + 900) return this.firstOf(index + 1);
    let row = frames[0];
    for (const candidate of frames) {
      if (candidate[0] > pts) break;
      row = candidate;
    }
    return row;
  }

  async firstOf(index) {
    return (await this.table(index)).frames[0];
  }

  async lastOf(index) {
    return (await this.table(index)).frames.at(-1);
  }

  /** The frame after or before one; the same at either end. */
  async beside(pts, step) {
    const index = this.at(pts);
    const { frames } = await this.table(index);
    const wanted = frames.findLastIndex((row) => row[0] <= pts) + step;
    if (wanted >= 0 && wanted < frames.length) return frames[wanted];
    const other = index + step;
    if (other < 0 || other >= this.list.length) return frames.at(step < 0 ? 0 : -1);
    return step < 0 ? this.lastOf(other) : this.firstOf(other);
  }

  forget() {
    this.tables.clear();
  }
}
