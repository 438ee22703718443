// Runs before the page is drawn, so that it does not flash in the other colours.
const chosenTheme = localStorage.getItem("voxcpm2-theme");
if (chosenTheme) document.documentElement.dataset.theme = chosenTheme;
