// What all interactive figures share: elements, inputs, numbers, the address.
//
// A module is a plain ES module in the form of anywidget:
// `export default { parameters, render({ model, el }) }`. The model holds the state:
// get(key), set(key, value), save_changes() and on("change:key", callback).

import { times } from "./laws.js";

/**
 * @typedef {{label: string, value: number, min: number, max: number, step: number,
 *   digits?: number}} NumberParameter
 * @typedef {{label: string, value: string, options: Record<string, string>}} Choice
 * @typedef {{value: string, pattern: RegExp}} Text
 * @typedef {NumberParameter | Choice | Text} Parameter
 * @typedef {{start?: object, get(key: string): any, set(key: string, value: any): void,
 *   save_changes(): void, on(event: string, callback: () => void): void}} Model
 * @typedef {{model: Model, el: HTMLElement}} Place
 */

/** What four methods are called, and what each drops. @type {Record<string, string>} */
export const NAMES = { element: "element dropout", channel: "SpatialDropout", block: "DropBlock", path: "DropPath" };
export const METHOD = {
  label: "Dropped together",
  options: { element: "one value", channel: "a map", block: "a block", path: "all maps of a sample" },
};

/** Set attributes, listeners ("onclick") and children. Classes get "explore-" in front.
 * @template {Element} E
 * @param {E} made @param {Record<string, any>} attributes @param {any[]} children */
function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.setAttribute(name, value.replace(/\S+/g, "explore-$&"));
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, String(value));
  made.append(...children.flat(Infinity));
  return made;
}

/** An element of HTML. @param {string} tag @param {Record<string, any>} [attributes]
 * @param {...any} children @returns {any} */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An element of SVG. @param {string} tag @param {Record<string, any>} [attributes]
 * @param {...any} children @returns {any} */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return fill(made, attributes, children);
}

/** A box of HTML of some class. @param {string} name @param {...any} children */
export const box = (name, ...children) => h("div", { class: name }, ...children);

/** Small print. @param {...any} text */
export const note = (...text) => h("p", { class: "note" }, ...text);

/** The title of a part. @param {...any} text */
export const heading = (...text) => h("p", { class: "title" }, ...text);

/** What a drawing is called by those who do not see it. @param {Element} el
 * @param {string} text */
export const label = (el, text) => el.setAttribute("aria-label", text);

/** Empty paths of some classes, put into a drawing. @param {Element} el
 * @param {...string} names */
export function paths(el, ...names) {
  const made = names.map((name) => svg("path", { class: name }));
  el.append(...made);
  return made;
}

/** Give a path its data. @param {Element} path @param {string} d */
export const trace = (path, d) => path.setAttribute("d", d);

/** A ring, as the data of a path. @param {number} x @param {number} y */
export const ring = (x, y, r = 5) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;

/** A square of n × n cells, the fuller the larger their values from 0 to 1.
 * @param {number} n @param {string} [lines] */
export function cells(n, lines = "") {
  const all = times(n * n, (i) => svg("rect", { x: i % n, y: Math.floor(i / n), width: 1, height: 1, "shape-rendering": "crispEdges" }));
  return {
    el: svg("svg", { viewBox: `-.2 -.2 ${n + 0.4} ${n + 0.4}`, role: "img", class: "places" },
      all, svg("path", { class: "frame", d: `M0 0h${n}v${n}h-${n}z${lines}` })),
    /** @param {number[]} values */
    show: (values) => all.forEach((cell, i) => cell.setAttribute("fill-opacity", fixed(values[i], 3))),
  };
}

/** A bar with its name and value, and a line at what was asked for.
 * @param {string} name @param {...any} words */
export function gauge(name, ...words) {
  const value = h("span", { class: "value" });
  const view = svg("svg", { viewBox: "0 0 300 22", preserveAspectRatio: "none", class: "gauge", "aria-hidden": "true" },
    svg("path", { d: "M0 3H300V19H0z", class: "ground" }));
  const [bar, line] = paths(view, "bar", "asked");
  return {
    row: h("li", {}, box("between", h("strong", {}, name), value), view, words),
    /** @param {number} share @param {string} text @param {number} [asked] */
    show(share, text, asked) {
      trace(bar, `M0 4H${300 * share}V18H0z`);
      if (asked) trace(line, `M${300 * asked} 0V22`);
      value.textContent = text;
    },
  };
}

/** A number with so many digits, and a true minus sign.
 * @param {number} value */
export function fixed(value, digits = 2) {
  const text = value.toFixed(digits);
  return /[1-9]/.test(text) ? text.replace("-", "−") : text.replace("-", "");
}

/** A whole number as an exponent. @param {number} n */
const raised = (n) => [...String(n)].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]).join("");

/** A number with about three digits that count, whatever its size.
 * @param {number} value */
export function short(value, digits = 3) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.floor(Math.log10(Math.abs(value)));
  if (size < -4 || size > 5) {
    const [lead, power] = value.toExponential(digits - 1).split("e");
    return `${lead.replace("-", "−")} · 10${raised(Number(power))}`;
  }
  return fixed(value, Math.max(digits - 1 - size, 0));
}

/** Does the reader ask for less motion? */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

let names = 0;
/** A name for an element that no other has. */
export const unique = () => `explore-${++names}`;

/** Change the state once, and say so. @param {Model} model
 * @param {Record<string, any>} values */
export function change(model, values) {
  for (const [key, value] of Object.entries(values)) model.set(key, value);
  model.save_changes();
}

/** The whole state, by name. @param {Model} model @param {Record<string, any>} parameters
 * @returns {any} */
export const stateOf = (model, parameters) =>
  Object.fromEntries(Object.keys(parameters).map((key) => [key, model.get(key)]));

/** A slider with its value beside its name. What it moves takes `more` along.
 * @param {Model} model @param {string} key @param {NumberParameter} parameter
 * @param {Record<string, any>} [more] */
export function slider(model, key, parameter, more = {}) {
  const { label, min, max, step, digits = 2 } = parameter;
  const output = h("output", { class: "value" });
  const input = h("input", {
    type: "range", min, max, step, name: key,
    oninput: () => change(model, { ...more, [key]: Number(input.value) }),
  });
  const show = () => {
    const text = fixed(model.get(key), digits);
    input.value = String(model.get(key));
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
  model.on(`change:${key}`, show);
  show();
  return h("label", { class: "slider" }, h("span", {}, label, " ", output), input);
}

/** One of a few, all in sight. @param {Model} model @param {string} key
 * @param {Choice} parameter @param {Record<string, any>} [more] */
export function choice(model, key, { label, options }, more = {}) {
  const group = unique();
  const inputs = Object.entries(options).map(([value, text]) => {
    const input = h("input", {
      type: "radio", name: group, value,
      onchange: () => change(model, { ...more, [key]: value }),
    });
    return [input, h("label", {}, input, h("span", {}, text))];
  });
  const show = () => {
    for (const [input] of inputs) input.checked = input.value === model.get(key);
  };
  model.on(`change:${key}`, show);
  show();
  return h("fieldset", { class: "choice" }, h("legend", {}, label), h("div", {}, inputs.map(([, text]) => text)));
}

/** @param {string} text @param {() => void} onclick */
export function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

/** A list of names and numbers that can be filled again; a phone shows three. */
export function numbers() {
  const list = h("dl");
  const more = button("All numbers", () => more.setAttribute("aria-expanded", el.classList.toggle("explore-all")), { "aria-expanded": "false" });
  const el = h("div", { class: "numbers", role: "group", "aria-label": "Numbers of this setting" }, list, more);
  return {
    el,
    /** @param {(string | Node)[][]} rows */
    show(rows) {
      more.hidden = rows.length < 5;
      list.replaceChildren(...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    },
  };
}

/** Say a result to those who do not see it, once it has stayed for a moment. */
export function announcer() {
  const el = h("p", { class: "unseen", role: "status" });
  let timer = 0;
  return {
    el,
    /** @param {string} text */
    say(text) {
      clearTimeout(timer);
      timer = setTimeout(() => (el.textContent = text), 700);
    },
  };
}

/** Draws one after another, or at once for those who ask for less motion.
 * @param {Model} model its "draws" and "seed" count @param {number} most
 * @param {number} step how many come with a frame */
export function drawing(model, most, step) {
  let running = 0;
  const stop = () => cancelAnimationFrame(running);
  const go = (goal) => {
    stop();
    const to = Math.min(goal, still() ? goal : model.get("draws") + step);
    change(model, { draws: to });
    if (to < goal) running = requestAnimationFrame(() => go(goal));
  };
  const more = (count) => {
    if (model.get("draws") + count > most) change(model, { seed: (model.get("seed") % 999) + 1, draws: 1 });
    go(model.get("draws") + count);
  };
  return { stop, more };
}

/** What every figure begins with: its numbers, its formula, its inputs by name, and what
 * reads its state. @param {Place} place @param {Record<string, any>} parameters
 * @param {Record<string, any>} [more] what inputs take along */
export function begin({ model, el }, parameters, more) {
  return {
    model, el, table: numbers(), formula: h("p", { class: "formula" }),
    input: (key) => (parameters[key].options ? choice : slider)(model, key, parameters[key], more),
    read: () => stateOf(model, parameters),
  };
}

/** What every figure ends with: things to try, each a question and a button; and it is
 * shown, now and whenever its state changes. What `show` returns is said, and stands above,
 * below the question that was tried.
 * @param {Place} place @param {() => string} show
 * @param {[string, string, Record<string, any>][]} asks */
export function finish({ model, el }, show, asks) {
  const said = announcer();
  const task = box("task");
  const answer = h("p");
  task.hidden = true;
  const update = () => {
    answer.textContent = show();
    said.say(answer.textContent);
  };
  const press = (values, question) => {
    change(model, { ...model.start, ...values });
    task.replaceChildren(h("strong", {}, question), answer);
    task.hidden = false;
    if (!wide) tries.firstChild.focus(); // its button goes
    tries.open = wide;
    if (el.getBoundingClientRect().top < 0) el.scrollIntoView();
  };
  const wide = innerWidth > 600;
  const tries = h("details", { class: "tries", open: wide }, h("summary", {}, "Try"), h("ul", {}, asks.map(([action, question, values]) =>
    h("li", {}, button(action, () => press(values, question)), " ", h("span", {}, question)))));
  el[wide ? "append" : "prepend"](tries);
  el.prepend(task);
  el.append(said.el);
  model.on("change", update);
  update();
}

/** The diagonal strokes that mark what is dropped. @param {string} id */
export function hatching(id, size = 4) {
  return svg(
    "pattern", { id, width: size, height: size, patternUnits: "userSpaceOnUse" },
    svg("rect", { width: size, height: size, class: "fell" }),
    svg("path", { d: `M-1 1L1 -1M0 ${size}L${size} 0M${size - 1} ${size + 1}L${size + 1} ${size - 1}`, class: "stroke", "stroke-width": size / 4 }),
  );
}

/** Squares as the data of one path.
 * @param {ArrayLike<number>} chosen which of size × size are meant, from `start` on
 * @param {number} size */
export function squares(chosen, size, start = 0) {
  let d = "";
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) {
      let run = 0;
      while (j + run < size && chosen[start + i * size + j + run]) run++;
      if (run) d += `M${j} ${i}h${run}v1h-${run}z`;
      j += run;
    }
  return d;
}

/** A picture in the colour of the ink: a digit of 0 to f for each of size × size values.
 * @param {string} text @param {number} size */
export function picture(text, size) {
  const levels = [...text].map((digit) => parseInt(digit, 16));
  return [...new Set(levels)].filter(Boolean).map((level) =>
    svg("path", { d: squares(levels.map((l) => Number(l === level)), size), class: "picture", "fill-opacity": fixed(level / 15) }));
}

/** Let a drawing of squares be clicked, and walked over with the arrow keys.
 * @param {any} board @param {number} size @param {() => number[]} at the square now
 * @param {(row: number, column: number) => void} move
 * @param {(row: number, column: number) => void} press
 * @param {() => number} [least] the first row and column */
export function walk(board, size, at, move, press, least = () => 0) {
  fill(board, { class: "board", tabindex: 0, role: "application", "aria-roledescription": "map" }, []);
  board.addEventListener("click", (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(board.getScreenCTM().inverse());
    press(Math.floor(y), Math.floor(x));
  });
  board.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const [row, column] = at();
    const inside = (v) => Math.max(least(), Math.min(v, size - 1));
    if (step) move(inside(row + step[0]), inside(column + step[1]));
    else if (event.key === " " || event.key === "Enter") press(row, column);
    else return;
    event.preventDefault();
  });
}

/** Ticks of an axis without numbers, from 0 to 1. */
export const PLAIN = [[0, ""], [1, ""]];

/** Axes, and where values lie in them. Ticks are values, or [value, text].
 * @param {any[]} across @param {any[]} up
 * @param {string} title @param {number} [height] @param {number} [left] */
export function axes(across, up, title, height = 150, left = 30) {
  const width = 300;
  const ticks = (list) => list.map((t) => (Array.isArray(t) ? t : [t, String(t).replace("-", "−")]));
  const [xs, ys] = [ticks(across), ticks(up)];
  const [x0, x1, y0, y1] = [xs[0][0], xs[xs.length - 1][0], ys[0][0], ys[ys.length - 1][0]];
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - 12);
  const y = (v) => height - ((v - y0) / (y1 - y0)) * (height - 16);
  const el = svg(
    "svg", { viewBox: `0 0 ${width} ${height + 34}`, role: "img", class: "plot" },
    svg("path", { d: `M${left} ${left > 12 ? 8 : height}V${height}H${width - 12}`, class: "axis" }),
    xs.map(([v, text]) => svg("text", { x: x(v), y: height + 14, "text-anchor": "middle" }, text)),
    ys.map(([v, text]) => svg("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, text)),
    svg("text", { x: width / 2, y: height + 29, "text-anchor": "middle" }, title),
  );
  /** The data of a line through points. @param {number[][]} points */
  const line = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  return { el, x, y, line };
}

/** A histogram of what was drawn (bars) beside its law (dots), with a line at the mean
 * and a triangle at the last draw. @param {number[]} ticks @param {string} title */
export function histogram(ticks, title) {
  const chart = axes(ticks, PLAIN, title, 110, 12);
  const [bars, asked, dots, now] = paths(chart.el, "bar", "asked", "dots", "now");
  const peak = svg("text", { class: "peak", x: 14, y: 12 });
  chart.el.append(peak);
  const { x, el } = chart;
  const height = chart.y(0);
  return {
    el,
    /** @param {number[]} draws @param {number[][]} law [value, probability] at equal steps
     * @param {number} mean @param {number} last */
    show(draws, law, mean, last) {
      const step = law[1][0] - law[0][0];
      const counts = law.map(() => 0);
      for (const value of draws) counts[Math.round((value - law[0][0]) / step)]++;
      const shares = counts.map((count) => count / draws.length);
      const top = 1.4 * Math.max(...law.map(([, chance]) => chance));
      const y = (v) => chart.y(Math.min(v / top, 1));
      const highest = shares.indexOf(Math.max(...shares));
      const half = Math.min((x(step) - x(0)) * 0.4, 7);
      trace(bars, law.map(([s], i) =>
        shares[i] ? `M${x(s) - half} ${height}V${y(shares[i])}h${2 * half}V${height}z` : "").join(""));
      trace(dots, law.map(([s, v]) => (v > top / 500 ? `M${x(s)} ${y(v)}h0` : "")).join(""));
      trace(asked, `M${x(mean)} ${y(top)}V${height}`);
      peak.textContent = `tallest bar: ${counts[highest]} of ${draws.length}`;
      trace(now, `M${x(last)} ${height}l4-6h-8z`);
      label(el, `${title}: ${draws.length} draws as bars, their distribution as dots.`);
    },
  };
}

// The state of a page is in its address: "#anchor;name?key=value&...;name?...". What is
// as at first is left out. `name` is that of a figure, so that a figure alone is an anchor.

/** @param {string} hash @returns {{anchor: string, states: Map<string, string>}} */
export function readAddress(hash) {
  const states = new Map();
  let anchor = "";
  for (const part of hash.replace(/^#/, "").split(";")) {
    const at = part.indexOf("?");
    if (at >= 0) states.set(part.slice(0, at), part.slice(at + 1));
    else if (part) anchor = part;
  }
  return { anchor, states };
}

/** @param {string} anchor @param {Map<string, string>} states */
export function writeAddress(anchor, states) {
  const parts = [...states].filter(([, query]) => query).map(([name, query]) => `${name}?${query}`);
  return [anchor, ...parts].filter(Boolean).join(";");
}

/** The values that a query names; what it does not name, or wrongly, stays as at first.
 * @param {Record<string, Parameter>} parameters @param {string} query
 * @param {Record<string, any>} [initial] */
export function readState(parameters, query, initial = {}) {
  /** @type {Record<string, any>} */
  const values = {};
  const given = new URLSearchParams(query);
  for (const [key, parameter] of Object.entries(parameters)) {
    values[key] = initial[key] ?? parameter.value;
    const text = given.get(key);
    if (text === null) continue;
    if ("min" in parameter) {
      const { min, max, step } = parameter;
      const value = Number(text);
      if (text.trim() === "" || !(value >= min && value <= max)) continue;
      values[key] = Number((min + Math.round((value - min) / step) * step).toFixed(9));
    } else if ("options" in parameter ? Object.hasOwn(parameter.options, text) : parameter.pattern.test(text))
      values[key] = text;
  }
  return values;
}

/** The query that says how a state differs from another.
 * @param {Record<string, any>} values @param {Record<string, any>} initial */
export function writeState(values, initial) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(values))
    if (value !== initial[key]) query.set(key, String(value));
  return query.toString();
}
