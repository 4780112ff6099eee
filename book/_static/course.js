// What the pages need beside the theme. Without JavaScript they show all they have.

// The theme takes the focus from its switch; who came by keyboard would lose the place.
document.addEventListener(
  "click",
  (event) => {
    const button = event.target.closest(".theme-switch-button");
    if (button) setTimeout(() => button.focus({ preventScroll: true }));
  },
  true,
);

// A formula that is wider than its place can be scrolled, so it has to take the focus.
// One that fits is no stop for the Tab key.
function markScrollers() {
  for (const part of document.querySelectorAll("div.math, span.math.long")) {
    if (part.scrollWidth > part.clientWidth + 1) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  }
}
addEventListener("load", markScrollers);
addEventListener("resize", markScrollers);

// Paper has nothing to click: what is folded is printed open, and then shut again.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    part.open = true;
    part.dataset.shut = "";
  }
});
addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("details[data-shut]")) {
    part.open = false;
    delete part.dataset.shut;
  }
});
