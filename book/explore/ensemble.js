// All thinned nets of a small net, two averages, and one pass.

import { generator, sumOf, times } from "./laws.js";
import { axes, begin, box, button, change, finish, fixed, h, heading, label, note, paths, picture, PLAIN, short, svg, trace } from "./shared.js";

const C = 6; // channels after each convolution
const S = 25; // values in a map of the second

const parameters = {
  photo: { label: "Photograph", value: "0", options: { 0: "first", 1: "second", 2: "third", 3: "fourth" } },
  p: { label: "p, to drop a channel (trained with 0.3)", value: 0.3, min: 0, max: 0.9, step: 0.05 },
  mask: { value: "111111111111", pattern: /^[01]{12}$/ },
  draw: { label: "draw", value: 0, min: 0, max: 9999, step: 1 },
};

/** @param {ArrayLike<number>} logits */
export function softmax(logits) {
  const top = Math.max(...Array.from(logits));
  const e = Array.from(logits, (z) => Math.exp(z - top));
  const sum = sumOf(e);
  return e.map((v) => v / sum);
}

/** What each of the second layer's channels adds to each logit, when the channels of the
 * first are multiplied by these factors. @param {any} data @param {number[]} parts
 * @param {number[]} factors @returns {number[][]} */
function behind(data, parts, factors) {
  return data.bias.map((bias, out) => {
    const added = new Array(10).fill(0);
    for (let s = 0; s < S; s++) {
      let z = bias;
      factors.forEach((f, i) => (z += f * parts[(i * C + out) * S + s]));
      if (z > 0) for (let k = 0; k < 10; k++) added[k] += (z * data.head[k][out * S + s]) / 1e6;
    }
    return added;
  });
}

/** All thinned nets on one photograph, by mask number; averages, one pass, mean loss.
 * @param {any} data @param {number} photo @param {number} p */
export function ensemble(data, photo, p) {
  const { parts, label } = data.photos[photo];
  const q = 1 - p;
  const bits = (m) => times(C, (i) => (m >> (C - 1 - i)) & 1);
  const logits = (added, factors) =>
    data.head_bias.map((b, k) =>
      factors.reduce((sum, f, out) => sum + f * added[out][k], b / 1000));
  const chances = times(64, (m) => bits(m).reduce((c, bit) => c * (bit ? q : p), 1));
  const arithmetic = new Array(10).fill(0);
  const middle = new Array(10).fill(0); // mean logits
  /** @type {{chance: number, given: number, best: number, loss: number}[]} */
  const members = [];
  let loss = 0;
  for (let a = 0; a < 64; a++) {
    const added = behind(data, parts, bits(a).map((bit) => bit / q));
    for (let b = 0; b < 64; b++) {
      const z = logits(added, bits(b).map((bit) => bit / q));
      const found = softmax(z);
      const chance = chances[a] * chances[b];
      const top = Math.max(...z);
      const own = Math.log(z.reduce((sum, one) => sum + Math.exp(one - top), 0)) + top - z[label]; // −log P
      members.push({ chance, given: found[label], best: z.indexOf(top), loss: own });
      if (!chance) continue;
      for (let k = 0; k < 10; k++) {
        arithmetic[k] += chance * found[k];
        middle[k] += chance * z[k];
      }
      loss += chance * own;
    }
  }
  const ones = new Array(C).fill(1);
  return { members, label, arithmetic, geometric: softmax(middle), plain: softmax(logits(behind(data, parts, ones), ones)), loss };
}

// The marks: name, glyph around its middle, class.
const MARKS = {
  arithmetic: ["arithmetic mean", "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0", "line-2"],
  geometric: ["geometric mean", "m-4.5 -4.5h9v9h-9z", "line-1"],
  plain: ["one pass, no masks", "m0 -6l6 6l-6 6l-6 -6z", "line-0"],
  this: ["this thinned net", "m0 -5l5 9h-10z", "now"],
};

function render(place) {
  const { model, el, table, input, read } = begin(place, parameters);
  const data = model.get("data");
  const chart = axes([0, 0.5, 1], PLAIN, "probability of the true class", 120);
  const [bars] = paths(chart.el, "bar");
  const kinds = Object.values(MARKS);
  const drawn = paths(chart.el, ...kinds.map(([, , kind]) => `mark ${kind}`));
  const names = kinds.map(() => h("span"));
  const list = h("ul", { class: "legend" }, kinds.map(([, glyph, kind], i) =>
    h("li", {}, svg("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" },
      svg("path", { d: `M0 0${glyph}`, class: `mark ${kind}` })), names[i])));
  const view = svg("svg", { viewBox: "0 0 28 28", class: "photo", role: "img" });
  const words = h("p");
  const heads = times(2 * C, (i) =>
    button("", () => {
      const mask = [...model.get("mask")];
      mask[i] = mask[i] === "1" ? "0" : "1";
      change(model, { mask: mask.join("") });
    }));
  const draw = () => {
    const number = (model.get("draw") + 1) % 10000;
    const random = generator(number, 2, 12);
    const coin = () => (random() >= model.get("p") ? "1" : "0");
    change(model, { draw: number, mask: times(2 * C, coin).join("") });
  };
  let known = "";
  /** @type {any} */
  let all;

  function show() {
    const { photo, p, mask } = read();
    const { words: title, pixels, label: real } = data.photos[photo];
    if (known !== `${photo} ${p}`) {
      all = ensemble(data, Number(photo), p);
      known = `${photo} ${p}`;
      view.replaceChildren(svg("rect", { width: 28, height: 28, class: "ground" }), ...picture(pixels, 28));
      label(view, data.classes[real]);
      const heights = new Array(25).fill(0);
      for (const { given, chance } of all.members) heights[Math.min(Math.floor(25 * given), 24)] += chance;
      const top = Math.max(...heights);
      const width = chart.x(0.04) - chart.x(0);
      trace(bars, heights.map((v, i) => `M${chart.x(i / 25) + 0.5} ${chart.y(0)}v${(-96 * v) / top}h${width - 1}V${chart.y(0)}z`).join(""));
    }
    const member = all.members[parseInt(mask, 2)];
    const values = { arithmetic: all.arithmetic[real], geometric: all.geometric[real], plain: all.plain[real], this: member.given };
    Object.values(values).forEach((value, i) => {
      trace(drawn[i], `M${chart.x(value).toFixed(1)} 10${kinds[i][1]}`);
      names[i].textContent = `${kinds[i][0]} ${fixed(value, 3)}`;
    });
    heads.forEach((head, i) => {
      const on = mask[i] === "1";
      head.textContent = on ? "●" : "✕";
      label(head, `Layer ${i < C ? 1 : 2}, channel ${(i % C) + 1}: ${on ? "kept" : "dropped"}`);
    });
    words.replaceChildren(h("strong", {}, data.classes[real]), `: ${title}. Your net says ${data.classes[member.best]}.`);
    const loss = (v) => fixed(-Math.log(v), 3);
    const most = ` (theorem: at most ${fixed(all.loss, 3)})`;
    table.show([
      ["probability of this mask", short(member.chance)],
      ["loss of this net, −log P", fixed(member.loss, 3)],
      ["mean loss of all 4,096 nets", fixed(all.loss, 3)],
      ["arithmetic mean" + most, loss(values.arithmetic)],
      ["geometric mean" + most, loss(values.geometric)],
      ["one pass: no theorem", loss(values.plain)],
    ]);
    const text = `p ${fixed(p)}: ${Object.entries(values).map(([kind, v]) => `${MARKS[kind][0]} ${fixed(v, 3)}`).join(", ")}.`;
    label(chart.el, `Histogram of all thinned nets. ${text}`);
    return text;
  }
  el.append(
    input("photo"),
    box("columns",
      h("div", {}, box("beside", view, words), chart.el, list,
        note("Bars: all thinned nets, each as often as its mask is drawn.")),
      h("div", {}, input("p"),
        heading("Channels of two layers; what is kept counts 1/q-fold"),
        h("div", { class: "heads", role: "group", "aria-label": "Channels" }, heads),
        box("buttons", button("Draw a net", draw)), table.el)),
  );
  finish(place, show, [
    ["Second photograph", "Which mark does one pass stand beside: is it the average of the nets?", { photo: "1" }],
    ["A small rate", "p = 0.1: how far apart are the marks?", { p: 0.1 }],
  ]);
}

export default { parameters, render };
