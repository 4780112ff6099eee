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
 * @typedef {{get(key: string): any, set(key: string, value: any): void,
 *   save_changes(): void, on(event: string, callback: () => void): void}} Model
 * @typedef {{model: Model, el: HTMLElement}} Place
 */

/** Set attributes, listeners ("onclick") and children.
 * @template {Element} E
 * @param {E} made @param {Record<string, any>} attributes @param {any[]} children */
function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
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

/** A box of HTML of the class "explore-…". @param {string} name @param {...any} children */
export const box = (name, ...children) => h("div", { class: `explore-${name}` }, ...children);

/** Columns, of the parts of each. @param {...any[]} parts */
export const columns = (...parts) => box("columns", parts.map((part) => h("div", {}, part)));

/** Small print. @param {...any} text */
export const note = (...text) => h("p", { class: "explore-note" }, ...text);

/** The title of a part. @param {...any} text */
export const heading = (...text) => h("p", { class: "explore-title" }, ...text);

/** What a drawing is called by those who do not see it. @param {Element} el
 * @param {string} text */
export const label = (el, text) => el.setAttribute("aria-label", text);

/** Give a path its data. @param {Element} path @param {string} data */
export const trace = (path, data) => path.setAttribute("d", data);

/** Empty paths of the classes "explore-…", put into a drawing. @param {Element} el
 * @param {...string} names */
export function paths(el, ...names) {
  const made = names.map((name) => svg("path", { class: name.replace(/\S+/g, "explore-$&") }));
  el.append(...made);
  return made;
}

/** A number with so many digits behind the point, and a true minus sign.
 * @param {number} value */
export function fixed(value, digits = 2) {
  const text = value.toFixed(digits);
  return /[1-9]/.test(text) ? text.replace("-", "−") : text.replace("-", "");
}

/** A whole number as an exponent. @param {number} n */
export const raised = (n) => [...String(n)].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]).join("");

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
  const output = h("output", { class: "explore-value" });
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
  return h("label", { class: "explore-slider" }, h("span", {}, label, " ", output), input);
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
  return h(
    "fieldset", { class: "explore-choice" },
    h("legend", {}, label),
    h("div", {}, inputs.map(([, text]) => text)),
  );
}

/** @param {string} text @param {() => void} onclick */
export function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

/** A list of names and numbers that can be filled again and again. */
export function numbers(title = "Numbers of this setting") {
  const list = h("dl");
  const el = h("div", { class: "explore-numbers", role: "group", "aria-label": title }, list);
  return {
    el,
    /** @param {string[][]} rows */
    show(rows) {
      list.replaceChildren(...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    },
  };
}

/** Things to try: a question, and a button that sets what it asks for.
 * @param {Model} model @param {[string, string, Record<string, any>][]} tries */
function tries(model, tries) {
  return box("tries",
    h("strong", {}, "Try"),
    h("ul", {}, tries.map(([action, question, values]) =>
      h("li", {}, button(action, () => change(model, values)), " ", h("span", {}, question)))),
  );
}

/** Say a result to those who do not see it, once it has stayed for a moment. */
export function announcer() {
  const el = h("p", { class: "explore-unseen", role: "status" });
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

/** Draws that come one after another, or at once for those who ask for less motion.
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

/** What a figure begins with: its result in words, in numbers and as a formula; its inputs
 * by name; and its state.
 * @param {Place} place @param {Record<string, any>} parameters
 * @param {Record<string, any>} [more] what inputs take along */
export function begin({ model, el }, parameters, more) {
  return {
    model, el, said: announcer(), table: numbers(), formula: h("p", { class: "explore-formula" }),
    input: (key) => (parameters[key].options ? choice : slider)(model, key, parameters[key], more),
    now: () => stateOf(model, parameters),
  };
}

/** A number that a slider moves. @param {string} label @param {number} value
 * @param {number} min @param {number} max @param {number} step @param {number} [digits] */
export const number = (label, value, min, max, step, digits) => ({ label, value, min, max, step, digits });

/** One of a few. @param {string} label @param {string} value
 * @param {Record<string, string>} options */
export const oneOf = (label, value, options) => ({ label, value, options });

/** Blocks that stay inside of a map, or hang over its border. */
export const BORDER = oneOf("Blocks at the border", "valid", { valid: "stay inside", clip: "are cut off" });

/** What falls together: in words, and as the method's name. */
export const METHODS = { element: "one value", channel: "a map", block: "a block", path: "a sample’s branch" };
export const NAMES = { element: "Element dropout", channel: "SpatialDropout", block: "DropBlock", path: "DropPath" };

/** What every figure ends with: things to try and what is said; and it is shown, now and
 * whenever its state changes. @param {Place} place @param {{el: Element}} said
 * @param {() => void} show @param {[string, string, Record<string, any>][]} asks */
export function finish({ model, el }, said, show, asks) {
  el.append(tries(model, asks), said.el);
  model.on("change", show);
  show();
}

/** The diagonal strokes that mark what fell. @param {string} id */
export function hatching(id, size = 4) {
  return svg(
    "pattern", { id, width: size, height: size, patternUnits: "userSpaceOnUse" },
    svg("rect", { width: size, height: size, class: "explore-fell" }),
    svg("path", { d: `M-1 1L1 -1M0 ${size}L${size} 0M${size - 1} ${size + 1}L${size + 1} ${size - 1}`, class: "explore-stroke", "stroke-width": size / 4 }),
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

/** A picture in the colour of the ink, on its ground: a digit of 0 to f for each of
 * size × size values. @param {string} text @param {number} size */
export function picture(text, size) {
  const levels = [...text].map((digit) => parseInt(digit, 16));
  return [
    svg("rect", { width: size, height: size, class: "explore-ground" }),
    ...[...new Set(levels)].filter(Boolean).map((level) =>
      svg("path", { d: squares(levels.map((l) => Number(l === level)), size), class: "explore-picture", "fill-opacity": fixed(level / 15) })),
  ];
}

/** The squares of a map, one by one, and the drawing of them under what lies over.
 * @param {number} size @param {...any} over */
export function cells(size, ...over) {
  const all = times(size ** 2, (i) =>
    svg("rect", { x: i % size, y: Math.floor(i / size), width: 1, height: 1, "shape-rendering": "crispEdges" }));
  const view = svg("svg", { viewBox: `-.2 -.2 ${size + 0.4} ${size + 0.4}`, role: "img", class: "explore-places" }, all, over);
  return { view, show: (opacity) => all.forEach((cell, i) => cell.setAttribute("fill-opacity", fixed(opacity[i], 3))) };
}

/** A bar with a name and a value above it, of 300 × 20. @param {string} name
 * @param {any} [ground] what lies under the bar @param {any} [below] */
export function gauge(name, ground, below) {
  const value = h("span", { class: "explore-value" });
  const el = svg("svg", { viewBox: "0 0 300 20", preserveAspectRatio: "none", class: "explore-gauge", "aria-hidden": "true" }, ground);
  const [bar, asked] = paths(el, "bar", "asked");
  return { bar, asked, value, row: h("li", {}, box("between", h("strong", {}, name), value), el, below) };
}

/** Let a drawing of squares be clicked, and walked over with the arrow keys.
 * @param {any} board @param {number} size @param {() => number[]} at the square now
 * @param {(row: number, column: number) => void} move
 * @param {(row: number, column: number) => void} press
 * @param {() => number} [least] the first row and column */
export function walk(board, size, at, move, press, least = () => 0) {
  fill(board, { class: "explore-board", tabindex: 0, role: "application", "aria-roledescription": "map" }, []);
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

/** Axes, and where values lie in them. Ticks are values, or [value, text].
 * @param {any[]} across @param {any[]} up @param {string} title @param {number} [height] @param {number} [left] */
export function axes(across, up, title, height = 150, left = 30) {
  const width = 300;
  const ticks = (list) => list.map((t) => (Array.isArray(t) ? t : [t, String(t).replace("-", "−")]));
  const [xs, ys] = [ticks(across), ticks(up)];
  const [x0, x1, y0, y1] = [xs[0][0], xs[xs.length - 1][0], ys[0][0], ys[ys.length - 1][0]];
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - 12);
  const y = (v) => height - ((v - y0) / (y1 - y0)) * (height - 16);
  const el = svg(
    "svg", { viewBox: `0 0 ${width} ${height + 34}`, role: "img", class: "explore-plot" },
    svg("path", { d: `M${left} ${left > 12 ? 8 : height}V${height}H${width - 12}`, class: "explore-axis" }),
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
  const chart = axes(ticks, [[0, ""], [1, ""]], title, 110, 12);
  const [bars, asked, dots, now] = paths(chart.el, "bar", "asked", "dots", "now");
  const peak = svg("text", { "text-anchor": "middle" });
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
      const top = Math.max(...law.map(([, chance]) => chance), ...shares);
      const y = (v) => chart.y(v / top);
      const highest = shares.indexOf(Math.max(...shares));
      const half = Math.min((x(step) - x(0)) * 0.4, 7);
      trace(bars, law.map(([s], i) =>
        shares[i] ? `M${x(s) - half} ${height}V${y(shares[i])}h${2 * half}V${height}z` : "").join(""));
      trace(dots, law.map(([s, v]) => (v > top / 500 ? `M${x(s)} ${y(v)}h0` : "")).join(""));
      trace(asked, `M${x(mean)} 6V${height}`);
      peak.setAttribute("x", x(law[highest][0]));
      peak.setAttribute("y", y(shares[highest]) - 3);
      peak.textContent = `${counts[highest]} of ${draws.length}`;
      trace(now, `M${x(last)} ${height + 1}l4 5h-8z`);
      label(el, `${title}: ${draws.length} draws as bars, their law as dots.`);
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
