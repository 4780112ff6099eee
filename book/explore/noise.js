// The noise of each mask in a sum: which pairs of values count.

import { dropBlockGamma, sumOf, times } from "./laws.js";
import { begin, box, cells, finish, fixed, gauge, h, heading, label, svg, trace } from "./shared.js";

const MAP = 4; // values in a map
const N = 8; // in two maps
const METHODS = { element: "one value", block: "two neighbours", channel: "a map", path: "everything" };

const parameters = {
  method: { label: "Dropped together", value: "channel", options: METHODS },
  p: { label: "p, probability to drop", value: 0.2, min: 0.05, max: 0.9, step: 0.05 },
  ...Object.fromEntries(times(N, (i) =>
    [`u${i}`, { label: `value ${i + 1}`, value: 1, min: -1, max: 1, step: 0.1, digits: 1 }])),
};

/** Cov(mᵢ, mⱼ) / (E mᵢ · E mⱼ).
 * @param {string} method @param {number} p @returns {number[][]} */
export function covariance(method, p) {
  const gamma = dropBlockGamma(1, MAP, 2, p, "valid");
  const map = (i) => Math.floor(i / MAP);
  const places = (i) => [i - 1, i].filter((s) => map(s) === map(i) && s % MAP < MAP - 1);
  const group = (i) => ({ element: i, channel: map(i), path: 0 })[method];
  return times(N, (i) => times(N, (j) => {
    if (method !== "block") return group(i) === group(j) ? p / (1 - p) : 0;
    return (1 - gamma) ** -places(i).filter((s) => places(j).includes(s)).length - 1;
  }));
}

/** The added variance, Σ K u u. @param {number[]} u @param {number[][]} K */
export const added = (u, K) => K.reduce((sum, row, i) => row.reduce((s, k, j) => s + k * u[i] * u[j], sum), 0);

function render(place) {
  const { el, table, formula, input, read } = begin(place, parameters);
  const matrix = cells(N, `M0 ${MAP}h${N}M${MAP} 0v${N}`);
  matrix.el.setAttribute("viewBox", "-1 -1 9.2 9.2");
  const minus = svg("path", { class: "asked" });
  matrix.el.append(svg("path", { class: "grid", d: times(N, (i) => `M0 ${i}h8M${i} 0v8`).join("") }),
    ...times(N, (i) => [i + 0.5, -0.5].map((x, k, at) => svg("text", { x, y: at[1 - k] }, i + 1))).flat(), minus);
  const bars = Object.values(METHODS).map((name) => gauge(name));

  function show() {
    const { method, p, ...terms } = read();
    const u = Object.values(terms);
    const K = covariance(method, p);
    const most = Math.max(...K.flat());
    const parts = K.flatMap((row, i) => row.map((k, j) => k * u[i] * u[j]));
    matrix.show(parts.map((part) => Math.abs(part) / most));
    trace(minus, parts.map((part, i) => (part < 0 ? `M${(i % N) + 0.2} ${Math.floor(i / N) + 0.5}h.6` : "")).join(""));
    label(matrix.el, `K of ${METHODS[method]}: ${K.flat().filter(Boolean).length} of 64 pairs, most ${fixed(most)}.`);
    const found = Object.keys(METHODS).map((name) => Math.max(added(u, covariance(name, p)), 0));
    const top = Math.max(...found, 1e-9);
    bars.forEach((bar, i) => bar.show(found[i] / top, fixed(found[i], 3)));
    formula.textContent = `noise, over all pairs: ${fixed(added(u, K), 3)}`;
    table.show([
      ["the maps’ sums, no masks", [0, MAP].map((i) => fixed(sumOf(u.slice(i, i + MAP)))).join(", ")],
    ]);
    return `p ${fixed(p)}: added variance ${Object.values(METHODS).map((name, i) => `${name} ${fixed(found[i], 3)}`).join(", ")}.`;
  }
  const column = (from) => h("div", {}, heading(from ? "second map" : "first map"),
    times(MAP, (i) => input(`u${from + i}`)));
  const set = (signs) => Object.fromEntries(signs.map((s, i) => [`u${i}`, s]));
  el.append(
    input("method"),
    box("columns",
      h("div", {}, box("between pair", column(0), column(MAP)), input("p")),
      h("div", {}, formula, box("beside", matrix.el, h("span", { class: "note" }, "A cell is a pair: K times both values, the fuller the larger. −: negative.")),
        h("ul", { class: "list" }, bars.map(({ row }) => row)), table.el)),
  );
  finish(place, show, [
    ["A contrast in each map", "Each map adds up to 0. Which mask is the noisiest, which adds nothing?", { ...set([1, 1, -1, -1, 1, 1, -1, -1]), method: "block" }],
    ["One map against the other", "One map is dropped, or everything. Which adds more?", { ...set([1, 1, 1, 1, -1, -1, -1, -1]), method: "path" }],
  ]);
}

export default { parameters, render };
