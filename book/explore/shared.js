// What all interactive figures share: elements, inputs, numbers, the address.
//
// A module is a plain ES module in the form of anywidget:
// `export default { parameters, render({ model, el }) }`. The model holds the state:
// get(key), set(key, value), save_changes() and on("change:key", callback).

/**
 * @typedef {{label: string, value: number, min: number, max: number, step: number,
 *   digits?: number}} NumberParameter
 * @typedef {{label: string, value: string, options: Record<string, string>}} Choice
 * @typedef {{value: string, pattern: RegExp}} Text
 * @typedef {NumberParameter | Choice | Text} Parameter
 * @typedef {{get(key: string): any, set(key: string, value: any): void,
 *   save_changes(): void, on(event: string, callback: () => void): void}} Model
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

/** A slider with its value beside its name.
 * @param {Model} model @param {string} key @param {NumberParameter} parameter */
export function slider(model, key, parameter) {
  const { label, min, max, step, digits = 2 } = parameter;
  const output = h("output", { class: "explore-value" });
  const input = h("input", {
    type: "range", min, max, step, name: key,
    oninput: () => change(model, { [key]: Number(input.value) }),
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
 * @param {Choice} parameter */
export function choice(model, key, { label, options }) {
  const group = unique();
  const inputs = Object.entries(options).map(([value, text]) => {
    const input = h("input", {
      type: "radio", name: group, value,
      onchange: () => change(model, { [key]: value }),
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

/** A list of names and numbers that can be filled again and again.
 * @param {string} title */
export function numbers(title) {
  const list = h("dl");
  const el = h("div", { class: "explore-numbers", role: "group", "aria-label": title }, list);
  return {
    el,
    /** @param {[string, string][]} rows */
    show(rows) {
      list.replaceChildren(...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    },
  };
}

/** Things to try: a question, and a button that sets what it asks for.
 * @param {Model} model @param {[string, string, Record<string, any>][]} tries */
export function tries(model, tries) {
  return h(
    "div", { class: "explore-tries" },
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

/** The diagonal strokes that mark what fell. @param {string} id */
export function hatching(id, size = 4) {
  return svg(
    "pattern", { id, width: size, height: size, patternUnits: "userSpaceOnUse" },
    svg("rect", { width: size, height: size, class: "explore-fell" }),
    svg("path", { d: `M-1 1L1 -1M0 ${size}L${size} 0M${size - 1} ${size + 1}L${size + 1} ${size - 1}`, class: "explore-stroke", "stroke-width": size / 4 }),
  );
}

/** A histogram of what was drawn (bars) beside its law (dots), with a line at the mean
 * and a triangle at the last draw. @param {number[]} ticks @param {string} title */
export function histogram(ticks, title) {
  const [width, height] = [300, 110];
  const [low, high] = [ticks[0], ticks[ticks.length - 1]];
  const x = (/** @type {number} */ s) => 12 + ((s - low) / (high - low)) * (width - 24);
  const [bars, asked, dots, now] = ["bar", "asked", "dots", "now"].map((name) => svg("path", { class: `explore-${name}` }));
  const el = svg(
    "svg", { viewBox: `0 0 ${width} ${height + 34}`, role: "img", class: "explore-plot" },
    bars, asked, dots, now,
    svg("path", { d: `M${x(low)} ${height}H${x(high)}`, class: "explore-axis" }),
    ticks.map((s) => svg("text", { x: x(s), y: height + 14, "text-anchor": "middle" }, String(s))),
    svg("text", { x: width / 2, y: height + 29, "text-anchor": "middle" }, title),
  );
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
      const y = (/** @type {number} */ v) => height - (v / top) * (height - 12);
      const half = Math.min((x(step) - x(0)) * 0.4, 7);
      bars.setAttribute("d", law.map(([s], i) =>
        shares[i] ? `M${x(s) - half} ${height}V${y(shares[i])}h${2 * half}V${height}z` : "").join(""));
      dots.setAttribute("d", law.map(([s, v]) => (v > top / 500 ? `M${x(s)} ${y(v)}h0` : "")).join(""));
      asked.setAttribute("d", `M${x(mean)} 6V${height}`);
      now.setAttribute("d", `M${x(last)} ${height + 1}l4 5h-8z`);
      el.setAttribute("aria-label", `${title}: ${draws.length} draws as bars, their law as dots.`);
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
