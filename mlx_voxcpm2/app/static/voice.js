// The voice: which kind, and its fields. `value()` is what the server is sent.
import { send } from "./api.js";
import { ClipField } from "./clip.js";
import { byId, clearError, make, showError } from "./dom.js";
import { nameForm } from "./names.js";
import { VoiceList } from "./voices.js";

const TEXTS = ["description", "style", "words"];

export class VoiceForm {
  // about: what the server tells. changed: called after each change.
  constructor(about, changed) {
    Object.assign(this, { about, changed });
    const clip = (id, label) =>
      new ClipField(byId(id), label, about.clip_bytes, () => this.update());
    this.clip = clip("clip", "The recording of the voice");
    this.otherClip = clip("other_clip", "Continue another clip than that of the voice");
    this.voices = new VoiceList(byId("voices"), () => {
      clearError(byId("voices").parentElement);
      this.update();
    });
    for (const radio of document.querySelectorAll("[name=kind], [name=use]"))
      radio.addEventListener("change", () => this.update());
    byId("clones").addEventListener("change", () => this.update());
    this.addTranscribing();
    this.addKeeping();
    if (about.has_own_voice) this.nameOwnVoice();
  }

  // A model that was taught few voices makes none up: a text alone has its usual one.
  nameOwnVoice() {
    byId("any-name").textContent = "Its own voice";
    byId("any-source").textContent = "The model’s usual one";
    byId("any-hint").textContent =
      "Every take has the model’s usual voice. A description, a clip or a saved voice gives others.";
  }

  addTranscribing() {
    const button = byId("transcribe");
    button.addEventListener("click", async () => {
      const source = this.otherClip.id && byId("clones").checked ? this.otherClip : this.clip;
      if (!source.id) return showError(source.place.dataset.field, "Give the clip first.");
      button.disabled = true;
      button.textContent = "Listening …";
      try {
        byId("words").value = (await send("POST", `page/clips/${source.id}/words`)).words;
        clearError(byId("words").closest("[data-field]"));
        this.changed();
      } catch (error) {
        showError("words", error.message);
      }
      button.disabled = false;
      button.textContent = "Fill in the words";
    });
    if (this.about.recogniser) {
      button.hidden = false;
      button.title = `By ${this.about.recogniser}, which is downloaded if it is not there yet`;
    }
  }

  addKeeping() {
    const place = byId("keep-clip");
    const save = async (name) => {
      const kept = await send("POST", "page/voices", { name, voice: this.value() });
      await this.select(kept.name);
      return kept;
    };
    place.append(nameForm("Keep this voice", "", save));
  }

  get kind() {
    return document.querySelector("[name=kind]:checked").value;
  }

  get continues() {
    return document.querySelector("[name=use]:checked").value === "continue";
  }

  value() {
    return {
      kind: this.kind,
      ...Object.fromEntries(TEXTS.map((id) => [id, byId(id).value])),
      clip: this.clip.id,
      other_clip: this.otherClip.id,
      continues: this.continues,
      clones: byId("clones").checked,
      voice: this.voices.chosen,
    };
  }

  // Show the fields that the voice uses.
  update() {
    const kind = this.kind;
    for (const panel of document.querySelectorAll("[data-for]"))
      panel.hidden = panel.dataset.for !== kind;
    const continues = kind === "clip" && this.continues;
    byId("continuing").hidden = !continues;
    byId("other_clip").hidden = !byId("clones").checked;
    byId("styling").hidden = !(kind === "saved" || (kind === "clip" && !continues));
    byId("keep-clip").hidden = kind !== "clip" || !this.clip.id;
    for (const place of document.querySelectorAll("[hidden] .wrong, .wrong[hidden]"))
      clearError(place);
    this.changed();
  }

  async set(voice) {
    const choose = (name, value) => {
      const radio = document.querySelector(`[name=${name}][value="${CSS.escape(value)}"]`);
      if (radio) radio.checked = true;
    };
    choose("kind", voice.kind ?? "any");
    choose("use", voice.continues ? "continue" : "copy");
    for (const id of TEXTS) byId(id).value = voice[id] ?? "";
    byId("clones").checked = voice.clones ?? true;
    this.voices.chosen = voice.voice ?? "";
    this.voices.mark();
    await Promise.all([this.clip.restore(voice.clip), this.otherClip.restore(voice.other_clip)]);
    this.update();
  }

  // Speak in a saved voice from now on.
  async select(name) {
    this.voices.chosen = name;
    await this.voices.load();
    document.querySelector("[name=kind][value=saved]").checked = true;
    this.update();
    byId("voices").scrollIntoView({ block: "center", behavior: "smooth" });
  }
}

export function chips(place, texts, choose) {
  for (const [label, text] of texts)
    place.append(
      make(
        "button",
        {
          type: "button",
          class: "chip",
          title: text === label ? null : text,
          onclick: () => choose(text),
        },
        label,
      ),
    );
}
