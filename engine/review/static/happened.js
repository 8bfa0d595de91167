// The table beside the picture: marks, losses, gaps and events, filtered, each a way to its time.

import { count, duration, kindWords, timeOfDay } from "./words.js";

const SHOWN = 400;

/** Rows of a timeline with its gaps among them, in order of time. */
export function withGaps(data) {
  const gaps = data.gaps.map(([pts, end_pts, kinds]) => ({
    pts, end_pts, sort: "gap", kind: "no picture", text: kinds.map(kindWords).join(", "), utc_ms: null, frames: 0,
  }));
  return [...data.rows, ...gaps].sort((a, b) => a.pts - b.pts);
}

export class Happened {
  constructor({ body, note, filter, sorts, seek }) {
    Object.assign(this, { body, note, filter, sorts, seek });
    this.rows = [];
    this.leftOut = 0;
    filter.addEventListener("input", () => this.draw());
    for (const box of sorts) box.addEventListener("change", () => this.draw());
  }

  show(data) {
    this.rows = data ? withGaps(data) : [];
    this.leftOut = data ? data.left_out : 0;
    this.done = data ? data.done >= 1 : false;
    this.draw();
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const sorts = new Set(this.sorts.filter((box) => box.checked).map((box) => box.value));
    const fitting = this.rows.filter((row) => sorts.has(row.sort) && fits(row, wanted));
    this.body.replaceChildren(...fitting.slice(0, SHOWN).map((row) => this.line(row)));
    const notes = [];
    if (!fitting.length && this.done) notes.push(this.rows.length ? "Nothing fits the filter." : "No mark, no loss, no gap, no event.");
    if (fitting.length > SHOWN) notes.push(`${count(fitting.length - SHOWN)} more: narrow the filter.`);
    if (this.leftOut) notes.push(`${count(this.leftOut)} further rows are not kept here; verify counts them all.`);
    this.note.textContent = notes.join(" ");
  }

  line(row) {
    const line = document.createElement("tr");
    const time = document.createElement("td");
    const what = document.createElement("td");
    const go = document.createElement("button");
    go.type = "button";
    go.className = "time";
    go.textContent = duration(row.pts);
    go.addEventListener("click", () => this.seek(row.pts));
    if (row.utc_ms !== null) go.title = timeOfDay(row.utc_ms);
    time.append(go);
    const kind = document.createElement("b");
    kind.className = `kind ${row.kind === "paused" ? "paused" : row.sort}`;
    kind.textContent = kindWords(row.kind);
    const text = document.createElement("span");
    text.textContent = details(row);
    what.append(kind, text);
    line.append(time, what);
    line.addEventListener("click", (event) => {
      if (event.target !== go) this.seek(row.pts);
    });
    return line;
  }
}

function details(row) {
  const parts = [];
  if (row.sort === "loss" && row.frames) parts.push(`${count(row.frames)} lost`);
  if (row.text) parts.push(row.text);
  if (row.sort === "gap" || (row.sort === "loss" && row.end_pts - row.pts > 9000)) {
    parts.push(`${((row.end_pts - row.pts) / 90000).toFixed(1)} s`);
  }
  return parts.join(" · ");
}

function fits(row, wanted) {
  return !wanted || `${kindWords(row.kind)} ${row.text} ${row.sort}`.toLowerCase().includes(wanted);
}
