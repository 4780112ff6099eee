// The tree of chapter 5, one question at a time. What it asks and says stands in the
// drawing, which is also what readers see without JavaScript and on paper.

/** @typedef {{do: string, note: string, where?: string, beside: string, mask: boolean,
 *   rests: string[], rows: string[], say?: string}} Answer
 * @typedef {{ask: string, hint?: string, options: Answer[]}} Which
 * @typedef {{short: string, ask: string, hint?: string, leaf: {section: string},
 *   answer?: Answer, which?: Which}} Question
 * @typedef {{sections: Record<string, string[]>, rests: Record<string, string>,
 *   questions: Question[], else: {leaf: {section: string}, answer: Answer}}} Tree */

addEventListener("DOMContentLoaded", () => {
  const figure = document.querySelector("figure.walk");
  const stored = figure?.querySelector("script")?.textContent;
  if (!figure || !stored) return;
  /** @type {Tree} */
  const tree = JSON.parse(stored);

  /** @param {string} tag @param {Record<string, string>} attributes
   * @param {...(string | Node)} children @returns {HTMLElement} */
  const make = (tag, attributes, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  /** @param {string} text @param {() => void} press */
  const button = (text, press) => {
    const made = make("button", { type: "button" }, text);
    made.addEventListener("click", press);
    return made;
  };
  /** Words, in which `code` stands between backticks. @param {string} words */
  const marked = (words) =>
    words.split("`").map((part, k) => (k % 2 ? make("code", {}, part) : part));

  /** What was pressed, step by step: the number of the option.
   * @type {number[]} */
  let way = [];
  const card = make("div", {});
  const crumbs = make("ol", { class: "walk-buttons walk-way", "aria-label": "Your answers so far" });
  const status = make("p", { class: "walk-unseen", role: "status" });

  /** Where a way leads: a question or an answer; and the steps that led there.
   * @param {number[]} pressed */
  function walk(pressed) {
    const steps = [];
    const rest = [...pressed];
    for (const question of tree.questions) {
      const { section } = question.leaf;
      const yes = rest.shift();
      if (yes === undefined) return { ask: question.ask, hint: question.hint, options: ["Yes", "No"], steps };
      steps.push(`${question.short} ${yes ? "No" : "Yes"}`);
      if (yes) continue;
      if (question.answer) return { answer: question.answer, section, steps };
      if (!question.which) break;
      const { ask, hint, options } = question.which;
      const one = rest.shift();
      const says = options.map(({ say }) => say ?? "");
      if (one === undefined) return { ask, hint, options: says, steps };
      steps.push(says[one]);
      return { answer: options[one], section, steps };
    }
    return { answer: tree.else.answer, section: tree.else.leaf.section, steps };
  }

  /** Set the menus above the table to the rows of an answer; at first only if the address
   * says nothing of them. @param {string[]} rows @param {boolean} first */
  function choose(rows, first) {
    /** @type {NodeListOf<HTMLSelectElement>} */
    const menus = document.querySelectorAll(".tag_decisions .chooser select");
    if (first && [...menus].some(({ value }) => value)) return;
    menus.forEach((menu, k) => {
      menu.value = rows[k];
      menu.dispatchEvent(new Event("change"));
    });
  }
  function toTable() {
    /** @type {HTMLElement | null} */
    const menu = document.querySelector(".tag_decisions .chooser select");
    menu?.closest("form")?.scrollIntoView();
    menu?.focus({ preventScroll: true });
  }

  /** @param {Answer} answer @param {string} section */
  function told(answer, section) {
    const list = make("dl", {});
    const add = (name, ...words) => list.append(make("dt", {}, name), make("dd", {}, ...words));
    add("It rests on", ...answer.rests.flatMap((word, k) => [
      ...(k ? ["; "] : []), make("strong", {}, word), `: ${tree.rests[word]}`,
    ]));
    if (answer.where) add("Place", `${answer.where} `, link("place"));
    add("Run beside it", answer.beside);
    /** @param {string} name */
    function link(name) {
      const [target, , title] = tree.sections[name];
      return make("a", { href: `#${target}` }, title);
    }
    const copy = button("Copy link", async () => {
      try {
        await navigator.clipboard.writeText(location.href);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "See the address"; // no clipboard: it stands there
      }
      setTimeout(() => (copy.textContent = "Copy link"), 2000);
    });
    const foot = make("div", { class: "walk-buttons" }, button("See its rows in the table", toTable), copy);
    if (section !== "row") foot.append(make("p", {}, "More: ", link(section)));
    return make("div", { class: `walk-answer${answer.mask ? " walk-mask" : ""}` },
      make("p", { class: "walk-ask", tabindex: "-1" }, ...marked(answer.do)),
      make("p", {}, ...marked(answer.note)), list, foot);
  }

  /** @param {number[]} pressed @param {number} [at] the option that takes the focus */
  function go(pressed, at) {
    way = pressed;
    const { ask, hint, options, answer, section, steps } = walk(way);
    if (answer) {
      card.replaceChildren(told(answer, section ?? ""));
      choose(answer.rows, at === undefined);
    } else {
      const more = hint ? [make("p", { class: "walk-small" }, ...marked(hint))] : [];
      const list = make("ul", { class: "walk-buttons" }, ...(options ?? []).map((text, k) =>
        make("li", {}, button(text, () => go([...way, k], k)))));
      list.setAttribute("role", "list");
      card.replaceChildren(make("p", { class: "walk-ask" }, ask ?? ""), ...more, list);
    }
    crumbs.replaceChildren(...steps.map((step, k) => {
      const back = button(step, () => go(way.slice(0, k), 0));
      back.setAttribute("aria-label", `${step}. Go back to this question`);
      return make("li", {}, back);
    }));
    if (steps.length) crumbs.prepend(make("li", { class: "walk-small" }, "So far:"));
    if (steps.length) crumbs.append(make("li", {}, button("Start again", () => go([], 0))));
    if (at === undefined) return; // at first nothing takes the focus from the reader
    remember("way", way.join("."));
    const said = answer ? `Your answer: ${answer.do}` : (ask ?? "");
    status.textContent = said.replaceAll("`", "");
    const buttons = card.querySelectorAll("button");
    /** @type {HTMLElement | null} */
    const next = answer ? card.querySelector(".walk-ask") : (buttons[at] ?? buttons[0]);
    next?.focus({ preventScroll: true });
    if (live.getBoundingClientRect().top < 0) live.scrollIntoView();
  }

  const live = make("section", { class: "walk-live", "aria-label": "The tree, one question at a time" },
    card, crumbs, status);
  const fold = make("details", { class: "walk-tree" }, make("summary", {}, "See the whole tree at once"));
  figure.before(live, fold);
  fold.append(figure);
  if (location.hash === `#${figure.id}`) /** @type {HTMLDetailsElement} */ (fold).open = true;
  // An address leads to its answer as far as there are such options.
  const given = remembered("way").split(".").map((option) => parseInt(option, 10));
  const steps = given.findIndex((option, k) => !(option in (walk(given.slice(0, k)).options ?? [])));
  go(remembered("way") ? given.slice(0, steps < 0 ? given.length : steps) : []);
});
