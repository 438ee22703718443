// The page: its form, what happens when it is sent, and what is remembered.
import { get, lines, send } from "./api.js";
import { DialogueForm } from "./dialogue.js";
import {
  byId,
  clearError,
  clearErrors,
  clock,
  icon,
  iconButton,
  showError,
  toast,
} from "./dom.js";
import { LivePlayer, play, silence } from "./player.js";
import { Settings } from "./settings.js";
import { remembered, remember } from "./store.js";
import { Takes } from "./takes.js";
import { addThemeButton } from "./theme_button.js";
import { chips, VoiceForm } from "./voice.js";

const NOTHING_SPOKEN = "Stopped before there was any speech.";

class Page {
  constructor(about) {
    this.about = about;
    this.sending = null; // aborts a request that has no job yet
    this.job = null; // id of the speech under way
    this.isBusy = false;
    this.player = null;
    this.showAbout();
    this.settings = new Settings(about.settings, about.groups, () => this.save());
    this.voice = new VoiceForm(about, () => this.save());
    this.dialogue = new DialogueForm(about, this.voice.voices, () => this.save());
    this.takes = new Takes({
      again: (take) => this.speak(requestOf(take)),
      restore: (take) => this.restore(take),
      kept: (name) => this.voice.select(name),
    });
    this.addChips();
    this.listen();
  }

  async start() {
    const saved = remembered();
    await this.voice.voices.load();
    byId("text").value = saved.text ?? "";
    byId("stream").checked = saved.stream ?? true;
    this.settings.set(saved.settings ?? {});
    await this.voice.set(saved.voice ?? {});
    this.dialogue.choose(saved.mode === "dialogue");
    await this.dialogue.set(saved);
    this.showLength();
    await this.takes.load();
  }

  showAbout() {
    const { model, device, precision, adapter } = this.about;
    byId("facts").textContent = [model, device, precision, adapter && "with an adapter"]
      .filter(Boolean)
      .join(" · ");
    document.title = `VoxCPM2: ${model}`;
  }

  addChips() {
    const write = (id) => (text) => {
      const field = byId(id);
      field.value = text;
      clearError(field.closest("[data-field]"));
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.focus();
    };
    const same = (texts) => texts.map((text) => [text, text]);
    chips(byId("examples"), this.about.examples, write("text"));
    chips(byId("scripts"), this.about.scripts, write("script"));
    chips(byId("descriptions"), same(this.about.descriptions), write("description"));
    chips(byId("styles"), same(this.about.styles), write("style"));
  }

  listen() {
    const form = byId("composer");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.speak(requestOf(this.form()));
    });
    form.addEventListener("input", (event) => {
      const place = event.target.closest("[data-field]");
      if (place) clearError(place);
      this.save();
    });
    byId("text").addEventListener("input", () => this.showLength());
    byId("stop").addEventListener("click", () => this.stop());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.speak(requestOf(this.form()));
      }
    });
    const keys = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘ Enter" : "Ctrl + Enter";
    byId("speak").title = keys;
    if (matchMedia("(hover: hover)").matches) this.say(`${keys} speaks, too.`);
  }

  form() {
    return {
      mode: this.dialogue.isChosen ? "dialogue" : "voice",
      text: byId("text").value,
      voice: this.voice.value(),
      ...this.dialogue.value(),
      settings: this.settings.value(),
      stream: byId("stream").checked,
    };
  }

  save() {
    if (!this.takes) return; // it is being made
    remember(this.form());
    if (byId("line").classList.contains("wrong") && !document.querySelector(".wrong[data-field]"))
      this.say("");
  }

  showLength() {
    const { length } = byId("text").value.trim();
    byId("length").textContent = length
      ? `${length} ${length === 1 ? "character" : "characters"}`
      : "";
  }

  async restore(take) {
    byId("stream").checked = take.stream;
    this.settings.set(take.settings);
    const isDialogue = take.mode === "dialogue";
    this.dialogue.choose(isDialogue);
    if (isDialogue) await this.dialogue.set({ script: take.text, voices: take.voices });
    else {
      byId("text").value = take.text;
      await this.voice.set(take.voice);
    }
    this.showLength();
    byId(isDialogue ? "script" : "text").focus();
    toast("The take’s text, voice and settings are in the form.");
  }

  say(words, isError = false) {
    byId("line").textContent = words;
    byId("line").classList.toggle("wrong", isError);
  }

  setBusy(is) {
    this.isBusy = is;
    byId("speak").hidden = is;
    byId("stop").hidden = !is;
    byId("progress").hidden = !is;
    byId("progress").removeAttribute("value");
    document.body.classList.toggle("busy", is);
  }

  async speak(request) {
    if (this.isBusy) return;
    clearErrors();
    silence();
    this.player?.stop();
    this.player = request.stream ? new LivePlayer(this.about.sample_rate) : null;
    const hadFocus = document.activeElement === byId("speak");
    byId("newest").hidden = true;
    this.setBusy(true);
    if (hadFocus) byId("stop").focus();
    this.say("Sending …");
    const { signal } = (this.sending = new AbortController());
    try {
      for await (const line of lines("page/speech", request, signal)) this.receive(line);
      if (this.job !== null) throw new Error("The connection was cut; try again.");
    } catch (error) {
      if (signal.aborted) this.say(NOTHING_SPOKEN);
      else this.fail(error.message, error.field);
    }
    const keepsFocus = document.activeElement === byId("stop");
    this.sending = this.job = null;
    this.setBusy(false);
    if (keepsFocus) byId("speak").focus();
  }

  receive(line) {
    if (line.type === "job") {
      this.job = line.id;
      this.sending = null;
    } else if (line.type === "audio") this.player?.push(line.pcm);
    else if (line.type === "progress") this.showProgress(line);
    else {
      this.job = null;
      this.finish(line);
    }
  }

  showProgress({ state, elapsed, remaining, done }) {
    if (state === "waiting") return this.say("Waiting for speech that was asked for earlier …");
    if (done) byId("progress").value = done;
    const left = remaining === null ? "" : `, about ${clock(Math.ceil(remaining))} left`;
    this.say(`Speaking: ${clock(elapsed)} elapsed${left}`);
  }

  finish(line) {
    if (line.type === "error") return this.fail(line.message, line.field);
    if (line.type === "stopped") return this.say(NOTHING_SPOKEN);
    this.player?.end();
    const { take } = line;
    const card = this.takes.add(take);
    const isStopped = take.finish_reason === "stopped";
    this.say(
      `${isStopped ? "Stopped" : "Done"}: ${take.duration.toFixed(1)} s of speech ` +
        `in ${take.processing_seconds.toFixed(1)} s.`,
    );
    if (!take.stream && !isStopped) play(card.audio);
    this.showNewest(card);
  }

  // What a phone shows beside the button, as its takes are further down.
  showNewest(card) {
    const show = () => {
      card.element.scrollIntoView({ block: "center", behavior: "smooth" });
      card.element.querySelector("button").focus({ preventScroll: true });
    };
    const hear = iconButton("play", "Play the newest take", () => card.toggle());
    const setIcon = () => hear.replaceChildren(icon(card.audio.paused ? "play" : "pause"));
    for (const event of ["play", "pause", "ended"]) card.audio.addEventListener(event, setIcon);
    setIcon();
    byId("newest").replaceChildren(hear, iconButton("down", "Show the newest take", show));
    byId("newest").hidden = false;
  }

  fail(message, field) {
    this.job = null;
    this.player?.stop();
    if (showError(field, message)) this.say("See the field marked in red.", true);
    else this.say(message, true);
  }

  async stop() {
    this.player?.stop();
    this.say("Stopping …");
    this.sending?.abort(); // the server ends work whose request is gone
    if (this.job !== null) await send("POST", `page/speech/${this.job}/stop`).catch(() => {});
  }
}

// What the server is sent of the form, or of a take to be made again: with the seed only if one
// was set.
function requestOf({ mode, text, voice, script = text, voices, settings, stream }) {
  const shared = { settings, stream };
  return mode === "dialogue" ? { script, voices, ...shared } : { text, voice, ...shared };
}

addThemeButton();
try {
  await new Page(await get("page/about")).start();
  document.body.dataset.ready = "";
} catch (error) {
  byId("line").textContent = error.message;
  byId("line").classList.add("wrong");
}
