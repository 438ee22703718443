// Settings as the server describes them.
import { byId, make } from "./dom.js";

export class Settings {
  // described: name, label, info, group, kind, default and limits of each.
  constructor(described, groups, changed) {
    Object.assign(this, { described, changed, controls: {} });
    for (const group of groups) {
      const own = described.filter((setting) => setting.group === group);
      if (!own.length) continue;
      byId("widgets").append(
        make(
          "fieldset",
          {},
          make("legend", {}, group),
          ...own.map((setting) => this.field(setting)),
        ),
      );
    }
    byId("reset").addEventListener("click", () => this.set({}));
  }

  field(setting) {
    const id = `setting-${setting.name}`;
    const control = this.control(setting, id);
    this.controls[setting.name] = control;
    const error = make("p", { class: "error", hidden: true });
    const info = setting.info ? [make("span", { class: "hint" }, setting.info)] : [];
    if (setting.kind === "switch")
      return make(
        "div",
        { "data-field": setting.name },
        make("label", { class: "check" }, control, make("span", {}, setting.label, " ", ...info)),
        error,
      );
    const label = make("label", { for: id }, setting.label, " ", ...info);
    const parts = [label, control];
    if (setting.kind === "slider") parts.push(this.number(setting, control));
    return make("div", { "data-field": setting.name, class: setting.kind }, ...parts, error);
  }

  control(setting, id) {
    const listen = { oninput: () => this.update(), id };
    if (setting.kind === "choice") {
      const options = setting.choices.map(([value, label]) =>
        make("option", { value: JSON.stringify(value) }, label),
      );
      return make("select", { ...listen, disabled: setting.disabled }, ...options);
    }
    if (setting.kind === "switch") return make("input", { ...listen, type: "checkbox" });
    if (setting.kind === "slider")
      return make("input", {
        ...listen,
        type: "range",
        min: setting.low,
        max: setting.high,
        step: setting.step,
      });
    const numeric = setting.kind === "number" ? { inputmode: "numeric" } : {};
    return make("input", { ...listen, type: "text", autocomplete: "off", ...numeric });
  }

  // A field beside a slider, for exact values and those beyond its ends.
  number(setting, slider) {
    const input = make("input", {
      type: "text",
      inputmode: "decimal",
      "aria-label": `${setting.label}, exactly`,
    });
    const show = () => (input.value = slider.value);
    input.addEventListener("change", () => {
      slider.value = input.value;
      this.update();
    });
    slider.addEventListener("input", show);
    slider.addEventListener("shown", show);
    return input;
  }

  read(setting) {
    const control = this.controls[setting.name];
    if (setting.kind === "switch") return control.checked;
    if (setting.kind === "choice") return JSON.parse(control.value);
    if (setting.kind === "slider") return Number(control.value);
    return control.value.trim();
  }

  usual(setting) {
    return ["number", "text"].includes(setting.kind)
      ? String(setting.default ?? "")
      : setting.default;
  }

  // A value, or the usual one where it is not among the choices, or the first of these. A value,
  // even the usual one, may need an extra that was installed when it was set, and now is not.
  offered(setting, value) {
    if (setting.kind !== "choice") return value;
    const choices = setting.choices.map(([choice]) => choice);
    return [value, this.usual(setting), ...choices].find((each) => choices.includes(each));
  }

  // Values that are not the usual ones, by name.
  value() {
    const changed = this.described.filter((setting) => this.read(setting) !== this.usual(setting));
    return Object.fromEntries(changed.map((setting) => [setting.name, this.read(setting)]));
  }

  set(values) {
    for (const setting of this.described) {
      const control = this.controls[setting.name];
      const value = this.offered(setting, values[setting.name] ?? this.usual(setting));
      if (setting.kind === "switch") control.checked = value;
      else control.value = setting.kind === "choice" ? JSON.stringify(value) : value;
      control.dispatchEvent(new Event("shown"));
    }
    this.update();
  }

  update() {
    const count = Object.keys(this.value()).length;
    byId("changed").textContent = count ? `${count} changed` : "";
    byId("reset").hidden = count === 0;
    this.changed();
  }
}
