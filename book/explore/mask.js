// Four ways to drop: single values, feature maps, blocks of a map, the whole branch.

import { binomial, drawMask, dropBlockGamma, generator, keepProbability, share, shareVariance, sumOf, times } from "./laws.js";
import { begin, box, button, cells, drawing, finish, fixed, h, hatching, heading, histogram, label, METHOD, NAMES, note, picture, short, squares, svg, trace, unique } from "./shared.js";

const N = 4; // samples
const C = 4; // feature maps
const SIZE = 14; // a map is SIZE × SIZE
const MOST = 1000; // draws that are kept in view

const parameters = {
  method: { ...METHOD, value: "element" },
  p: { label: "p, the chance to be dropped", value: 0.25, min: 0, max: 0.9, step: 0.05 },
  k: { label: "k, side of a block", value: 5, min: 1, max: SIZE, step: 1, digits: 0 },
  border: { label: "Blocks at the border", value: "valid", options: { valid: "stay inside", clip: "are cut off" } },
  seed: { label: "seed", value: 132, min: 1, max: 999, step: 1 },
  draws: { label: "draws", value: 100, min: 1, max: MOST, step: 1 },
};

const ANEW = { draws: 100 }; // what is changed begins so
const COIN = { element: "value", channel: "map", block: "place of a block", path: "sample" };
const ASKED = { element: N * C * SIZE ** 2, channel: N * C, path: N };

/** What a setting means in numbers.
 * @param {string} method @param {number} p @param {number} k @param {string} border */
export function meaning(method, p, k, border) {
  if (method !== "block") {
    const asked = ASKED[method];
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

/** The law of the dropped share, in bins: [middle, probability] for each.
 * @param {string} method @param {number} p @param {number} spread */
export function law(method, p, spread) {
  if (method === "channel" || method === "path") {
    const n = ASKED[method];
    return binomial(n, p).map((chance, i) => [i / n, chance]);
  }
  const bins = times(41, (i) => [i / 40, 0]);
  if (method === "element") {
    const n = ASKED.element;
    binomial(n, p).forEach((chance, i) => (bins[Math.round((i / n) * 40)][1] += chance));
    return bins;
  }
  // Blocks have no closed form: a normal curve with the exact mean and spread.
  for (const bin of bins)
    bin[1] = spread && (0.025 * Math.exp(-(((bin[0] - p) / spread) ** 2) / 2)) / (spread * Math.sqrt(2 * Math.PI));
  return bins;
}

/** The mask of the draw with this number: the same for everyone.
 * @param {Record<string, any>} state @param {number} number */
export function draw({ method, p, k, border, seed }, number) {
  return drawMask(method, { N, C, size: SIZE, p, k, border }, generator(seed, number, 14));
}

/** A picture of the maps under the mask. @param {any} data */
function drawMaps(data) {
  const id = unique();
  const gap = 1.5;
  const step = SIZE + gap;
  const side = N * step - gap;
  const paths = data.maps.flatMap((sample, n) =>
    sample.map((text, c) => {
      const fell = svg("path", { class: "gone", style: `fill: url(#${id})` });
      return [fell, svg("g", { transform: `translate(${c * step} ${n * step})` },
        svg("rect", { width: SIZE, height: SIZE, class: "ground" }), picture(text, SIZE), fell)];
    }));
  const skips = svg("path", { class: "frame", d: data.samples.map((_, n) => {
    const [top, middle, end] = [n * step, n * step + SIZE / 2, side + 2];
    return `M-.6 ${middle}V${top + SIZE + 0.75}H${end}V${middle + 1}M${side} ${middle}H${end + 1}` +
      `m-2 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0m1 -1v2`;
  }).join("") });
  const el = svg(
    "svg", { viewBox: `-6 -3.5 ${side + 9.3} ${side + 4.8}`, class: "maps", role: "img" },
    svg("defs", {}, hatching(id, 1.5)),
    times(C, (c) => svg("text", { x: c * step + SIZE / 2, y: -1.2, "text-anchor": "middle" }, `map ${c + 1}`)),
    data.samples.map((text, n) =>
      svg("text", { transform: `translate(-1.5 ${n * step + SIZE / 2}) rotate(-90)`, "text-anchor": "middle" }, text)),
    paths.map(([, group]) => group), skips,
  );
  return {
    el,
    /** @param {Uint8Array} mask @param {string} method @param {string} text */
    show(mask, method, text) {
      skips.setAttribute("visibility", method === "path" ? "visible" : "hidden");
      paths.forEach(([fell], i) => trace(fell, squares(mask, SIZE, i * SIZE ** 2)));
      label(el, text);
    },
  };
}

/** The probability to be kept, place by place. */
function drawPlaces() {
  const { el, show } = cells(SIZE);
  const words = h("span");
  return {
    el: h("div", {}, heading("P(keep), place by place"), box("beside", el, words)),
    /** @param {number[]} keep */
    show(keep) {
      show(keep);
      const [corner, centre] = [keep[0], keep[(SIZE / 2) * SIZE + SIZE / 2]];
      const text = `corner ${fixed(corner)}, centre ${fixed(centre)}`;
      words.textContent = text;
      label(el, `Probability of a place to be kept: ${text}.`);
    },
  };
}

function render(place) {
  const { model, el, table, formula, input, read } = begin(place, parameters, ANEW);
  const maps = drawMaps(model.get("data"));
  const chart = histogram([0, 0.25, 0.5, 0.75, 1], "share of all values dropped");
  const places = drawPlaces();
  const skip = h("span", {}, " The line below the maps is the skip: a sample without its branch goes on by it alone (⊕ adds the two).");
  const key = note();
  const block = box("row", input("k"), input("border"));

  let known = ""; // the setting that `shares` belong to
  /** @type {number[]} */
  let shares = [];

  function show() {
    const now = read();
    const { method, p, k, border, draws } = now;
    const setting = [method, p, method === "block" && [k, border], now.seed].join();
    if (setting !== known || draws < shares.length) shares = [];
    known = setting;
    while (shares.length < draws - 1) shares.push(share(draw(now, shares.length + 1)));
    const mask = draw(now, draws);
    if (shares.length < draws) shares.push(share(mask));

    const { asked, rate, keep, spread } = meaning(method, p, k, border);
    const mean = sumOf(shares) / shares.length;
    const dropped = shares[shares.length - 1];
    const least = Math.min(...keep);
    const most = Math.max(...keep);
    const even = most - least < 1e-12;
    const weights = even ? `1/(1 − p), here ${short(1 / most)}` : `1/P(keep), ${short(1 / most)} to ${short(1 / least)}`;
    const exact = shares.filter((s) => Math.abs(s - p) < 1e-9).length;
    block.hidden = method !== "block";
    skip.hidden = method !== "path";
    const name = NAMES[method];
    formula.replaceChildren(h("strong", {}, name), h("span", {}, "y = x · ", h("b", {}, "mask"), ` · ${weights}`));
    places.el.hidden = even;
    table.show([
      [`coins tossed, one for each ${COIN[method]}`, `${asked}`],
      [method === "block" ? "γ, chance of each to drop a block" : "chance of each to drop", method === "block" ? short(rate) : fixed(rate)],
      ["dropped in this draw", fixed(dropped, 3)],
      [draws === 1 ? "mean of 1 draw" : `mean of ${draws} draws`, fixed(mean, 3)],
      ["draws with exactly p", `${exact} of ${draws}`],
      ["spread of a draw around p (s.d.)", fixed(spread, 3)],
    ]);
    maps.show(mask, method, `${N} samples of ${C} feature maps under the mask of ${name}: ${fixed(100 * dropped, 0)} percent dropped.`);
    chart.show(shares, law(amounts(now), p, spread), p, dropped);
    places.show(keep);
    key.textContent = `Bars: draws so far. Dots: ${
      amounts(now) === "block" ? "a normal curve with the exact mean and spread; the distribution itself has no closed form" : "the binomial distribution, exact"
    }. Line: p. Triangle: this draw.`;
    return `${name}, p ${fixed(p)}: ${fixed(dropped, 3)} dropped now, ${fixed(mean, 3)} in the mean of ${draws}, exactly p in ${exact}.`;
  }

  const { more, stop } = drawing(model, MOST, 4);
  // Another setting begins anew: other draws have another mean.
  for (const key of ["method", "p", "k", "border"])
    model.on(`change:${key}`, () => {
      stop();
      known = "";
    });

  el.append(
    box("top", input("method")),
    box("columns swap",
      h("div", {}, maps.el,
        h("p", { class: "key" }, svg("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, svg("defs", {}, hatching("explore-key")),
          svg("rect", { width: 14, height: 14, fill: "url(#explore-key)" })), " dropped: 0. The rest is scaled up, so that the mean stays.", skip),
        places.el),
      h("div", {},
        formula,
        input("p"),
        block,
        box("buttons", button("Draw again", () => more(1)), button("100 more draws", () => more(100))),
        box("after", heading("Share dropped, by draw"), chart.el, key))),
    table.el,
  );
  finish(place, show, [
    ["Drop whole maps", "1000 draws of 16 maps: how often are exactly four dropped?", { method: "channel", p: 0.25, draws: 1000 }],
    ["Blocks of 14", "What has DropBlock become? Look at the picture, and count the coins.", { method: "block", k: SIZE, border: "valid", draws: 1 }],
  ]);
}

export default { parameters, render };
