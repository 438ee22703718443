// Takes as cards: play, save, copy the seed, make again, keep the voice, delete.
import { get, send } from "./api.js";
import { byId, clock, icon, iconButton, make, makeSvg, toast } from "./dom.js";
import { nameForm } from "./names.js";
import { play } from "./player.js";

const DELETED_AFTER = 6000; // milliseconds, in which it can be undone

export class Takes {
  // again: speaks a take's request once more. restore: puts it into the form. kept: called with
  // the name of a voice.
  constructor({ again, restore, kept }) {
    Object.assign(this, { again, restore, kept, cards: new Map() });
    document.addEventListener("click", (event) => this.closeMenus(event.target.closest(".menu")));
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.closeMenus());
  }

  // A menu is closed by a click beside it, or by Escape.
  closeMenus(except) {
    for (const menu of byId("takes").querySelectorAll(".menu[open]"))
      if (menu !== except) menu.open = false;
  }

  async load() {
    for (const take of (await get("page/takes")).reverse()) this.add(take);
  }

  add(take) {
    const card = new Card(take, this);
    this.cards.set(take.id, card);
    byId("takes").prepend(card.element);
    this.count();
    return card;
  }

  count() {
    byId("none").hidden = this.cards.size > 0;
    byId("count").textContent = this.cards.size || "";
  }

  // Hidden at once, deleted when it can't be undone any more.
  remove(card) {
    const { id } = card.take;
    card.audio.pause();
    const next = card.element.nextElementSibling ?? byId("takes-title");
    card.element.hidden = true;
    this.cards.delete(id);
    this.count();
    next.querySelector("button")?.focus();
    const timer = setTimeout(() => {
      card.element.remove();
      send("DELETE", `page/takes/${id}`).catch(() => {});
    }, DELETED_AFTER);
    toast("The take is deleted.", () => {
      clearTimeout(timer);
      card.element.hidden = false;
      this.cards.set(id, card);
      this.count();
    });
  }
}

class Card {
  constructor(take, takes) {
    Object.assign(this, { take, takes });
    this.audio = new Audio();
    this.audio.preload = "none";
    this.audio.src = `page/takes/${take.id}/speech.wav`;
    const remarks = take.remarks.map((remark) => make("p", { class: "warning" }, remark));
    this.element = make(
      "li",
      { class: "take" },
      make("div", { class: "top" }, make("p", { class: "words" }, take.text), this.ends()),
      make(
        "div",
        { class: "about" },
        ...voicesOf(take).map((name) => make("span", { class: "tag" }, name)),
        make("span", {}, `made in ${take.processing_seconds.toFixed(1)} s`),
        this.seed(),
      ),
      this.player(),
      ...remarks,
      this.buttons(),
    );
  }

  player() {
    const button = iconButton("play", "Play", () => this.toggle(), { class: "icon round" });
    const bars = makeSvg("svg", {
      viewBox: `0 0 ${3 * this.take.peaks.length} 40`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.take.peaks.forEach((peak, i) => {
      const height = Math.max(2, 36 * peak);
      bars.append(makeSvg("rect", { x: 3 * i, y: 20 - height / 2, width: 2, height, rx: 1 }));
    });
    const place = make("input", {
      type: "range",
      min: 0,
      max: this.take.duration,
      step: 0.01,
      value: 0,
      "aria-label": "Position in the take",
    });
    const time = make("span", { class: "time" }, length(this.take.duration));
    const show = () => {
      const now = this.audio.currentTime;
      const played = now / this.take.duration;
      place.value = now;
      place.setAttribute(
        "aria-valuetext",
        `${now.toFixed(1)} of ${this.take.duration.toFixed(1)} seconds`,
      );
      time.textContent = length(this.audio.paused && !now ? this.take.duration : now);
      [...bars.children].forEach((bar, i) =>
        bar.classList.toggle("played", i < played * bars.children.length),
      );
    };
    place.addEventListener("input", () => {
      this.audio.currentTime = place.value;
      show();
    });
    const showPlaying = () => {
      const is = !this.audio.paused;
      button.replaceChildren(icon(is ? "pause" : "play"));
      button.setAttribute("aria-label", is ? "Pause" : "Play");
      button.title = is ? "Pause" : "Play";
      const frame = () => {
        show();
        if (!this.audio.paused) requestAnimationFrame(frame);
      };
      frame();
    };
    this.audio.addEventListener("ended", () => (this.audio.currentTime = 0));
    for (const event of ["play", "pause", "ended"])
      this.audio.addEventListener(event, showPlaying);
    return make(
      "div",
      { class: "player" },
      button,
      make("div", { class: "wave" }, bars, place),
      time,
    );
  }

  ends() {
    const { take, takes } = this;
    const restore = iconButton("edit", "Put its text and settings back into the form", () =>
      takes.restore(take),
    );
    return make(
      "span",
      { class: "ends" },
      restore,
      iconButton("delete", "Delete the take", () => takes.remove(this)),
    );
  }

  seed() {
    const { seed } = this.take;
    return make(
      "button",
      { type: "button", class: "inline", title: "Copy the seed", onclick: () => copySeed(seed) },
      `seed ${seed}`,
      icon("copy"),
    );
  }

  toggle() {
    if (this.audio.paused) play(this.audio);
    else this.audio.pause();
  }

  buttons() {
    const { take, takes } = this;
    const link = (file, label) =>
      make("a", { href: `page/takes/${take.id}/${file}`, download: true }, label);
    const files = make(
      "details",
      { class: "menu" },
      make("summary", { "aria-label": "Other files", title: "Other files" }, "…"),
      make(
        "div",
        {},
        link("speech.mp3", "MP3"),
        link("speech.flac", "FLAC"),
        link("subtitles.srt", "Subtitles (SRT)"),
        link("subtitles.vtt", "Subtitles (VTT)"),
      ),
    );
    const save = make(
      "a",
      { class: "button small", href: `page/takes/${take.id}/speech.wav`, download: true },
      icon("save"),
      "Save",
    );
    const again = make(
      "button",
      {
        type: "button",
        class: "small",
        title: "The same once more, with another seed unless one is set",
        onclick: () => takes.again(take),
      },
      icon("again"),
      "Again",
    );
    if (take.voices) return make("div", { class: "actions" }, save, files, again);
    const keep = nameForm("Keep voice", "", async (name) => {
      const voice = await send("POST", "page/voices", { name, take: take.id });
      await takes.kept(voice.name);
      toast(`The voice ${voice.name} is saved, and chosen.`);
    });
    return make("div", { class: "actions" }, save, files, again, keep);
  }
}

// The voice in a word, or the names of a dialogue's speakers.
const voicesOf = (take) => (take.voices ? Object.keys(take.voices) : [take.voice_label]);

const length = (seconds) => (seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds));

async function copySeed(seed) {
  try {
    await navigator.clipboard.writeText(seed);
  } catch {
    // Without https browsers have no clipboard but this one.
    const field = make("textarea", { class: "hidden" });
    field.value = seed;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  toast(`The seed ${seed} is copied; it goes into Settings, Seed.`);
}
