// Small helpers for making and finding elements.
export const byId = (id) => document.getElementById(id);

// make("button", { class: "small", onclick: f }, "Text", otherElement)
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null)
      element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function makeSvg(tag, attributes = {}) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function icon(name) {
  const svg = makeSvg("svg", { "aria-hidden": "true" });
  svg.append(makeSvg("use", { href: `static/icons.svg#${name}` }));
  return svg;
}

export function iconButton(name, label, onclick, attributes = {}) {
  return make(
    "button",
    { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...attributes },
    icon(name),
  );
}

export const clock = (seconds) => {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

// An error at the field that it is about; returns false if no such field is shown.
export function showError(field, message) {
  const place = field && document.querySelector(`[data-field="${CSS.escape(field)}"]`);
  if (!place) return false;
  for (let outer = place; outer; outer = outer.parentElement)
    if (outer.tagName === "DETAILS") outer.open = true;
  if (place.offsetParent === null) return false; // of a take that is made again, not of the form
  const line = place.querySelector(":scope > .error");
  const control = place.querySelector("textarea, input, select, button");
  line.textContent = message;
  line.hidden = false;
  line.id ||= `error-${field}`;
  place.classList.add("wrong");
  control?.setAttribute("aria-invalid", "true");
  control?.setAttribute("aria-describedby", line.id);
  control?.focus({ preventScroll: true });
  place.scrollIntoView({ block: "center", behavior: "smooth" });
  return true;
}

export function clearError(place) {
  place.classList.remove("wrong");
  const line = place.querySelector(":scope > .error");
  if (line) line.hidden = true;
  for (const control of place.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-describedby");
  }
}

export function clearErrors() {
  for (const place of document.querySelectorAll(".wrong")) clearError(place);
}

let hiding = 0;

// A line at the edge of the page. undo: called by its button, unless it is gone by then.
export function toast(message, undo) {
  const place = byId("toast");
  clearTimeout(hiding);
  place.replaceChildren(message);
  const hide = () => (place.hidden = true);
  if (undo)
    place.append(
      make(
        "button",
        {
          type: "button",
          class: "small",
          onclick: () => {
            hide();
            undo();
          },
        },
        "Undo",
      ),
    );
  place.hidden = false;
  hiding = setTimeout(hide, 6000);
}
