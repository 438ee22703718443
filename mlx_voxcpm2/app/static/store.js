// What the browser remembers of the form.
const KEY = "voxcpm2-form";

export function remember(form) {
  try {
    localStorage.setItem(KEY, JSON.stringify(form));
  } catch {
    // Full, or forbidden: the form is then as new after a reload.
  }
}

export function remembered() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}
