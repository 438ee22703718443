// A button that opens a field for a voice's name.
import { make } from "./dom.js";

// save: called with the name; what it throws is shown at the field.
export function nameForm(label, name, save) {
  const input = make("input", {
    type: "text",
    "aria-label": "Name of the voice",
    placeholder: "Name of the voice",
    autocomplete: "off",
    maxlength: 50,
  });
  const error = make("p", { class: "error", hidden: true, role: "alert" });
  const submit = make("button", { type: "button", class: "small primary" }, "Save");
  const cancel = make("button", { type: "button", class: "small" }, "Cancel");
  const row = make("div", { class: "row", hidden: true }, input, submit, cancel);
  const open = make("button", { type: "button", class: "small", "aria-expanded": "false" }, label);
  const show = (is) => {
    row.hidden = !is;
    open.hidden = is;
    error.hidden = true;
    open.setAttribute("aria-expanded", String(is));
  };
  const finish = async () => {
    submit.disabled = true;
    submit.textContent = "Saving …";
    error.hidden = true;
    try {
      await save(input.value);
      show(false);
      input.value = name;
    } catch (problem) {
      error.textContent = problem.message;
      error.hidden = false;
      input.focus();
    }
    submit.disabled = false;
    submit.textContent = "Save";
  };
  input.value = name;
  open.addEventListener("click", () => {
    show(true);
    input.focus();
    input.select();
  });
  cancel.addEventListener("click", () => {
    show(false);
    open.focus();
  });
  submit.addEventListener("click", finish);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      event.stopPropagation();
      finish();
    }
    if (event.key === "Escape") cancel.click();
  });
  return make("div", { class: "naming" }, open, row, error);
}
