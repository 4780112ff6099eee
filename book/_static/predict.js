// Predict, commit, reveal (see book/_ext/predict.py). Where no script runs, results and
// answers are plain <details>. This adds a field for one's own answer, and a switch that
// opens all results. What a reader writes stays in this browser and is sent nowhere.
(() => {
  const KEY = `predict:${location.pathname}`;
  const state = { all: false, answers: {}, open: {}, ...load() };

  function load() {
    try {
      return JSON.parse(localStorage.getItem(KEY) ?? "null");
    } catch {
      return null; // a private window, perhaps
    }
  }
  function save() {
    try {
      localStorage.setItem(KEY, JSON.stringify(state));
    } catch {
      // The same.
    }
  }

  /** An element with these properties and children. */
  function make(name, properties, ...children) {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  }

  /** A copy without the names of its parts. */
  function copy(element) {
    const twin = element.cloneNode(true);
    for (const part of twin.querySelectorAll("[id]")) part.removeAttribute("id");
    return twin;
  }

  /** The words that stay when a fold is shut. @param {Element} fold
   * @returns {HTMLElement} */
  function summaryOf(fold) {
    const summary = fold.querySelector("summary");
    if (!summary) throw new Error(`no summary in ${fold.outerHTML}`);
    return summary;
  }

  /** The number in "28 %", "0,5" or "1,500"; NaN if there is none. */
  function read(text) {
    const digits = text.replace("−", "-").replace(/\b([1-9]\d{0,2}),(?=\d{3}\b)/g, "$1");
    return parseFloat(digits.replace(",", "."));
  }

  /** A number as the axis of a mark shows it. */
  const shown = (value, { step }) =>
    value.toFixed(Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))).replace("-", "\u2212");

  /** A drawn axis: its ends and quarters, and what stands on it from the beginning.
   * @returns {HTMLElement} */
  function draw(axis, ...more) {
    const at = (value, className, text = "") => {
      const part = make("span", { className, textContent: text });
      part.style.left = `${(100 * (value - axis.low)) / (axis.high - axis.low)}%`;
      return part;
    };
    const ticks = [0, 1, 2, 3, 4].map((k) => axis.low + (k * (axis.high - axis.low)) / 4);
    return make(
      "div",
      { className: "predict-axis" },
      ...ticks.map((value) => at(value, "tick", shown(value, axis))),
      ...axis.points.map((value) => at(value, "point")),
      ...more.map(([value, name, text]) => at(value, name, text)),
    );
  }

  /** A slider under which an axis is drawn. Until it is moved it holds no answer. */
  function slider(axis, unit) {
    const { low: min, high: max, step } = axis;
    const field = make("input", { type: "range", min, max, step, value: (min + max) / 2 });
    const said = make("span", {}); // an <output> would take the label for itself
    const say = () => {
      const set = "set" in field.dataset;
      said.textContent = set ? `${shown(Number(field.value), axis)} ${unit}` : "no mark yet";
      field.name = set ? "answer" : "";
      field.ariaValueText = said.textContent;
    };
    for (const event of ["input", "pointerup", "restored"])
      field.addEventListener(event, () => {
        field.dataset.set = "";
        say();
      });
    say();
    const label = make("label", { className: "predict-mark" });
    label.append(make("span", {}, "Your mark, ", axis.name, ": ", said), field);
    return [label, make("div", { ariaHidden: "true" }, draw(axis))];
  }

  /** Give a question its field, and return what shows the present state.
   * @param {HTMLElement} box */
  function setUp(box) {
    const { id } = box;
    const unit = box.dataset.unit ?? "";
    const result = /** @type {HTMLDetailsElement | null} */ (
      document.getElementById(`${id}-result`)
    );
    /** @type {HTMLElement | null} */
    const list = box.querySelector(".predict-choices");
    /** @type {NodeListOf<HTMLElement>} */
    const listed = box.querySelectorAll(".predict-choice");
    const choices = [...listed];
    const summaries = choices.map(summaryOf);
    const texts = summaries.map((summary) => summary.textContent.trim());
    const right = choices.find((choice) => choice.dataset.right);
    const axis = JSON.parse(box.dataset.axis ?? "null");
    const number = axis || box.dataset.kind === "number";

    const form = make("form", { className: "predict-form" });
    /** @type {{choice: HTMLElement, radio: HTMLElement, label: HTMLElement, said: HTMLElement}[]} */
    const options = [];
    if (list && !number) {
      const group = make("div", { role: "radiogroup", ariaLabel: "Your answer" });
      summaries.forEach((summary, i) => {
        const radio = make("input", { type: "radio", name: "answer", value: texts[i] });
        const text = make("span", {}, ...copy(summary).childNodes);
        // A formula alone names no field where it is not read as text.
        if (!text.textContent?.replace(text.querySelector("math")?.textContent ?? "", "").trim())
          radio.ariaLabel = texts[i];
        const said = make("div", { className: "predict-said", hidden: true, id: `${id}-said-${i}` });
        said.append(...[...copy(choices[i]).children].slice(1));
        const label = make("label", {}, radio, text);
        group.append(label, said);
        options.push({ choice: choices[i], radio, label, said });
      });
      form.append(group);
    } else if (axis) {
      form.append(...slider(axis, unit));
    } else {
      const field = make(number ? "input" : "textarea", { name: "answer", autocomplete: "off", maxLength: 300 });
      if (number) field.inputMode = "decimal";
      else {
        field.rows = 2;
        field.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" || event.shiftKey) return;
          event.preventDefault();
          form.requestSubmit();
        });
      }
      const name = number ? "Your number" : "Your prediction";
      form.append(make("label", { className: "predict-typed" }, name, field, unit));
    }
    const button = make("button", {}, "Check");
    const hint = make("p", { role: "status", className: "predict-hint" });
    form.append(button, hint);
    box.append(form);

    // What the reader said stands beside the result, the other answers after it.
    const own = make("div", { className: "predict-own", tabIndex: -1 });
    if (result) summaryOf(result).after(own);
    else box.append(own);
    if (!result) own.role = "status";
    own.classList.toggle("predict-spoken", !result && options.length > 0); // it is seen at the options
    if (list) (result ?? box).append(list);
    if (options.length) list?.setAttribute("hidden", ""); // on paper it is seen
    list?.classList.toggle("said", Boolean(number)); // numbers that nobody was offered

    function find(answer) {
      if (!number) return choices[texts.indexOf(answer)];
      const value = read(answer);
      const slack = axis ? 1.5 * axis.step : 1e-9; // a hand is no ruler
      const near = ({ dataset }) =>
        Math.abs(Number(dataset.value) - value) <= Number(dataset.tolerance) + slack;
      return right && near(right) ? right : choices.find(near);
    }

    /** What the reader has put into the field. */
    function given() {
      const text = String(new FormData(form).get("answer") ?? "").trim();
      return axis && text ? shown(Number(text), axis) : text;
    }

    /** The button says what it will do, or that it is done. */
    function name() {
      hint.textContent = "";
      if (!result) return;
      const done = given() === (state.answers[id] ?? "") ? "Revealed: hide it" : "Compare";
      button.textContent = result.open ? done : "Reveal";
    }

    /** At the options, once it is revealed: which is right, what was chosen, and why. */
    function markOptions() {
      const answer = state.answers[id] ?? "";
      const done = result ? result.open : Boolean(answer) || state.all;
      for (const { choice, radio, label, said } of options) {
        const good = choice === right;
        label.classList.toggle("predict-right", done && good);
        label.classList.toggle("predict-wrong", done && !good && choice === find(answer));
        said.hidden = !done;
        if (done) radio.setAttribute("aria-describedby", said.id);
        else radio.removeAttribute("aria-describedby");
      }
    }

    function show() {
      const answer = state.answers[id] ?? "";
      const chosen = find(answer);
      let said = [answer + (number && unit && !answer.endsWith(unit) ? ` ${unit}` : "")];
      if (chosen && !number) said = copy(summaryOf(chosen)).childNodes;
      own.hidden = !answer;
      own.replaceChildren(make("p", {}, "You said: ", make("strong", {}, ...said), "."));
      if (axis && answer) {
        const marks = [[read(answer), "placed", "you"]];
        if (right) marks.push([Number(right.dataset.value), "placed result", "result"]);
        own.append(make("div", { ariaHidden: "true" }, draw(axis, ...marks)));
      }
      if (chosen) {
        const said = [...copy(chosen).children].slice(1);
        const verdict = said[0]?.querySelector("strong");
        // The options say the rest where they are seen beside it.
        if (result && options.length && verdict) own.firstElementChild?.append(" ", verdict);
        else own.append(...said);
      }
      else if (read(answer) > Number(right?.dataset.value)) own.append("That is too much.");
      else if (read(answer) < Number(right?.dataset.value)) own.append("That is too little.");
      if (result) result.open = state.all || Boolean(state.open[id]);
      else if (!options.length && (answer || state.all)) list?.removeAttribute("hidden");
      else if (!options.length) list?.setAttribute("hidden", "until-found");
      markOptions();
      name();
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const answer = given();
      const first = number ? "Give a number first" : `${list ? "Choose" : "Answer"} first`;
      const none = !answer || (number && Number.isNaN(read(answer)));
      if (!result && none) {
        hint.textContent = `${first}.`;
        return;
      }
      if (result && !result.open && none && !hint.textContent) {
        hint.textContent = `${first}, or see it anyway.`;
        button.textContent = "See it anyway";
        return;
      }
      state.open[id] = !(result?.open && answer === (state.answers[id] ?? ""));
      state.answers[id] = answer;
      save();
      show();
      if (result && !state.open[id]) return;
      // Options are marked where the reader pressed; nothing moves away from there.
      const preventScroll = options.length > 0;
      if (result) (answer ? own : summaryOf(result)).focus({ preventScroll });
    });
    form.addEventListener("input", name);
    result?.addEventListener("toggle", () => {
      markOptions();
      name();
      if (state.all || "shut" in result.dataset) return; // the switch, or paper
      state.open[id] = result.open;
      save();
    });
    for (const field of form.querySelectorAll("input, textarea")) {
      const before = state.answers[id] ?? "";
      if (field.type === "radio") field.checked = field.value === before;
      else if (field.type !== "range") field.value = before;
      else if (before) {
        field.value = String(read(before));
        field.dispatchEvent(new Event("restored"));
      }
    }
    return show;
  }

  /** @type {NodeListOf<HTMLElement>} */
  const boxes = document.querySelectorAll(".predict");
  const shows = [...boxes].map(setUp);
  const all = make("input", { type: "checkbox", role: "switch", checked: state.all });
  all.addEventListener("change", () => {
    state.all = all.checked;
    save();
    for (const show of shows) show();
  });
  const label = make("label", { className: "predict-all" }, all, "Show all results");
  document.querySelector("article h1")?.after(label);
  for (const show of shows) show();

  // A link into something folded opens it, also where the address holds the state of an
  // interactive figure.
  function reach() {
    const target = document.getElementById(location.hash.slice(1).split(/[?;]/)[0]);
    const shut = () => target?.closest("details:not([open])");
    const folded = shut();
    for (let part = folded; part; part = shut()) part.toggleAttribute("open", true);
    if (folded) target?.scrollIntoView();
  }
  addEventListener("hashchange", reach);
  addEventListener("load", reach);
})();
