// The timeline under the picture: parts and gaps, marks, losses, events and frame intervals.

import { duration, kindWords } from "./words.js";

const LABELS_PX = 74;
const LANES = [
  { name: "Picture", height: 20 },
  { name: "Marks", height: 20 },
  { name: "Lost", height: 16 },
  { name: "Events", height: 16 },
  { name: "Interval", height: 38 },
];
const SPACE_PX = 4;
const AXIS_PX = 18;
const NEAR_PX = 5;
const HALF_LABEL_PX = 30;
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];

export const HEIGHT_PX = LANES.reduce((sum, lane) => sum + lane.height + SPACE_PX, AXIS_PX);

/** Draws what is known and turns pointers into times. Emits "seek" and "hover". */
export class Timeline extends EventTarget {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.parts = [];
    this.data = null;
    this.position = 0;
    this.end = 1;
    this.view = { from: 0, to: 1 };
    this.drawn = false;
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerleave", () => this.emit("hover", null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Show another recording. */
  open(parts, endPts) {
    this.parts = parts;
    this.data = null;
    this.end = Math.max(1, endPts);
    this.canvas.dataset.end = this.end;
    this.view = { from: 0, to: this.end };
    this.redraw();
  }

  show(data) {
    this.data = data;
    this.redraw();
  }

  moveTo(pts) {
    this.position = pts;
    const { from, to } = this.view;
    if (to - from < this.end && (pts < from || pts > to)) {
      const width = to - from;
      this.look(pts - width * 0.1, width);
    }
    this.redraw();
  }

  zoom(factor, around = this.position) {
    const { from, to } = this.view;
    const width = Math.min(this.end, Math.max(90000, (to - from) * factor));
    const share = (around - from) / (to - from);
    this.look(around - width * Math.min(1, Math.max(0, share)), width);
  }

  look(from, width) {
    const start = Math.min(Math.max(0, from), this.end - width);
    this.view = { from: start, to: start + width };
    this.redraw();
  }

  redraw() {
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => {
      this.drawn = false;
      this.draw();
    });
  }

  // --- pointers ---------------------------------------------------------------------------------

  timeOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (event.clientX - box.left - LABELS_PX) / (box.width - LABELS_PX);
    return this.view.from + Math.min(1, Math.max(0, share)) * (this.view.to - this.view.from);
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const near = this.nearest(event);
    this.emit("seek", near ? near.pts : this.timeOf(event));
  }

  move(event) {
    if (event.buttons & 1) this.emit("seek", this.timeOf(event));
    this.emit("hover", { pts: this.timeOf(event), row: this.nearest(event) });
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? 0.8 : 1.25, this.timeOf(event));
  }

  /** The mark, loss or event under the pointer. */
  nearest(event) {
    const y = event.clientY - this.canvas.getBoundingClientRect().top;
    const lane = this.laneAt(y);
    const sort = { Marks: "mark", Lost: "loss", Events: "event" }[lane];
    if (!sort || !this.data) return null;
    const pts = this.timeOf(event);
    const near = (NEAR_PX * (this.view.to - this.view.from)) / this.width();
    const far = (row) => Math.max(row.pts - pts, pts - row.end_pts, 0);
    const rows = this.data.rows.filter((row) => row.sort === sort && far(row) <= near);
    return rows.sort((a, b) => far(a) - far(b))[0] ?? null;
  }

  laneAt(y) {
    let top = AXIS_PX;
    for (const lane of LANES) {
      if (y >= top && y < top + lane.height + SPACE_PX) return lane.name;
      top += lane.height + SPACE_PX;
    }
    return null;
  }

  // --- drawing ----------------------------------------------------------------------------------

  width() {
    return Math.max(1, this.canvas.clientWidth - LABELS_PX);
  }

  x(pts) {
    return LABELS_PX + ((pts - this.view.from) / (this.view.to - this.view.from)) * this.width();
  }

  draw() {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
      canvas.width = width * ratio;
      canvas.height = height * ratio;
    }
    const style = getComputedStyle(canvas);
    this.colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `12px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    this.drawAxis(pen, height);
    let top = AXIS_PX;
    for (const lane of LANES) {
      pen.fillStyle = this.colour("quiet");
      pen.textAlign = "left";
      pen.fillText(lane.name, 2, top + lane.height / 2);
      pen.save();
      pen.beginPath();
      pen.rect(LABELS_PX, 0, width - LABELS_PX, height);
      pen.clip();
      pen.fillStyle = this.colour("lane");
      pen.fillRect(LABELS_PX, top, width - LABELS_PX, lane.height);
      this[`draw${lane.name}`](pen, top, lane.height);
      pen.restore();
      top += lane.height + SPACE_PX;
    }
    this.drawPosition(pen, height);
  }

  drawAxis(pen, height) {
    const { from, to } = this.view;
    const least = ((to - from) / 90000) * (92 / this.width());
    const step = (STEPS_S.find((s) => s >= least) ?? 14400) * 90000;
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      pen.fillStyle = this.colour("line");
      pen.fillRect(Math.round(this.x(at)), AXIS_PX - 4, 1, height);
      pen.fillStyle = this.colour("quiet");
      const x = this.x(at);
      if (x > LABELS_PX + this.width() - HALF_LABEL_PX) continue;
      pen.textAlign = x < LABELS_PX + HALF_LABEL_PX ? "left" : "center";
      pen.fillText(duration(at, step < 90000 ? 1 : 0), x, 7);
    }
  }

  drawPicture(pen, top, height) {
    this.parts.forEach((part, number) => {
      if (!part.fragments.length) return;
      const start = this.x(part.fragments[0][1]);
      const end = this.x(part.until_pts ?? this.end);
      pen.fillStyle = this.colour(number % 2 ? "picture-2" : "picture-1");
      pen.fillRect(start, top, Math.max(1, end - start), height);
      if (this.parts.length > 1 && end - start > 50) {
        pen.fillStyle = this.colour("on-picture");
        pen.textAlign = "left";
        pen.fillText(`Part ${part.index + 1}`, Math.max(start, LABELS_PX) + 7, top + height / 2);
      }
    });
    for (const [start, end, kinds] of this.data?.gaps ?? []) {
      const [x, width] = [this.x(start), Math.max(2, this.x(end) - this.x(start))];
      pen.fillStyle = this.colour("lane");
      pen.fillRect(x, top, width, height);
      pen.strokeStyle = this.colour(kinds.length === 1 && kinds[0] === "paused" ? "paused" : "gap");
      this.hatch(pen, x, top, width, height);
    }
  }

  hatch(pen, x, top, width, height) {
    pen.save();
    pen.beginPath();
    pen.rect(x, top, width, height);
    pen.clip();
    pen.lineWidth = 1.5;
    pen.beginPath();
    const left = Math.max(x, LABELS_PX) - height;
    const right = Math.min(x + width, LABELS_PX + this.width());
    for (let at = left - (left % 6); at < right; at += 6) {
      pen.moveTo(at, top + height);
      pen.lineTo(at + height, top);
    }
    pen.stroke();
    pen.restore();
  }

  rows(sort) {
    const { from, to } = this.view;
    return (this.data?.rows ?? []).filter((r) => r.sort === sort && r.end_pts >= from && r.pts <= to);
  }

  drawMarks(pen, top, height) {
    let free = -Infinity;
    for (const row of this.rows("mark")) {
      const x = this.x(row.pts);
      pen.fillStyle = this.colour("mark");
      pen.beginPath();
      pen.moveTo(x, top + height);
      pen.lineTo(x - 5, top + 5);
      pen.lineTo(x, top);
      pen.lineTo(x + 5, top + 5);
      pen.fill();
      const words = kindWords(row.kind);
      const width = pen.measureText(words).width;
      if (x < free || x + width + 12 > LABELS_PX + this.width()) continue;
      pen.fillStyle = this.colour("text");
      pen.textAlign = "left";
      pen.fillText(words, x + 8, top + height / 2);
      free = x + width + 20;
    }
  }

  drawLost(pen, top, height) {
    for (const row of this.rows("loss")) {
      const x = this.x(row.pts);
      pen.fillStyle = this.colour(row.kind === "paused" ? "paused" : "loss");
      pen.fillRect(x - 1, top + 2, Math.max(3, this.x(row.end_pts) - x), height - 4);
    }
  }

  drawEvents(pen, top, height) {
    for (const row of this.rows("event")) {
      pen.fillStyle = this.colour("event");
      pen.beginPath();
      pen.arc(this.x(row.pts), top + height / 2, 4, 0, 7);
      pen.fill();
    }
  }

  drawInterval(pen, top, height) {
    const found = this.data?.intervals;
    if (!found || !found.usual_ms) return;
    const most = Math.max(found.usual_ms * 4, 1);
    const y = (ms) => top + height - 2 - (Math.min(ms, most) / most) * (height - 4);
    const usual = Math.round(y(found.usual_ms)) + 0.5;
    found.longest_ms.forEach((ms, i) => {
      if (!ms) return;
      const x = this.x(i * found.step_pts);
      const width = Math.max(1, this.x((i + 1) * found.step_pts) - x);
      const isLong = ms > found.usual_ms * 1.5;
      pen.fillStyle = this.colour(isLong ? "loss" : "interval");
      pen.fillRect(x, y(ms), width + 0.3, top + height - y(ms));
    });
    pen.strokeStyle = this.colour("quiet");
    pen.setLineDash([3, 4]);
    pen.beginPath();
    pen.moveTo(LABELS_PX, usual);
    pen.lineTo(LABELS_PX + this.width(), usual);
    pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = this.colour("text");
    pen.textAlign = "right";
    pen.fillText(`${found.usual_ms} ms`, LABELS_PX + this.width() - 4, Math.max(top + 7, usual - 8));
  }

  drawPosition(pen, height) {
    const x = this.x(this.position);
    if (x < LABELS_PX - 1) return;
    pen.fillStyle = this.colour("position");
    pen.fillRect(x - 1, AXIS_PX - 6, 2, height);
    pen.beginPath();
    pen.moveTo(x - 6, AXIS_PX - 8);
    pen.lineTo(x + 6, AXIS_PX - 8);
    pen.lineTo(x, AXIS_PX);
    pen.fill();
  }
}
