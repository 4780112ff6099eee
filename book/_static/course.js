// What the pages need beside the theme. Without JavaScript they show all they have.

// The theme takes the focus from its switch; who came by keyboard would lose the place.
document.addEventListener(
  "click",
  (event) => {
    /** @type {HTMLElement | null} */
    const button = /** @type {Element} */ (event.target).closest(".theme-switch-button");
    if (button) setTimeout(() => button.focus({ preventScroll: true }));
  },
  true,
);

// A formula that is wider than its place can be scrolled, so it has to take the focus.
// One that fits is no stop for the Tab key.
function markScrollers() {
  /** @type {NodeListOf<HTMLElement>} */
  const formulas = document.querySelectorAll("div.math, span.math.long");
  for (const part of formulas) {
    if (part.scrollWidth > part.clientWidth + 1) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  }
}
addEventListener("load", markScrollers);
addEventListener("resize", markScrollers);

// Paper has nothing to click: what is folded is printed open, and then shut again.
/** @param {string} which @returns {NodeListOf<HTMLDetailsElement>} */
const folds = (which) => document.querySelectorAll(`details${which}`);
addEventListener("beforeprint", () => {
  for (const part of folds(":not([open])")) {
    part.open = true;
    part.dataset.shut = "";
  }
});
addEventListener("afterprint", () => {
  for (const part of folds("[data-shut]")) {
    part.open = false;
    delete part.dataset.shut;
  }
});

// The table of decisions (chapter 5): three menus above it, and the rows that fit as cards.
addEventListener("DOMContentLoaded", () => {
  /** @type {HTMLTableElement | null} */
  const table = document.querySelector(".tag_decisions table");
  if (!table?.tHead) return;
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows];
  const said = (row, k) => row.cells[k].textContent.trim();
  for (const row of rows)
    [...row.cells].forEach((cell, k) => (cell.dataset.label = heads[k]));
  const form = document.createElement("form");
  const status = document.createElement("p");
  status.setAttribute("role", "status");
  const menus = heads.slice(0, 3).map((head, k) => {
    const menu = document.createElement("select");
    const values = new Set(rows.map((row) => said(row, k)));
    values.delete("any");
    menu.append(new Option("any", ""), ...[...values].map((v) => new Option(v, v)));
    menu.addEventListener("change", show);
    const label = document.createElement("label");
    label.append(head, menu);
    form.append(label);
    return menu;
  });
  function show() {
    const fits = (row) =>
      menus.every((menu, k) => !menu.value || ["any", menu.value].includes(said(row, k)));
    for (const row of rows) row.hidden = !fits(row);
    const count = rows.filter((row) => !row.hidden).length;
    status.textContent = count
      ? `${count} of ${rows.length} rows fit.`
      : "No row fits: nothing is known that we could find. Ask for less, and run a control.";
  }
  form.className = "chooser";
  form.append(status);
  table.classList.add("chosen");
  table.closest(".cell_output, .output")?.prepend(form);
  show();
});
