// The form that opens a recording. What is typed or chosen goes to the server and is kept nowhere.

import { bytes } from "./words.js";

const LARGEST_KEY = 20000;
const $ = (id) => document.getElementById(id);
const LABELS = { key_file: "Key file", private_key: "Private key (PEM)" };
const KIND_OF_SLOT = { password: "password", key_file: "key_file", public_key: "private_key" };

/** Asks for a key until the recording is open; `opened` gets its manifest. */
export class UnlockForm {
  constructor(opened, back) {
    this.opened = opened;
    this.form = $("unlock-form");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.form.addEventListener("change", () => this.layout());
    $("unlock-back").addEventListener("click", back);
  }

  /** Ask for the key of a listed recording. */
  show(recording, row, why = "") {
    this.recording = recording;
    $("unlock-name").textContent = row.name;
    this.clear();
    const kinds = row.keys.map((slot) => KIND_OF_SLOT[slot]);
    for (const radio of this.form.elements.kind) {
      radio.checked = radio.value === (kinds.includes("password") ? "password" : kinds[0] ?? "password");
      radio.parentElement.hidden = kinds.length > 0 && !kinds.includes(radio.value);
    }
    this.form.querySelector("fieldset").hidden = new Set(kinds).size === 1;
    this.layout();
    this.say(why);
    (this.kind === "password" ? $("password") : $("key-file")).focus();
  }

  get kind() {
    return this.form.elements.kind.value;
  }

  layout() {
    const isPassword = this.kind === "password";
    $("password-field").hidden = !isPassword;
    $("file-field").hidden = isPassword;
    $("file-label").textContent = LABELS[this.kind] ?? "";
  }

  clear() {
    $("password").value = "";
    $("key-file").value = "";
  }

  say(text) {
    $("unlock-error").hidden = !text;
    $("unlock-error").textContent = text;
  }

  async submit() {
    const button = $("unlock-button");
    const { recording } = this;
    button.disabled = true;
    button.textContent = "Opening…";
    this.say("");
    try {
      const value = await this.value();
      const manifest = await recording.unlock(this.kind, value);
      this.clear();
      this.opened(recording, manifest);
    } catch (error) {
      this.say(error.message);
      if (this.kind === "password") $("password").select();
    } finally {
      button.disabled = false;
      button.textContent = "Open";
    }
  }

  async value() {
    if (this.kind === "password") {
      if (!$("password").value) throw new Error("Type the password.");
      return $("password").value;
    }
    const [file] = $("key-file").files;
    if (!file) throw new Error("Choose the file.");
    if (file.size > LARGEST_KEY) throw new Error(`A key file is small; this one has ${bytes(file.size)}.`);
    return file.text();
  }
}
