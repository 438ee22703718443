// A place for one clip: drop a file, choose one, or record. Holds the id that the server gave it.
import { get, PageError, upload } from "./api.js";
import { clearError, clock, icon, iconButton, make, showError } from "./dom.js";
import { soundButton } from "./player.js";
import { Recorder } from "./recorder.js";

export class ClipField {
  // place: element with data-field. changed: called with the clip's id, or "".
  constructor(place, label, bytes, changed) {
    Object.assign(this, { place, label, bytes, changed, id: "", recorder: null });
    this.file = make("input", {
      type: "file",
      accept: "audio/*,video/*",
      class: "hidden",
      tabindex: "-1",
      "aria-hidden": "true",
      onchange: () => this.take(this.file.files[0]),
    });
    this.body = make("div", { class: "drop" });
    this.error = make("p", { class: "error", hidden: true });
    place.append(make("span", { class: "label" }, label), this.body, this.error, this.file);
    this.listenForDrops();
    this.showEmpty();
  }

  listenForDrops() {
    const over = (is) => (event) => {
      event.preventDefault();
      this.body.classList.toggle("over", is);
    };
    this.place.addEventListener("dragover", over(true));
    this.place.addEventListener("dragleave", over(false));
    this.place.addEventListener("drop", (event) => {
      over(false)(event);
      this.take(event.dataTransfer.files[0]);
    });
  }

  showEmpty() {
    const choose = make(
      "button",
      { type: "button", class: "small", onclick: () => this.file.click() },
      icon("file"),
      "Choose a file",
    );
    const record = make(
      "button",
      { type: "button", class: "small", onclick: () => this.record() },
      icon("mic"),
      "Record",
    );
    if (!Recorder.isPossible()) {
      record.disabled = true;
      record.title = "Browsers allow the microphone on localhost and https only.";
    }
    this.body.className = "drop";
    this.body.replaceChildren(
      choose,
      record,
      make("span", { class: "hint" }, "or drop one here: 5 to 30 s of clear speech"),
    );
  }

  showBusy(words) {
    this.body.replaceChildren(make("span", { class: "hint", role: "status" }, words));
  }

  showClip(clip) {
    const hear = iconButton("play", `Hear ${clip.name}`, () => {});
    soundButton(
      hear,
      () => `page/clips/${clip.id}/sound`,
      (name) => hear.replaceChildren(icon(name)),
    );
    const name = make("span", { class: "name" }, clip.name);
    const remove = iconButton("delete", `Remove ${clip.name}`, () => this.clear());
    this.body.className = "drop full";
    this.body.replaceChildren(
      hear,
      name,
      make("span", { class: "hint" }, `${clip.seconds.toFixed(1)} s`),
      remove,
    );
    for (const problem of clip.problems)
      this.body.append(make("p", { class: "warning" }, problem));
  }

  clear() {
    this.set("");
    this.showEmpty();
  }

  set(id) {
    this.id = id;
    clearError(this.place);
    this.changed(id);
  }

  // Show the clip of an id again, if the server has it still.
  async restore(id) {
    if (!id) return;
    try {
      this.showClip(await get(`page/clips/${id}`));
      this.id = id;
    } catch {
      this.clear();
    }
  }

  async take(file) {
    if (!file) return;
    this.file.value = "";
    try {
      if (file.size > this.bytes)
        throw new PageError(`That is more than ${this.bytes >> 20} MB; give a clip of 5 to 30 s.`);
      this.showBusy("Reading …");
      const clip = await upload(
        `page/clips?name=${encodeURIComponent(file.name ?? "Recording")}`,
        file,
      );
      this.set(clip.id);
      this.showClip(clip);
    } catch (error) {
      this.clear();
      showError(this.place.dataset.field, error.message);
    }
  }

  async record() {
    clearError(this.place);
    const recorder = new Recorder();
    try {
      await recorder.start();
    } catch {
      showError(
        this.place.dataset.field,
        "The microphone can’t be used; allow it in the browser.",
      );
      return;
    }
    const begin = performance.now();
    const time = make("span", { class: "time" }, "0:00");
    const timer = setInterval(
      () => (time.textContent = clock((performance.now() - begin) / 1000)),
      250,
    );
    const stop = make(
      "button",
      { type: "button", class: "small danger" },
      icon("stop"),
      "Stop recording",
    );
    const finish = async () => {
      clearInterval(timer);
      clearTimeout(limit);
      this.showBusy("Reading …");
      const blob = await recorder.stop();
      blob.name = "Recording";
      this.take(blob);
    };
    const limit = setTimeout(finish, 60_000);
    stop.addEventListener("click", finish, { once: true });
    this.body.replaceChildren(make("span", { class: "dot", "aria-hidden": "true" }), time, stop);
    stop.focus();
  }
}
