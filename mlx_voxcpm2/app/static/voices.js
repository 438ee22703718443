// Saved voices: chosen, heard, renamed, deleted.
import { get, send } from "./api.js";
import { icon, iconButton, make, toast } from "./dom.js";
import { soundButton } from "./player.js";

export class VoiceList {
  constructor(place, changed) {
    Object.assign(this, { place, changed, chosen: "", voices: [] });
  }

  async load() {
    this.voices = await get("page/voices");
    if (!this.voices.some((voice) => voice.name === this.chosen)) this.chosen = "";
    this.place.replaceChildren(...this.voices.map((voice) => this.row(voice)));
    if (!this.voices.length)
      this.place.append(
        make(
          "p",
          { class: "empty" },
          "None yet. Keep the voice of a take, or of a clip, and it appears here.",
        ),
      );
    this.place.dispatchEvent(new Event("loaded"));
  }

  mark() {
    for (const radio of this.place.querySelectorAll("[name=voice]"))
      radio.checked = radio.value === this.chosen;
  }

  row(voice) {
    const choose = () => {
      this.chosen = voice.name;
      this.changed();
    };
    const radio = make("input", {
      type: "radio",
      name: "voice",
      value: voice.name,
      onchange: choose,
      disabled: Boolean(voice.error),
    });
    radio.checked = voice.name === this.chosen;
    const about =
      voice.error ??
      [voice.description || voice.words, `${voice.seconds} s`].filter(Boolean).join(" · ");
    const label = make(
      "label",
      {},
      radio,
      make("span", {}, make("b", {}, voice.name), make("span", { class: "hint" }, about)),
    );
    const row = make("div", { class: "voice" }, label);
    if (!voice.error) {
      const hear = iconButton("play", `Hear ${voice.name}`, () => {});
      soundButton(
        hear,
        () => `${address(voice.name)}/sound`,
        (name) => hear.replaceChildren(icon(name)),
      );
      row.append(hear);
    }
    row.append(
      iconButton("edit", `Rename ${voice.name}`, () => this.rename(row, voice.name)),
      iconButton("delete", `Delete ${voice.name}`, () => this.confirm(row, voice.name)),
    );
    return row;
  }

  rename(row, name) {
    const input = make("input", {
      type: "text",
      "aria-label": `New name of ${name}`,
      maxlength: 50,
    });
    input.value = name;
    const error = make("p", { class: "error", role: "alert", hidden: true });
    const save = async () => {
      try {
        const renamed = await send("PATCH", address(name), { name: input.value });
        if (this.chosen === name) this.chosen = renamed.name;
        await this.load();
        this.changed();
      } catch (problem) {
        error.textContent = problem.message;
        error.hidden = false;
      }
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        save();
      }
      if (event.key === "Escape") this.load();
    });
    row.replaceChildren(
      input,
      make("button", { type: "button", class: "small primary", onclick: save }, "Rename"),
      make("button", { type: "button", class: "small", onclick: () => this.load() }, "Cancel"),
      error,
    );
    input.focus();
    input.select();
  }

  confirm(row, name) {
    const remove = async () => {
      try {
        await send("DELETE", address(name));
      } catch (problem) {
        toast(problem.message);
      }
      await this.load();
      this.changed();
    };
    const button = make(
      "button",
      { type: "button", class: "small danger", onclick: remove },
      "Delete for good",
    );
    row.replaceChildren(
      make("span", { class: "question" }, "Delete ", make("b", {}, name), "?"),
      button,
      make("button", { type: "button", class: "small", onclick: () => this.load() }, "Cancel"),
    );
    button.focus();
  }
}

const address = (name) => `page/voices/${encodeURIComponent(name)}`;
