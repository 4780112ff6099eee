// Four ways to drop: single values, feature maps, blocks of a map, the whole branch.

import { binomial, drawMask, dropBlockGamma, generator, keepProbability, share, shareVariance } from "./laws.js";
import { announcer, button, change, choice, fixed, h, hatching, histogram, numbers, short, slider, still, svg, tries, unique } from "./shared.js";

const N = 4; // samples
const C = 4; // feature maps
const SIZE = 14; // a map is SIZE × SIZE
const MOST = 1000; // draws that are kept in view

/** @type {Record<string, import("./shared.js").Parameter>} */
const parameters = {
  method: {
    label: "What falls together",
    value: "element",
    options: { element: "one value", channel: "a map", block: "a block", path: "a sample’s branch" },
  },
  p: { label: "p, probability to drop", value: 0.25, min: 0, max: 0.9, step: 0.05 },
  k: { label: "k, side of a block", value: 5, min: 1, max: SIZE, step: 1, digits: 0 },
  border: {
    label: "Blocks at the border",
    value: "valid",
    options: { valid: "stay inside", clip: "are cut off" },
  },
  seed: { label: "seed", value: 1, min: 1, max: 999, step: 1 },
  draws: { label: "draws", value: 1, min: 1, max: MOST, step: 1 },
};

const NAMES = { element: "Element dropout", channel: "SpatialDropout", block: "DropBlock", path: "DropPath" };
const ASKED = { element: N * C * SIZE ** 2, channel: N * C, path: N };

/** What a setting means in numbers.
 * @param {string} method @param {number} p @param {number} k @param {string} border */
export function meaning(method, p, k, border) {
  if (method !== "block") {
    const asked = ASKED[/** @type {keyof typeof ASKED} */ (method)];
    const keep = new Array(SIZE ** 2).fill(1 - p);
    return { asked, rate: p, keep, spread: Math.sqrt((p * (1 - p)) / asked) };
  }
  const gamma = dropBlockGamma(SIZE, SIZE, k, p, border);
  const positions = border === "clip" ? SIZE + k - 1 : SIZE - k + 1;
  return {
    asked: N * C * positions ** 2,
    rate: gamma,
    keep: keepProbability(SIZE, SIZE, k, gamma, border),
    spread: Math.sqrt(shareVariance(SIZE, k, gamma, border) / (N * C)),
  };
}

/** The method that a setting amounts to: blocks of one value, or as large as the map.
 * @param {{method: string, k: number, border: string}} state */
export function amounts({ method, k, border }) {
  if (method !== "block") return method;
  if (k === 1) return "element";
  return k === SIZE && border === "valid" ? "channel" : "block";
}

/** The law of the share that falls, in bins: [middle, probability] for each.
 * @param {string} method @param {number} p @param {number} spread */
export function law(method, p, spread) {
  if (method === "channel" || method === "path") {
    const n = ASKED[method];
    return binomial(n, p).map((chance, i) => [i / n, chance]);
  }
  const bins = Array.from({ length: 41 }, (_, i) => [i / 40, 0]);
  if (method === "element") {
    const n = ASKED.element;
    binomial(n, p).forEach((chance, i) => (bins[Math.round((i / n) * 40)][1] += chance));
    return bins;
  }
  // No closed form is known for blocks: a normal curve with the exact mean and spread.
  for (const bin of bins)
    bin[1] = spread && (0.025 * Math.exp(-(((bin[0] - p) / spread) ** 2) / 2)) / (spread * Math.sqrt(2 * Math.PI));
  return bins;
}

/** The mask of the draw with this number: the same for everyone.
 * @param {Record<string, any>} state @param {number} number */
export function draw({ method, p, k, border, seed }, number) {
  return drawMask(method, { N, C, size: SIZE, p, k, border }, generator(seed, number, 14));
}

/** Squares as the data of one path.
 * @param {ArrayLike<number>} chosen which of SIZE × SIZE are meant, from `start` on */
function squares(chosen, start = 0) {
  let d = "";
  for (let i = 0; i < SIZE; i++)
    for (let j = 0; j < SIZE; j++) {
      let run = 0;
      while (j + run < SIZE && chosen[start + i * SIZE + j + run]) run++;
      if (run) d += `M${j} ${i}h${run}v1h-${run}z`;
      j += run;
    }
  return d;
}

/** The lines between what fell and what did not, as the data of one path.
 * @param {Uint8Array} fell @param {number} start */
function outline(fell, start) {
  let d = "";
  const at = (/** @type {number} */ i, /** @type {number} */ j) =>
    i >= 0 && j >= 0 && i < SIZE && j < SIZE ? fell[start + i * SIZE + j] : 0;
  for (let i = 0; i <= SIZE; i++)
    for (let j = 0; j <= SIZE; j++) {
      if (at(i, j) !== at(i - 1, j)) d += `M${j} ${i}h1`;
      if (at(i, j) !== at(i, j - 1)) d += `M${j} ${i}v1`;
    }
  return d;
}

/** A picture of the maps under the mask. @param {any} data */
function drawMaps(data) {
  const id = unique();
  const gap = 1.5;
  const step = SIZE + gap;
  const side = N * step - gap;
  const paths = data.maps.flatMap((/** @type {string[]} */ sample, /** @type {number} */ n) =>
    sample.map((text, c) => {
      const levels = [...text].map((digit) => parseInt(digit, 16));
      const shown = [...new Set(levels)].filter(Boolean).map((level) =>
        svg("path", { d: squares(levels.map((l) => Number(l === level))), "fill-opacity": fixed(level / 15) }));
      const fell = svg("path", { style: `fill: url(#${id})` });
      const edge = svg("path", { class: "explore-edge" });
      return [fell, edge, svg("g", { transform: `translate(${c * step} ${n * step})` },
        svg("rect", { width: SIZE, height: SIZE, class: "explore-ground" }), shown, fell, edge)];
    }));
  const el = svg(
    "svg", { viewBox: `-6 -3.5 ${side + 6.3} ${side + 3.8}`, class: "explore-maps", role: "img" },
    svg("defs", {}, hatching(id, 1.5)),
    ["map 1", "map 2", "map 3", "map 4"].map((text, c) =>
      svg("text", { x: c * step + SIZE / 2, y: -1.2, "text-anchor": "middle" }, text)),
    data.samples.map((/** @type {string} */ text, /** @type {number} */ n) =>
      svg("text", { transform: `translate(-1.5 ${n * step + SIZE / 2}) rotate(-90)`, "text-anchor": "middle" }, text)),
    paths.map((/** @type {any[]} */ [, , group]) => group),
  );
  return {
    el,
    /** @param {Uint8Array} mask @param {string} text */
    show(mask, text) {
      paths.forEach((/** @type {any[]} */ [fell, edge], /** @type {number} */ i) => {
        fell.setAttribute("d", squares(mask, i * SIZE ** 2));
        edge.setAttribute("d", outline(mask, i * SIZE ** 2));
      });
      el.setAttribute("aria-label", text);
    },
  };
}

/** The probability to be kept, place by place. */
function drawPlaces() {
  const cells = Array.from({ length: SIZE ** 2 }, (_, i) =>
    svg("rect", { x: i % SIZE, y: Math.floor(i / SIZE), width: 1, height: 1, "shape-rendering": "crispEdges" }));
  const el = svg("svg", { viewBox: `-0.2 -0.2 ${SIZE + 0.4} ${SIZE + 0.4}`, role: "img", class: "explore-places" },
    cells, svg("rect", { width: SIZE, height: SIZE, class: "explore-frame" }));
  const words = h("span");
  return {
    el: h("div", { class: "explore-beside" }, el, words),
    /** @param {number[]} keep */
    show(keep) {
      cells.forEach((cell, i) => cell.setAttribute("fill-opacity", fixed(keep[i], 3)));
      const [corner, centre] = [keep[0], keep[(SIZE / 2) * SIZE + SIZE / 2]];
      const text = Math.abs(corner - centre) < 5e-4
        ? `${fixed(corner)} at every place`
        : `corner ${fixed(corner)}, centre ${fixed(centre)}`;
      words.textContent = text;
      el.setAttribute("aria-label", `Probability of a place of the map to be kept: ${text}.`);
    },
  };
}

/** @param {{model: import("./shared.js").Model, el: HTMLElement}} place */
function render({ model, el }) {
  const maps = drawMaps(model.get("data"));
  const chart = histogram([0, 0.25, 0.5, 0.75, 1], "share of all values that fell");
  const places = drawPlaces();
  const formula = h("p", { class: "explore-formula" });
  const table = numbers("Numbers of this setting");
  const said = announcer();
  const block = h("div", { class: "explore-row" }, slider(model, "k", /** @type {any} */ (parameters.k)),
    choice(model, "border", /** @type {any} */ (parameters.border)));

  let known = ""; // the setting that `shares` belong to
  /** @type {number[]} */
  let shares = [];
  const state = () => Object.fromEntries(Object.keys(parameters).map((key) => [key, model.get(key)]));

  function show() {
    const now = state();
    const { method, p, k, border, draws } = now;
    const setting = [method, p, method === "block" && [k, border], now.seed].join();
    if (setting !== known || draws < shares.length) shares = [];
    known = setting;
    while (shares.length < draws - 1) shares.push(share(draw(now, shares.length + 1)));
    const mask = draw(now, draws);
    if (shares.length < draws) shares.push(share(mask));

    const { asked, rate, keep, spread } = meaning(method, p, k, border);
    const mean = shares.reduce((a, b) => a + b) / shares.length;
    const dropped = shares[shares.length - 1];
    const least = Math.min(...keep);
    const most = Math.max(...keep);
    const weights = most - least < 1e-12 ? short(1 / most) : `${short(1 / most)} to ${short(1 / least)}`;
    block.hidden = method !== "block";
    const name = NAMES[/** @type {keyof typeof NAMES} */ (method)];
    formula.replaceChildren(h("strong", {}, name), h("span", {}, "y = x · ", h("b", {}, "mask"), ` · ${weights}`));
    table.show([
      ["random numbers drawn", `${asked}`],
      [method === "block" ? "γ, chance of each to start a block" : "chance of each to drop", method === "block" ? short(rate) : fixed(rate)],
      ["dropped in this draw", fixed(dropped, 3)],
      [draws === 1 ? "mean of 1 draw" : `mean of ${draws} draws`, fixed(mean, 3)],
      ["expected share, p", fixed(p, 3)],
      ["spread of a draw around it (s.d.)", fixed(spread, 3)],
    ]);
    maps.show(mask, `${N} samples of ${C} feature maps under the mask of ${name}: ${fixed(100 * dropped, 0)} percent of the values fell.`);
    chart.show(shares, law(amounts({ method, k, border }), p, spread), p, dropped);
    places.show(keep);
    said.say(`${name}, p ${fixed(p)}: ${fixed(dropped, 3)} dropped now, ${fixed(mean, 3)} in the mean of ${draws}.`);
  }

  let running = 0;
  /** @param {number} goal */
  function go(goal) {
    cancelAnimationFrame(running);
    const to = Math.min(goal, still() ? goal : model.get("draws") + 4);
    change(model, { draws: Math.min(to, MOST) });
    if (to < goal) running = requestAnimationFrame(() => go(goal));
  }
  /** @param {number} more */
  function redraw(more) {
    if (model.get("draws") + more > MOST) change(model, { seed: (model.get("seed") % 999) + 1, draws: 1 });
    go(model.get("draws") + more);
  }
  // Another setting begins anew: draws of different laws have no common mean.
  for (const key of ["method", "p", "k", "border"])
    model.on(`change:${key}`, () => {
      cancelAnimationFrame(running);
      known = "";
    });
  model.on("change", show);

  el.append(
    h("div", { class: "explore-top" }, choice(model, "method", /** @type {any} */ (parameters.method))),
    h("div", { class: "explore-columns" },
      h("div", {}, maps.el,
        h("p", { class: "explore-key" }, svg("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, svg("defs", {}, hatching("explore-key")),
          svg("rect", { width: 14, height: 14, fill: "url(#explore-key)" })), " dropped: 0. The rest is multiplied by the scale.")),
      h("div", {},
        formula,
        slider(model, "p", /** @type {any} */ (parameters.p)),
        block,
        h("div", { class: "explore-buttons" }, button("Draw again", () => redraw(1)), button("100 more draws", () => redraw(100))),
        table.el)),
    h("div", { class: "explore-columns" },
      h("div", {}, h("p", { class: "explore-title" }, "Share dropped, draw by draw"), chart.el,
        h("p", { class: "explore-note" })),
      h("div", {}, h("p", { class: "explore-title" }, "P(keep), place by place"), places.el)),
    tries(model, [
      ["Drop whole maps", "100 draws: how often does exactly a quarter fall?", { method: "channel", p: 0.25, draws: 100 }],
      ["Blocks of 14", "What has DropBlock become? Look at the picture, and at the numbers drawn.", { method: "block", k: SIZE, border: "valid", draws: 1 }],
    ]),
    said.el,
  );
  const note = el.querySelector(".explore-note");
  const explain = () => {
    if (note) note.textContent = `Bars: the draws so far. Dots: ${
      amounts(/** @type {any} */ (state())) === "block" ? "a normal curve with the exact mean and spread; the law itself has no closed form" : "the binomial law, exact"
    }. Line: p. Triangle: this draw.`;
  };
  model.on("change", explain);
  explain();
  show();
}

export default { parameters, render };
