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

// On a phone the menu's entry says which colours are chosen now.
const root = document.documentElement;
const sayColours = () => {
  const entry = document.querySelector(".menu-colours button");
  if (entry) entry.textContent = `Colours: ${root.dataset.mode ?? "auto"}`;
};
new MutationObserver(sayColours).observe(root, { attributeFilter: ["data-mode"] });
sayColours();

// The drawers of a phone: a button shuts them, and so does a link to a place of this page.
// The contents say which section one reads; the theme does so only where they are seen.
/** @param {Element} drawer */
function markSection(drawer) {
  /** @type {NodeListOf<HTMLAnchorElement>} */
  const found = drawer.querySelectorAll('.page-toc a[href^="#"]');
  const links = [...found];
  const begun = links.filter(({ hash }) => {
    const section = document.getElementById(decodeURIComponent(hash.slice(1)));
    return section && section.getBoundingClientRect().top < innerHeight / 3;
  });
  const now = begun[begun.length - 1];
  for (const link of links) {
    link.classList.toggle("active", link === now);
    link.ariaCurrent = link === now ? "true" : null;
  }
  (now ?? drawer.querySelector("a.current[href='#']"))?.scrollIntoView({ block: "nearest" });
}
for (const name of ["primary", "secondary"]) {
  const drawer = document.querySelector(`#pst-${name}-sidebar-modal`);
  if (!(drawer instanceof HTMLDialogElement)) continue;
  const shut = document.createElement("button");
  shut.type = "button";
  shut.className = "drawer-shut";
  shut.ariaLabel = "Close";
  shut.textContent = "\u00d7";
  document.querySelector(`#pst-${name}-sidebar`)?.prepend(shut); // it moves with the rest
  new MutationObserver(() => drawer.open && markSection(drawer)).observe(drawer, { attributeFilter: ["open"] });
  drawer.addEventListener("click", (event) => {
    const pressed = /** @type {Element} */ (event.target);
    if (pressed.closest('.drawer-shut, a[href^="#"]')) drawer.close();
  });
}

// A thumb that scrolls the page over a slider does not move the slider.
/** @type {{field: HTMLInputElement, value: string} | null} */
let held = null;
addEventListener("pointerdown", ({ target }) => {
  const slider = target instanceof HTMLInputElement && target.type === "range";
  held = slider ? { field: target, value: target.value } : null;
}, true);
addEventListener("pointercancel", () => {
  if (held && held.field.value !== held.value) {
    held.field.value = held.value;
    held.field.dispatchEvent(new Event("input", { bubbles: true }));
  }
  held = null;
}, true);

// A formula that is wider than its place can be scrolled, so it has to take the focus.
// One that fits is no stop for the Tab key. Nothing far below is laid out for that.
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const part = /** @type {HTMLElement} */ (target);
    if (part.scrollWidth > part.clientWidth + 1) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  }
});
for (const part of document.querySelectorAll("div.math, span.math.long")) sizes.observe(part);

// Chromium leaves behind a root the room of the widest sign that it might have needed.
const roots = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const root = /** @type {MathMLElement} */ (target);
    const end = (part) => part.getBoundingClientRect().right;
    const gap = root.lastElementChild ? end(root) - end(root.lastElementChild) : 0;
    const size = parseFloat(getComputedStyle(root).fontSize);
    root.style.marginRight = gap > 1 ? `${-gap / size}em` : "";
  }
});
for (const root of document.querySelectorAll("msqrt")) roots.observe(root);

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

// The tables of chapter 5: menus above them, and the rows that fit as cards. Before a
// choice is made one shows what a row looks like; the others would be a wall.
const FIRST = 1;
/** @param {HTMLTableElement | null} table @param {number} count of columns with a menu */
function chooser(table, count) {
  if (!table?.tHead) return [];
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows];
  const said = (row, k) => row.cells[k].textContent.trim();
  for (const row of rows)
    [...row.cells].forEach((cell, k) => (cell.dataset.label = heads[k]));
  const form = document.createElement("form");
  const status = document.createElement("p");
  status.setAttribute("role", "status");
  const menus = heads.slice(0, count).map((head, k) => {
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
  let all = false;
  const more = document.createElement("button");
  more.type = "button";
  more.textContent = `Show all ${rows.length}`;
  more.addEventListener("click", () => {
    all = true;
    show();
    menus[0].focus(); // the button is gone
  });
  function show() {
    // In how many choices a row agrees; what is not chosen agrees, "any" only if it may.
    const agrees = (row, ...also) =>
      menus.filter((menu, k) => !menu.value || [menu.value, ...also].includes(said(row, k)))
        .length;
    const fits = rows.filter((row) => agrees(row, "any") === count);
    const near = rows.filter((row) => agrees(row) === count - 1);
    const few = !all && menus.every((menu) => !menu.value);
    const shown = few ? rows.slice(0, FIRST) : fits.length ? fits : near;
    more.hidden = !few;
    form.classList.toggle("chooser-example", few);
    for (const row of rows) row.hidden = !shown.includes(row);
    if (few) status.textContent = `An example: one of ${rows.length} rows. Choose, or see them all.`;
    else if (fits.length) status.textContent = `${fits.length} of ${rows.length} rows fit.`;
    else {
      const nearest = `The nearest: ${near.length} that agree in ${count - 1} of ${count} choices.`;
      status.textContent = "No row fits exactly: for this case we found nothing. ";
      status.textContent += near.length ? nearest : "Ask for less, and run a control.";
    }
  }
  form.className = "chooser";
  form.append(status, more);
  table.classList.add("chosen");
  table.closest(".cell_output, .output")?.prepend(form);
  show();
  return menus;
}
addEventListener("DOMContentLoaded", () => {
  const [net] = chooser(document.querySelector(".tag_decisions table"), 3);
  const [kind] = chooser(document.querySelector(".tag_recipes table"), 1);
  net?.addEventListener("change", () => {
    if (!kind) return;
    // "deep ResNet" is a kind of "ResNet"; a net without a recipe shows them all.
    kind.value = [...kind.options].find((o) => o.value && net.value.endsWith(o.value))?.value ?? "";
    kind.dispatchEvent(new Event("change"));
  });
});
