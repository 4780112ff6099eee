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

// Which section one reads: the last whose heading has come near the upper edge, and the
// first until then. At the end of a page, where no later one can come there, it is what was
// chosen or else the last. The contents say it, at a desk and in the drawer of a phone, and
// so do the letters of a glossary and, on a phone, the header. The theme's own marks lag.
/** @type {HTMLElement | null} */
const pageName = document.querySelector(".page-name");
const NAME = pageName?.textContent ?? "";
/** @param {string} which links to places of this page, in order @param {number} [limit] */
function mark(which, limit = 120) {
  /** @type {NodeListOf<HTMLAnchorElement>} */
  const found = document.querySelectorAll(which);
  const links = [...found].filter(({ hash }) => hash);
  /** @param {HTMLAnchorElement} link */
  const top = ({ hash }) =>
    document.getElementById(decodeURIComponent(hash.slice(1)))?.getBoundingClientRect().top ?? Infinity;
  const begun = links.filter((link) => top(link) < limit);
  let now = begun[begun.length - 1] ?? links[0];
  const last = links[links.length - 1];
  const end = last && scrollY > 0 && top(last) < innerHeight && scrollY + innerHeight >= root.scrollHeight - 2;
  const chosen = links.find(({ hash }) => hash === location.hash);
  if (end) now = chosen && links.indexOf(chosen) >= links.indexOf(now) ? chosen : last;
  for (const link of links) {
    if (link.classList.contains("active") !== (link === now)) link.classList.toggle("active", link === now);
    if ((link.ariaCurrent === "true") !== (link === now)) link.ariaCurrent = link === now ? "true" : null;
  }
  return { now, begun: begun.length > 0 || Boolean(end) };
}
function markAll() {
  const { now, begun } = mark('.page-toc a[href^="#"]');
  const said = now && begun ? (now.textContent ?? "").trim() : NAME;
  if (pageName && pageName.textContent !== said) pageName.textContent = said;
  const letters = document.querySelector("p.letters")?.getBoundingClientRect().bottom ?? 0;
  mark(".letters a", Math.max(150, letters + 48)); // below them, where a link leads
}
let marking = 0;
const soon = () => {
  cancelAnimationFrame(marking);
  marking = requestAnimationFrame(markAll);
};
for (const event of ["scroll", "resize", "load", "hashchange"]) addEventListener(event, soon, { passive: true });
// The theme marks its own choice; that is put right before it is seen.
const contents = document.querySelector("#pst-page-toc-nav");
if (contents) new MutationObserver(markAll).observe(contents, { subtree: true, attributeFilter: ["class"] });
markAll();

// The drawers of a phone: a button shuts them, and so does a link to a place of this page.
/** @param {Element} drawer */
function showSection(drawer) {
  markAll();
  drawer.querySelector(".page-toc a.active, a.current[href='#']")?.scrollIntoView({ block: "nearest" });
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
  new MutationObserver(() => drawer.open && showSection(drawer)).observe(drawer, { attributeFilter: ["open"] });
  drawer.addEventListener("click", (event) => {
    const pressed = /** @type {Element} */ (event.target);
    if (pressed.closest('.drawer-shut, a[href^="#"]')) drawer.close();
  });
}

// Where nothing hovers, a tap on a word of the glossary shows its entry, as the pointer
// does at a desk; a link leads on to the glossary.
const tip = Object.assign(document.createElement("div"), { className: "term-tip", popover: "auto", role: "dialog" });
document.addEventListener("click", (event) => {
  /** @type {HTMLAnchorElement | null} */
  const term = /** @type {Element} */ (event.target).closest("a.term");
  const touched = matchMedia("(hover: none)").matches || /** @type {PointerEvent} */ (event).pointerType === "touch";
  if (!term || !touched || !tip.showPopover || event.detail === 0) return;
  event.preventDefault();
  const [name, said, more] = ["strong", "p", "a"].map((tag) => document.createElement(tag));
  name.textContent = term.textContent;
  said.textContent = term.dataset.entry ?? "";
  Object.assign(more, { textContent: "Glossary \u2192", href: term.href });
  tip.ariaLabel = term.textContent;
  tip.replaceChildren(name, said, more);
  if (!tip.isConnected) document.querySelector("main")?.append(tip);
  tip.showPopover();
});

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

// Paper is white and has nothing to click: the page is printed in its light colours, with
// all folds open, and afterwards is as before.
/** @param {string} which @returns {NodeListOf<HTMLDetailsElement>} */
const folds = (which) => document.querySelectorAll(`details${which}`);
let theme = root.dataset.theme;
addEventListener("beforeprint", () => {
  theme = root.dataset.theme;
  root.dataset.theme = "light";
  for (const part of folds(":not([open])")) {
    part.open = true;
    part.dataset.shut = "";
  }
});
addEventListener("afterprint", () => {
  root.dataset.theme = theme;
  for (const part of folds("[data-shut]")) {
    part.open = false;
    delete part.dataset.shut;
  }
});

// What was chosen on chapter 5 is in the address, so that it can be linked to.
/** @param {string} name @param {string} value */
function remember(name, value) {
  const address = new URL(location.href);
  if (value) address.searchParams.set(name, value);
  else address.searchParams.delete(name);
  if (address.href !== location.href) history.replaceState(history.state, "", address);
}
/** @param {string} name */
const remembered = (name) => new URLSearchParams(location.search).get(name) ?? "";

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
    const name = head.toLowerCase().replaceAll(" ", "-");
    const known = remembered(name);
    if (values.has(known)) menu.value = known;
    menu.addEventListener("change", () => {
      remember(name, menu.value);
      show();
    });
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
