// The button for light and dark; without it the page is as the system is.
import { byId, icon } from "./dom.js";

export function addThemeButton() {
  const button = byId("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () =>
    (document.documentElement.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) ===
    "dark";
  const show = () => button.replaceChildren(icon(isDark() ? "sun" : "moon"));
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("voxcpm2-theme", theme);
    show();
  });
  prefersDark.addEventListener("change", show);
  show();
}
