// The list of recordings.

import { STATE_WORDS, bytes, count, day, duration, timeOfDay } from "./words.js";

/** Fill the table; `choose` gets the row that is clicked. */
export function showList(body, note, list, choose) {
  note.textContent = list.recordings.length ? "" : "No sealed recording is here.";
  body.replaceChildren(...list.recordings.map((row) => line(row, list.open.includes(row.id), choose)));
}

function line(row, isOpen, choose) {
  const tr = document.createElement("tr");
  tr.append(
    cell(row.created_ms === null ? "–" : `${day(row.created_ms)}, ${timeOfDay(row.created_ms, 0)}`),
    nameCell(row, isOpen, choose),
    cell(row.facts?.duration_s == null ? "–" : duration(row.facts.duration_s * 90000, 0)),
    stateCell(row),
    cell(row.facts?.lost == null ? "–" : count(row.facts.lost)),
    cell(bytes(row.size_bytes), "number"),
  );
  tr.addEventListener("click", (event) => {
    if (event.target.tagName !== "BUTTON") choose(row);
  });
  return tr;
}

function cell(text, kind = "") {
  const td = document.createElement("td");
  td.textContent = text;
  td.className = kind;
  return td;
}

function nameCell(row, isOpen, choose) {
  const td = cell("");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "open";
  button.textContent = row.name;
  button.addEventListener("click", () => choose(row));
  td.append(button);
  const about = [row.facts?.subject, row.facts?.operator].filter(Boolean);
  if (row.parts > 1) about.push(`${row.parts} parts`);
  if (isOpen) about.push("open");
  if (about.length) {
    const small = document.createElement("small");
    small.textContent = about.join(" · ");
    td.append(small);
  }
  return td;
}

function stateCell(row) {
  const td = cell("");
  const state = document.createElement("span");
  state.className = `state ${row.state}`;
  state.textContent = STATE_WORDS[row.state] ?? row.state;
  td.append(state);
  if (row.problem) {
    const small = document.createElement("small");
    small.textContent = row.problem;
    td.append(small);
  }
  return td;
}
