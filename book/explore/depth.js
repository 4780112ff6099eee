// Sixteen samples flow through twelve residual blocks, some of them closed.

import { depthLaw, dropPathRates, generator, sumOf, times } from "./laws.js";
import { begin, box, button, change, drawing, finish, fixed, h, heading, histogram, label, note, paths, svg, trace } from "./shared.js";

const N = 16; // samples
const L = 12; // blocks
const MOST = 500; // mini-batches that are kept in view

const parameters = {
  p: { label: "p_max, largest rate", value: 0.5, min: 0, max: 0.9, step: 0.05 },
  schedule: {
    label: "Rates by depth", value: "linear",
    options: { linear: "linear", linear1: "linear1", constant: "constant" },
  },
  mode: { label: "One coin per", value: "row", options: { row: "sample", batch: "mini-batch" } },
  // Block by block: "." by its coin, "x" closed, "o" open.
  blocks: { value: "............", pattern: /^[.xo]{12}$/ },
  draws: { label: "draws", value: 1, min: 1, max: MOST, step: 1 },
  seed: { label: "seed", value: 3, min: 1, max: 999, step: 1 },
};

const ANEW = { draws: 1 }; // what a reader changes begins with one mini-batch

/** The rates of a setting: 1 for a block that is closed, 0 for one that is open.
 * @param {number} p @param {string} schedule @param {string} blocks */
export const rates = (p, schedule, blocks) =>
  dropPathRates(p, L, schedule).map((rate, l) => ({ x: 1, o: 0 })[blocks[l]] ?? rate);

/** What the law says: mean and spread of one depth, and of the mean depth of a batch.
 * @param {number[]} rate @param {string} mode */
export function moments(rate, mode) {
  const mean = rate.reduce((sum, p) => sum + 1 - p, 0);
  const spread = Math.sqrt(rate.reduce((sum, p) => sum + p * (1 - p), 0));
  return { mean, spread, ofMean: mode === "row" ? spread / Math.sqrt(N) : spread };
}

/** Which sample (row) takes which branch, in the mini-batch with this number.
 * @param {number[]} rate @param {string} mode @param {number} seed @param {number} number
 * @returns {boolean[][]} */
export function batch(rate, mode, seed, number) {
  const random = generator(seed, number, 12);
  const coins = () => rate.map((p) => random() >= p);
  const first = coins();
  return times(N, (n) => (mode === "batch" || !n ? first : coins()));
}

const [STEP, ROW, LEFT, TOP] = [22, 16, 8, 44];

function render(place) {
  const { model, el, table, input, read } = begin(place, parameters, ANEW);
  const chart = histogram([0, 2, 4, 6, 8, 10, 12], "depth: branches that a sample takes");
  const right = LEFT + L * STEP + 6;
  const depths = times(N, (n) =>
    svg("text", { x: right + 24, y: TOP + n * ROW + 12, "text-anchor": "end" }));
  const flow = svg(
    "svg", { viewBox: `0 0 ${right + 26} ${TOP + N * ROW + 4}`, class: "flow", role: "img" },
    svg("text", { x: LEFT, y: 9 }, "p of each block"), svg("text", { x: right + 24, y: 9, "text-anchor": "end" }, "depth"),
    depths,
  );
  const [bars, skips, open] = paths(flow, "drop", "skip", "open");
  // Buttons below the picture, so that keys reach them.
  const heads = times(L, (l) =>
    button("", () => {
      const blocks = [...model.get("blocks")];
      blocks[l] = { ".": "x", x: "o", o: "." }[blocks[l]] ?? ".";
      change(model, { ...ANEW, blocks: blocks.join("") });
    }));

  let known = "";
  /** @type {number[][]} */
  let seen = []; // the depths of each mini-batch

  function show() {
    const { p, schedule, mode, blocks, draws, seed } = read();
    const rate = rates(p, schedule, blocks);
    const setting = [p, schedule, mode, blocks, seed].join();
    if (setting !== known || draws < seen.length) seen = [];
    known = setting;
    while (seen.length < draws) seen.push(batch(rate, mode, seed, seen.length + 1).map((row) => row.filter(Boolean).length));
    const grid = batch(rate, mode, seed, draws);
    const depth = seen[draws - 1];

    trace(bars, rate.map((r, l) => `M${LEFT + l * STEP + 3} 40v${-26 * r}h${STEP - 6}V40z`).join(""));
    let [lines, boxes] = ["", ""];
    grid.forEach((row, n) => {
      const y = TOP + n * ROW + 8;
      lines += `M0 ${y}H${right}`;
      row.forEach((taken, l) => {
        const x = LEFT + l * STEP;
        if (taken) boxes += `M${x + 3} ${y - 5}h${STEP - 6}v10h${6 - STEP}z`;
      });
    });
    trace(skips, lines);
    trace(open, boxes);
    depths.forEach((text, n) => (text.textContent = String(depth[n])));
    heads.forEach((head, l) => {
      head.textContent = { ".": String(l), x: "✕", o: "●" }[blocks[l]] ?? "";
      label(head, `Block ${l}: ${{ ".": `dropped with ${fixed(rate[l])}`, x: "always closed", o: "always open" }[blocks[l]]}`);
    });

    const { mean, spread, ofMean } = moments(rate, mode);
    const all = seen.flat();
    const average = sumOf(all) / all.length;
    const batchMean = sumOf(depth) / N;
    const least = Math.min(...depth);
    const most = Math.max(...depth);
    table.show([
      ["depth in this mini-batch", least === most ? `${least}, all ${N} samples` : `${least} to ${most}`],
      ["its mean", fixed(batchMean)],
      [draws === 1 ? "mean of 1 mini-batch" : `mean of ${draws} mini-batches`, fixed(average)],
      ["expected depth, Σ q", fixed(mean)],
      ["spread of a sample’s depth (s.d.)", fixed(spread)],
      ["spread of a mini-batch’s mean", fixed(ofMean)],
    ]);
    const law = depthLaw(rate);
    chart.show(all, law.map((chance, d) => [d, chance]), mean, depth[0]);
    const words = `Expected depth ${fixed(mean)} (so far ${fixed(average)}). Spread of a mini-batch’s mean: ${fixed(spread / 4)} with one coin per sample, ${fixed(spread)} per mini-batch. All twelve: ${fixed(100 * law[L], 1)} %.`;
    label(flow, `${N} samples pass ${L} blocks; a box is a branch that a sample takes. ${words}`);
    return words;
  }

  const { more, stop } = drawing(model, MOST, 3);
  for (const key of ["p", "schedule", "mode", "blocks"]) model.on(`change:${key}`, stop);

  el.append(
    box("columns swap",
      h("div", {}, flow,
        h("div", { class: "heads", role: "group", "aria-label": "Blocks" }, heads),
        note("Rows: samples. A box is a branch that is taken, a bare line the skip. Press a block’s number to close it (✕), to open it (●), to leave it to its coin.")),
      h("div", {}, input("p"), input("schedule"), input("mode"),
        box("buttons", button("Next mini-batch", () => more(1)), button("100 more", () => more(100))),
        box("after", heading("Depth of the samples so far"), chart.el,
          note("Bars: all samples so far. Dots: the exact distribution. Line: Σ q. Triangle: sample 0 now.")))),
    table.el,
  );
  finish(place, show, [
    ["Per mini-batch", "One coin for all: does the expected depth change? And the spread of a mini-batch’s mean?", { mode: "batch", draws: 1 }],
    ["0.25 everywhere", "The mean depth stays 9. Does a sample pass all twelve more often? (linear to 0.5: 2.4 %)", { p: 0.25, schedule: "constant", draws: 100 }],
  ]);
}

export default { parameters, render };
