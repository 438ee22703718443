// Dialogues: a script, the speakers that the server finds in it, and a voice for each.
import { send } from "./api.js";
import { ClipField } from "./clip.js";
import { byId, clearError, make } from "./dom.js";

const PAUSE = 300; // milliseconds without a key after which the script is read

export class DialogueForm {
  // voices: list of the saved ones. changed: called after each change.
  constructor(about, voices, changed) {
    Object.assign(this, { about, voices, changed, rows: new Map(), choices: {} });
    this.timer = 0;
    this.asked = 0;
    byId("script").addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.read(), PAUSE);
    });
    voices.place.addEventListener("loaded", () => {
      for (const row of this.rows.values()) row.showVoices();
    });
    for (const radio of document.querySelectorAll("[name=mode]"))
      radio.addEventListener("change", () => this.showMode());
  }

  get isChosen() {
    return document.querySelector("[name=mode]:checked").value === "dialogue";
  }

  choose(isDialogue) {
    const mode = isDialogue ? "dialogue" : "voice";
    document.querySelector(`[name=mode][value=${mode}]`).checked = true;
    this.showMode();
  }

  showMode() {
    for (const part of document.querySelectorAll("[data-mode]"))
      part.hidden = (part.dataset.mode === "dialogue") !== this.isChosen;
  }

  // Voices of speakers who are not in the script now are remembered, too.
  value() {
    for (const [name, row] of this.rows) this.choices[name] = row.value();
    return { script: byId("script").value, voices: this.choices };
  }

  async set({ script, voices }) {
    byId("script").value = script ?? "";
    this.choices = { ...voices };
    this.rows.clear();
    await this.read();
  }

  // Ask the server who speaks. An answer that is late is dropped.
  async read() {
    const asked = ++this.asked;
    let found;
    try {
      found = await send("POST", "page/script", { script: byId("script").value });
    } catch (error) {
      found = { speakers: null, left_out: [], error: error.message };
    }
    if (asked === this.asked) this.show(found);
  }

  show({ speakers, left_out, error }) {
    const count = left_out.length;
    const lines = left_out.slice(0, 5).map(([line]) => line);
    const more = count > lines.length ? ", …" : "";
    byId("script-note").textContent =
      error ||
      (count ? `Not spoken: line${count > 1 ? "s" : ""} ${lines.join(", ")}${more}.` : "");
    if (speakers === null) return; // of the last script that could be read
    byId("no-speakers").hidden = speakers.length > 0;
    byId("speakers").replaceChildren(...speakers.map((speaker) => this.row(speaker).element));
    this.changed();
  }

  row(speaker) {
    const { name } = speaker;
    if (!this.rows.has(name)) {
      const row = new SpeakerRow(name, this.about, this.voices, () => this.changed());
      row.set(this.choices[name] ?? {});
      this.rows.set(name, row);
    }
    this.rows.get(name).tell(speaker);
    return this.rows.get(name);
  }
}

// One speaker's name and the choice of a voice.
class SpeakerRow {
  // about: what the server tells.
  constructor(name, { clip_bytes, has_own_voice }, voices, changed) {
    Object.assign(this, { name, voices, changed, voice: "" });
    this.anyVoice = has_own_voice ? "The model’s own" : "Made up by the model";
    this.about = make("span", { class: "hint" });
    this.kind = make("select", {
      "aria-label": `Voice of ${name}`,
      onchange: () => this.choose(),
    });
    this.description = make("input", {
      type: "text",
      autocomplete: "off",
      "aria-label": `Description for ${name}`,
      placeholder: "An old man, slow and hoarse …",
    });
    this.clipPlace = make("div", { "data-field": `clip of ${name}` });
    this.clip = new ClipField(this.clipPlace, `A recording for ${name}`, clip_bytes, changed);
    this.element = make(
      "div",
      { class: "speaker", "data-field": `speaker ${name}` },
      make("p", {}, make("b", {}, name), " ", this.about),
      this.kind,
      this.description,
      this.clipPlace,
      make("p", { class: "error", hidden: true }),
    );
    this.showVoices();
  }

  tell({ line, turns }) {
    this.about.textContent = turns === 1 ? `line ${line}` : `${turns} turns, from line ${line}`;
  }

  // Fill the choice; a saved voice that is not there any more stays, so that it is noticed.
  showVoices() {
    const chosen = this.kind.value || "any";
    const names = this.voices.voices.filter((each) => !each.error).map((each) => each.name);
    if (this.voice && !names.includes(this.voice)) names.push(this.voice);
    const option = (value, label) => make("option", { value }, label);
    const saved = make("optgroup", { label: "Saved" });
    saved.append(...names.map((name) => option(`saved ${name}`, name)));
    this.kind.replaceChildren(
      option("any", this.anyVoice),
      option("described", "Described"),
      option("clip", "From a clip"),
      ...(names.length ? [saved] : []),
    );
    this.kind.value = chosen;
    this.update();
  }

  choose() {
    const { value } = this.kind;
    this.voice = value.startsWith("saved ") ? value.slice("saved ".length) : "";
    clearError(this.element);
    this.update();
    this.changed();
  }

  update() {
    this.description.hidden = this.kind.value !== "described";
    this.clipPlace.hidden = this.kind.value !== "clip";
  }

  value() {
    return {
      kind: this.voice ? "saved" : this.kind.value,
      description: this.description.value,
      clip: this.clip.id,
      voice: this.voice,
    };
  }

  set({ kind, description, clip, voice }) {
    this.voice = kind === "saved" ? (voice ?? "") : "";
    this.description.value = description ?? "";
    this.showVoices();
    this.kind.value = this.voice ? `saved ${this.voice}` : (kind ?? "any");
    this.clip.id = clip ?? "";
    this.clip.restore(clip).then(() => this.changed());
    this.update();
  }
}
