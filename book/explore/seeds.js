// Seeds by hand: where blocks overlap, which places drop most often.

import { coverCounts, covered, dropBlockGamma, generator, starts, sumOf, times } from "./laws.js";
import { begin, box, button, change, finish, fixed, h, hatching, label, note, paths, short, squares, svg, trace, unique, walk } from "./shared.js";

const SIZE = 14; // the map is SIZE × SIZE

const parameters = {
  k: { label: "k, side of a block", value: 5, min: 1, max: SIZE, step: 1, digits: 0 },
  p: { label: "p, probability to drop", value: 0.45, min: 0.05, max: 0.9, step: 0.05 },
  border: { label: "Blocks at the border", value: "valid", options: { valid: "stay inside", clip: "are cut off" } },
  seeds: { value: "2.7_3.0_4.1_8.4", pattern: /^(-?\d{1,2}\.-?\d{1,2}(_-?\d{1,2}\.-?\d{1,2})*)?$/ },
  at: { value: "5.5", pattern: /^-?\d{1,2}\.-?\d{1,2}$/ },
  throw: { label: "throw", value: 0, min: 0, max: 9999, step: 1 },
};

/** The places of a text like "2.7_3.0" at which a block may begin.
 * @param {string} text @param {number} k @param {string} border @returns {number[][]} */
export function places(text, k, border) {
  const [first, last] = starts(SIZE, k, border);
  const all = text ? text.split("_").map((one) => one.split(".").map(Number)) : [];
  return all.filter((one) => one.every((v) => v >= first && v <= last));
}

/** How many blocks lie over each element, row by row.
 * @param {number[][]} seeds @param {number} k */
export function lying(seeds, k) {
  const counts = new Array(SIZE ** 2).fill(0);
  for (const [row, column] of seeds) for (const i of covered(row, column, k, SIZE)) counts[i]++;
  return counts;
}

/** What is known of one element before any is set.
 * @param {number} row @param {number} column @param {number} k @param {number} p
 * @param {string} border */
export function place(row, column, k, p, border) {
  const line = coverCounts(SIZE, k, border);
  const covers = line[row] * line[column];
  const gamma = dropBlockGamma(SIZE, SIZE, k, p, border);
  const keep = (1 - gamma) ** covers;
  return { covers, gamma, drop: 1 - keep, weight: 1 / keep };
}

function render(where) {
  const { model, el, table, input, read } = begin(where, parameters);
  const id = unique();
  const ground = svg("rect", { width: SIZE, height: SIZE, class: "ground" });
  const board = svg("svg", {}, svg("defs", {}, hatching(id, 0.5)), ground);
  const [fell, edge, grid, frame, could, marks, cursor] = paths(board, "fell", "edge", "grid", "frame", "could", "cross", "cursor");
  const twice = svg("g");
  board.append(twice);
  fell.setAttribute("style", `fill: url(#${id})`);
  trace(frame, `M0 0h${SIZE}v${SIZE}h-${SIZE}z`);

  /** Put a seed where there is none, or take it away. @param {number} row
   * @param {number} column */
  function toggle(row, column) {
    const { k, border, seeds } = read();
    const [first, last] = starts(SIZE, k, border);
    const at = `${row}.${column}`;
    if (Math.min(row, column) < first || Math.max(row, column) > last) return change(model, { at });
    const now = places(seeds, k, border).map((one) => one.join("."));
    const next = now.includes(at) ? now.filter((one) => one !== at) : [...now, at];
    change(model, { at, seeds: next.join("_") });
  }
  const at = () => model.get("at").split(".").map(Number);
  const least = () => Math.min(starts(SIZE, model.get("k"), model.get("border"))[0], 0);
  walk(board, SIZE, at, (row, column) => change(model, { at: `${row}.${column}` }), toggle, least);

  /** Throw a seed at every place with probability gamma. */
  function throwSeeds() {
    const { k, p, border } = read();
    const number = model.get("throw") + 1;
    const random = generator(number, k, 5);
    const gamma = dropBlockGamma(SIZE, SIZE, k, p, border);
    const [first, last] = starts(SIZE, k, border);
    const seeds = [];
    for (let i = first; i <= last; i++) for (let j = first; j <= last; j++) if (random() < gamma) seeds.push(`${i}.${j}`);
    change(model, { seeds: seeds.join("_"), throw: number });
  }

  function show() {
    const { k, p, border, seeds: text } = read();
    const seeds = places(text, k, border);
    const counts = lying(seeds, k);
    const dropped = counts.filter(Boolean).length;
    const area = sumOf(counts);
    const [i, j] = at();
    const [row, column] = [i, j].map((v) => Math.max(0, Math.min(v, SIZE - 1)));
    const known = place(row, column, k, p, border);
    const [first, last] = starts(SIZE, k, border);
    const margin = border === "clip" ? k - 1 : 0;
    board.setAttribute("viewBox", `${-margin - 0.2} ${-margin - 0.2} ${SIZE + margin + 0.4} ${SIZE + margin + 0.4}`);
    trace(fell, squares(counts, SIZE));
    trace(edge, seeds.map(([y, x]) => `M${x} ${y}h${k}v${k}h-${k}z`).join(""));
    twice.replaceChildren(...counts.flatMap((count, i) => (count < 2 ? [] :
      svg("text", { x: (i % SIZE) + 0.5, y: Math.floor(i / SIZE) + 0.78, "text-anchor": "middle" }, String(count)))));
    const lines = times(SIZE + margin + 1, (i) => i - margin);
    trace(grid, lines.map((v) => `M${-margin} ${v}H${SIZE}M${v} ${-margin}V${SIZE}`).join(""));
    trace(marks, seeds.map(([y, x]) => `M${x + 0.25} ${y + 0.25}l.5 .5m0 -.5l-.5 .5`).join(""));
    // The seed places that would cover the place: a rectangle.
    const from = [row, column].map((v) => Math.max(v - k + 1, first));
    const to = [row, column].map((v) => Math.min(v, last));
    trace(could, `M${from[1]} ${from[0]}H${to[1] + 1}V${to[0] + 1}H${from[1]}z`);
    trace(cursor, `M${j} ${i}h1v1h-1z`);

    const many = seeds.length === 1 ? "1 seed" : `${seeds.length} seeds`;
    table.show([
      [`${many} × k²`, `${seeds.length} · ${k ** 2} = ${seeds.length * k ** 2}`],
      ["elements dropped", `${dropped} of ${SIZE ** 2}: ${fixed(dropped / SIZE ** 2, 3)}`],
      ["lost to overlaps", String(area - dropped)],
      ...(border === "clip" ? [(["lost over the border", String(seeds.length * k ** 2 - area)])] : []),
      ["γ that drops p on average", short(known.gamma)],
      [`seed places that can drop (${row}, ${column})`, String(known.covers)],
      [h("span", {}, "its P(drop) = 1 − (1 − γ)", h("sup", {}, String(known.covers))), fixed(known.drop, 3)],
      ["its weight, 1 / P(keep)", short(known.weight)],
    ]);
    const words = `${many}; ${dropped} of ${SIZE ** 2} elements dropped, ${area - dropped} lost to overlaps. Row ${row}, column ${column}: ${known.covers} seed place${known.covers === 1 ? "" : "s"} can drop it, with probability ${fixed(known.drop)}.` +
      (Math.min(i, j) < first || Math.max(i, j) > last ? " No block may begin here: it would not lie inside the map." : "");
    label(board, `A map of ${SIZE} by ${SIZE}. Arrow keys move, Enter sets a seed or takes it away. ${words}`);
    return words;
  }
  el.append(
    box("columns",
      h("div", {}, board,
        note("Press a place: a seed (cross) is the upper left corner of its block. Numbers: blocks that overlap. Dashed: the seed places that can drop the place you chose (thick frame).")),
      h("div", {},
        input("k"), input("p"), input("border"),
        box("buttons", button("Throw seeds", throwSeeds), button("Clear", () => change(model, { seeds: "" }))),
        table.el)),
  );
  finish(where, show, [
    ["Go to the corner", "How many seed places can drop it now, and how many the middle? Which is dropped more?", { at: "0.0", border: "valid", k: 5 }],
    ["Cut at the border", "Blocks may hang over. Compare the same two places again.", { at: "0.0", border: "clip", k: 5 }],
  ]);
}

export default { parameters, render };
