// Numbers and times as a person reads them.

export const TICKS_PER_S = 90000;

const LOSS_WORDS = {
  camera_gap: "camera gap",
  incomplete: "damaged frame",
  ring_full: "ring full",
  encoder_lost: "encoder lost",
  encode_error: "encode error",
  write_error: "write error",
  paused: "paused",
};

export const STATE_WORDS = {
  sealed: "Sealed",
  recovered: "Recovered",
  incomplete: "Not closed",
  corrupt: "Damaged",
};

/** "1:02:03.4" of a time in 90 kHz. */
export function duration(pts, digits = 1) {
  const scale = 10 ** digits;
  const units = Math.max(0, Math.floor((pts / TICKS_PER_S) * scale + 1e-6));
  const seconds = Math.floor(units / scale);
  const two = (n) => String(n).padStart(2, "0");
  const rest = digits ? "." + String(units % scale).padStart(digits, "0") : "";
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}${rest}`;
}

/** 90 kHz of "1:02:03.4", "2:03" or "3.4"; NaN for anything else. */
export function parseDuration(text) {
  if (!/^\s*(\d+:){0,2}\d+([.,]\d+)?\s*$/.test(text)) return NaN;
  const seconds = text.replace(",", ".").split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  return Math.round(seconds * TICKS_PER_S);
}

/** "14:32:07.123", local time. */
export function timeOfDay(utcMs, digits = 3) {
  const at = new Date(Math.floor(utcMs));
  const two = (n) => String(n).padStart(2, "0");
  const rest = digits ? "." + String(at.getMilliseconds()).padStart(3, "0").slice(0, digits) : "";
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${rest}`;
}

/** "26 Nov 2026", local. */
export function day(utcMs) {
  return new Date(utcMs).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

export function bytes(size) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000) return `${size < 10 && unit !== "B" ? size.toFixed(1) : Math.round(size)} ${unit}`;
    size /= 1000;
  }
  return `${size.toFixed(1)} TB`;
}

export function count(n) {
  return n.toLocaleString("en-GB");
}

/** A class, mark or event kind in words. */
export function kindWords(kind) {
  return LOSS_WORDS[kind] ?? kind.replaceAll("_", " ");
}

/** Nanoseconds, as text, in seconds with all their digits. */
export function cameraTime(ns) {
  const digits = ns.replace("-", "").padStart(10, "0");
  const sign = ns.startsWith("-") ? "−" : "";
  return `${sign}${digits.slice(0, -9)}.${digits.slice(-9, -3)} s`;
}
