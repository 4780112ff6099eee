// What its neighbours, and another map, tell of a value that was dropped.

import { generator, sumOf, times } from "./laws.js";
import { axes, begin, box, button, change, finish, fixed, h, hatching, label, note, paths, picture, ring, squares, svg, trace, unique, walk } from "./shared.js";

const SIZE = 10; // the map is SIZE × SIZE
const ALL = SIZE ** 2;

const parameters = {
  rho: { label: "ρ, correlation of neighbours", value: 0.9, min: 0, max: 0.95, step: 0.05 },
  tau: { label: "τ, correlation with another map", value: 0, min: 0, max: 0.95, step: 0.05 },
  p: { label: "p, probability to drop a value", value: 0.3, min: 0.05, max: 0.95, step: 0.05 },
  gone: { value: "2120518f008cd4001e7226008", pattern: /^[0-9a-f]{25}$/ }, // four squares to a digit
  at: { value: "4.4", pattern: /^\d\.\d$/ },
  seed: { label: "seed", value: 1, min: 1, max: 999, step: 1 },
};

/** Which values are gone, from the text of the state. @param {string} text */
export const holes = (text) => [...text].flatMap((digit) => [8, 4, 2, 1].map((bit) => Number((parseInt(digit, 16) & bit) > 0)));
/** The text of the state. @param {number[]} gone */
export const written = (gone) =>
  times(ALL / 4, (i) => parseInt(gone.slice(4 * i, 4 * i + 4).join(""), 2).toString(16)).join("");

/** A map of normal values of which neighbours in a line have the correlation rho.
 * @param {number} rho @param {() => number} random */
export function field(rho, random) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const map = times(ALL, normal);
  const fresh = Math.sqrt(1 - rho ** 2);
  for (const step of [1, SIZE]) // along the rows, then along the columns
    map.forEach((z, i) => { if (Math.floor(i / step) % SIZE) map[i] = rho * map[i - step] + fresh * z; });
  return map;
}

/** The best guess of what is gone from all that is left, and the variance that remains.
 * For normal values it is linear. The inverse covariance of such a map is a product of
 * two tridiagonal ones, and with Q of it over the gaps: guess = −Q⁻¹ Q' x, variance Q⁻¹.
 * @param {number[]} map @param {number[]} gone @param {number} rho */
export function restore(map, gone, rho) {
  const list = gone.flatMap((one, i) => (one ? [i] : []));
  const line = (a, b) => {
    if (Math.abs(a - b) > 1) return 0;
    return (a !== b ? -rho : a % (SIZE - 1) ? 1 + rho ** 2 : 1) / (1 - rho ** 2);
  };
  const Q = (i, j) =>
    line(Math.floor(i / SIZE), Math.floor(j / SIZE)) * line(i % SIZE, j % SIZE);
  // Gauss and Jordan on [Q | right side | identity]; Q is positive definite.
  const n = list.length;
  const rows = list.map((i, r) => [
    ...list.map((j) => Q(i, j)),
    -map.reduce((sum, v, j) => sum + (gone[j] ? 0 : Q(i, j) * v), 0),
    ...list.map((_, c) => Number(c === r)),
  ]);
  for (let c = 0; c < n; c++) {
    const pivot = rows[c][c];
    for (let k = c; k <= 2 * n; k++) rows[c][k] /= pivot;
    for (let r = 0; r < n; r++) {
      const factor = rows[r][c];
      if (r !== c && factor) for (let k = c; k <= 2 * n; k++) rows[r][k] -= factor * rows[c][k];
    }
  }
  const guess = map.slice();
  list.forEach((i, r) => (guess[i] = rows[r][n]));
  return { list, guess, left: list.map((_, r) => rows[r][n + 1 + r]) };
}

/** What eight neighbours restore, on average over maps. @param {number} rho */
export const ceiling = (rho) => 1 - ((1 - rho ** 2) / (1 + rho ** 2)) ** 2;

/** The variance left of what is gone, on average over gaps and maps.
 * @param {number[]} gone @param {number} rho */
export function remains(gone, rho) {
  const { left } = restore(gone, gone, rho);
  return sumOf(left) / (left.length || 1);
}

/** The expected share that is restored. Another map has the correlation tau with this
 * one, place by place; what it does not tell is a map of its own, and smaller.
 * @param {number} remaining @param {number} tau */
export const expected = (remaining, tau) => 1 - (1 - tau ** 2) * remaining;

function render(place) {
  const { model, el, table, input, read } = begin(place, parameters);
  const another = input("tau");
  const cursor = svg("path", { class: "cursor" });
  const [truth, gaps, guessed, other] = ["the truth", "what is left: press to erase", "the best guess", "another map, kept"].map((title, i) => {
    const id = unique();
    const [values, fell] = [svg("g"), svg("path", { style: `fill: url(#${id})` })];
    const view = svg("svg", { viewBox: `-.1 -.1 ${SIZE + 0.2} ${SIZE + 0.2}`, role: "img", "aria-label": title },
      svg("defs", {}, hatching(id, 0.5)), svg("rect", { width: SIZE, height: SIZE, class: "ground" }), values, fell, i === 1 ? cursor : []);
    const words = h("figcaption", {}, title);
    return { view, words, figure: h("figure", {}, view, words), show(map, gone) {
      values.replaceChildren(...picture(map.map((v, j) => (gone[j] ? "0" : Math.max(0, Math.min(15, Math.round(7.5 + 3 * v))).toString(16))).join(""), SIZE));
      trace(fell, squares(gone, SIZE));
    } };
  });
  const at = () => model.get("at").split(".").map(Number);
  walk(gaps.view, SIZE, at, (row, column) => change(model, { at: `${row}.${column}` }), (row, column) => {
    const gone = holes(model.get("gone"));
    const i = row * SIZE + column;
    if (!(i in gone)) return;
    gone[i] = 1 - gone[i];
    change(model, { at: `${row}.${column}`, gone: written(gone) });
  });
  const drop = () => {
    const seed = (model.get("seed") % 999) + 1;
    const random = generator(seed, 1, 10);
    change(model, { seed, gone: written(times(ALL, () => Number(random() < model.get("p")))) });
  };
  const chart = axes([0, 0.5, 1], [0, 0.5, 1], "ρ, correlation of neighbours");
  const grid = times(25, (i) => i / 24 * 0.96);
  const [top, curve, dot] = paths(chart.el, "asked", "line line-1 mean", "now");
  trace(top, chart.line(grid.map((r) => [r, ceiling(r)])));
  const none = new Array(ALL).fill(0);

  let known = "";
  /** @type {number[]} */
  let left = [];
  function show() {
    const { rho, tau, gone: text, seed } = read();
    const gone = holes(text);
    const own = field(rho, generator(seed, 3, 10));
    const kept = field(rho, generator(seed, 4, 10));
    const rest = Math.sqrt(1 - tau ** 2);
    const map = own.map((v, i) => tau * kept[i] + rest * v);
    const { list, guess } = restore(own, gone, rho);
    const best = guess.map((v, i) => tau * kept[i] + rest * v);
    truth.show(map, none);
    gaps.show(map, gone);
    guessed.show(best, none);
    other.show(kept, none);
    other.figure.hidden = !tau;
    another.hidden = !tau && list.length < ALL;
    const [row, column] = at();
    trace(cursor, `M${column} ${row}h1v1h-1z`);
    const share = expected(remains(gone, rho), tau);
    if (known !== text) left = grid.map((r) => remains(gone, r));
    known = text;
    trace(curve, chart.line(grid.map((r, i) => [r, expected(left[i], tau)])));
    trace(dot, ring(chart.x(rho), chart.y(share)));
    const i = row * SIZE + column;
    table.show([
      ["values that are gone", `${list.length} of ${ALL}`],
      ["restored, mean over maps: R²", fixed(share, 3)],
      [`row ${row + 1}, column ${column + 1}: truth`, fixed(map[i])],
      [gone[i] ? "its guess" : "it was not dropped", fixed(best[i])],
    ]);
    const words = `${list.length} of ${ALL} values are gone; at ρ ${fixed(rho)}${tau ? ` and τ ${fixed(tau)}` : ""} the best guess restores ${fixed(share, 3)} of their variance on average.`;
    label(gaps.view, `A map of ${SIZE} by ${SIZE}. Arrow keys move, Enter erases a value or brings it back. ${words}`);
    label(chart.el, `Restored share against the correlation. ${words}`);
    return words;
  }
  el.append(
    box("photos four", [gaps, guessed, truth, other].map(({ figure }) => figure)),
    h("p", { class: "key" }, "low ", ...[2, 5, 8, 11, 14].map((level) => svg("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, picture(level.toString(16), 1))), " high"),
    box("columns",
      h("div", {}, input("rho"), input("p"), another,
        box("buttons", button("Drop values", drop),
          button("Drop the map", () => change(model, { gone: "f".repeat(25) })), button("Drop nothing", () => change(model, { gone: "0".repeat(25) })))),
      h("div", {}, chart.el, note("Restored share, R². Solid: these gaps. Dashed: all eight neighbours are there, far from the border. Dot: now."))),
    table.el,
  );
  finish(place, show, [
    ["Lose the map", "ρ is 0.9, and R²? Who could still tell what was there? Another map: its slider τ, now shown, says how alike the two are.", { gone: "f".repeat(25), rho: 0.9, tau: 0 }],
    ["No correlation", "ρ = 0: which of the values come back now?", { gone: parameters.gone.value, rho: 0, tau: 0 }],
  ]);
}

export default { parameters, render };
