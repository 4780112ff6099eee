// The variance that each mask adds to a sum: which products of terms it counts.

import { dropBlockGamma, sumOf, times } from "./laws.js";
import { begin, box, cells, finish, fixed, gauge, h, heading, label, note, short } from "./shared.js";

const MAP = 4; // values in a map
const N = 8; // in two maps
const METHODS = { element: "one value", block: "a block of 2", channel: "a map", path: "everything" };

const parameters = {
  method: { label: "Dropped together: K of", value: "channel", options: METHODS },
  p: { label: "p, probability to drop", value: 0.2, min: 0.05, max: 0.9, step: 0.05 },
  ...Object.fromEntries(times(N, (i) =>
    [`u${i}`, { label: `u${"₁₂₃₄₅₆₇₈"[i]}`, value: 1, min: -1, max: 1, step: 0.1, digits: 1 }])),
};

/** How the masks of two values go together: Cov(mᵢ, mⱼ) / (E mᵢ · E mⱼ).
 * @param {string} method @param {number} p @returns {number[][]} */
export function covariance(method, p) {
  const gamma = dropBlockGamma(1, MAP, 2, p, "valid");
  // Blocks of two start at the first three values of a map.
  const places = (i) => [i - 1, i].filter((s) => Math.floor(s / MAP) === Math.floor(i / MAP) && s % MAP < MAP - 1);
  const group = (i) => ({ element: i, channel: Math.floor(i / MAP), path: 0 })[method];
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
  const bars = Object.values(METHODS).map((name) => gauge(name));

  function show() {
    const { method, p, ...terms } = read();
    const u = Object.values(terms);
    const K = covariance(method, p);
    const most = Math.max(...K.flat());
    matrix.show(K.flat().map((k) => k / most));
    label(matrix.el, `K of ${METHODS[method]}: ${K.flat().filter(Boolean).length} of 64 pairs, up to ${short(most)}.`);
    const found = Object.keys(METHODS).map((name) => Math.max(added(u, covariance(name, p)), 0));
    const top = Math.max(...found, 1e-9);
    bars.forEach((bar, i) => bar.show(found[i] / top, fixed(found[i], 3)));
    const sum = (from, to) => sumOf(u.slice(from, to));
    const now = found[Object.keys(METHODS).indexOf(method)];
    formula.textContent = `Var = Σ Kᵢⱼ uᵢuⱼ = ${fixed(now, 3)}`;
    table.show([
      ["sum without masks", fixed(sum(0, N))],
      ["sums of the two maps", `${fixed(sum(0, MAP))}, ${fixed(sum(MAP, N))}`],
      ["p/q", short(p / (1 - p))],
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
      h("div", {}, formula, box("beside", matrix.el, h("span", { class: "note" }, "Square (i, j): Kᵢⱼ, the fuller the larger.")),
        h("ul", { class: "list" }, bars.map(({ row }) => row)), table.el)),
  );
  finish(place, show, [
    ["A contrast in each map", "Each map adds up to 0. Which method is the noisiest now, and which adds nothing?", { ...set([1, 1, -1, -1, 1, 1, -1, -1]), method: "block" }],
    ["One map against the other", "A map is dropped alone, a path whole. Which adds more?", { ...set([1, 1, 1, 1, -1, -1, -1, -1]), method: "path" }],
  ]);
}

export default { parameters, render };
