// What a norm sees after dropout, in training and in evaluation.

import { binomial, sumOf, times } from "./laws.js";
import { axes, begin, box, finish, fixed, h, label, note, paths, PLAIN, trace } from "./shared.js";

const C = 8; // channels that the layer before the norm adds up

const parameters = {
  p: { label: "p, probability to drop a channel", value: 0.5, min: 0, max: 0.7, step: 0.05 },
  mu: { label: "μ, mean of the channels", value: 0, min: 0, max: 3, step: 0.25 },
};

/** The law of z = Σ x m/q / √C for x of mean mu and variance 1: normal for each number
 * of channels kept, [probability, mean, variance]. In evaluation nothing is dropped.
 * @param {number} p @param {number} mu */
export const parts = (p, mu) =>
  binomial(C, 1 - p).map((chance, k) => [chance, (k * mu) / (1 - p) / Math.sqrt(C), k / (1 - p) ** 2 / C]);

/** The variance of z in training. @param {number} p @param {number} mu */
export const variance = (p, mu) => 1 + (p / (1 - p)) * (1 + mu ** 2);

/** The probabilities of bins of equal width; where all channels fell z is 0.
 * @param {number[][]} law @param {number} from @param {number} width @param {number} bins */
export function histogram(law, from, width, bins) {
  return times(bins, (i) => law.reduce((sum, [chance, m, v]) => {
    const low = from + i * width;
    if (!v) return sum + (m >= low && m < low + width ? chance : 0);
    // The density at five places of the bin.
    const at = [0.1, 0.3, 0.5, 0.7, 0.9].map((s) => Math.exp(-((low + s * width - m) ** 2) / 2 / v));
    return sum + (chance * width * sumOf(at)) / 5 / Math.sqrt(2 * Math.PI * v);
  }, 0));
}

const BINS = 60;

function render(place) {
  const { el, table, formula, input, read } = begin(place, parameters);
  const charts = [axes([-5, 0, 5, 10, 15, 20, 25], PLAIN, "the norm’s input, z", 100), axes([-4, -2, 0, 2, 4], PLAIN, "the norm’s output", 100)].map((chart, i) => {
    const [bars, line] = paths(chart.el, "bar", "asked");
    return { ...chart, bars, line, from: i ? -4 : -5, width: (i ? 8 : 30) / BINS };
  });

  function show() {
    const { p, mu } = read();
    const [seen, mean] = [variance(p, mu), Math.sqrt(C) * mu];
    charts.forEach(({ el: chart, x, y, bars, line, from, width }, i) => {
      const sd = Math.sqrt(seen);
      const scaled = (law) => (i ? law.map(([chance, m, v]) => [chance, (m - mean) / sd, v / seen]) : law);
      const heights = [p, 0].map((rate) => histogram(scaled(parts(rate, mu)), from, width, BINS));
      const top = 1.05 * Math.max(...heights.flat());
      const steps = (list) => list.map((v, n) => `V${y(v / top).toFixed(1)}H${x(from + (n + 1) * width).toFixed(1)}`).join("");
      trace(bars, `M${x(from)} ${y(0)}${steps(heights[0])}V${y(0)}z`);
      trace(line, `M${x(from)} ${y(0)}${steps(heights[1])}V${y(0)}`);
      label(chart, `${i ? "Output" : "Input"} of the norm: bars in training, a dashed line in evaluation.`);
    });
    formula.replaceChildren(h("span", {}, `Var[z] = 1 + (p/q)(1 + μ²) = 1 + ${fixed(p / (1 - p))} · ${fixed(1 + mu ** 2)} = `, h("b", {}, fixed(seen))));
    table.show([
      ["mean of z, training and evaluation", fixed(mean)],
      ["variance of z in training: the norm keeps it", fixed(seen)],
      ["variance of z in evaluation", "1.00"],
      ["output’s mean", "0"],
      ["output’s variance in training", "1.00"],
      ["output’s variance in evaluation", fixed(1 / seen, 3)],
    ]);
    return `p ${fixed(p)}, mean ${fixed(mu)}: variance of the input ${fixed(seen)} in training, 1 in evaluation; of the output 1 and ${fixed(1 / seen, 3)}.`;
  }
  el.append(
    box("columns",
      h("div", {}, charts.map(({ el: chart }) => chart),
        note("Bars: in training. Dashed: in evaluation. Both are exact. At a high p, in training: a peak where all eight channels are dropped.")),
      h("div", {}, input("p"), input("mu"), formula, table.el)),
  );
  finish(place, show, [
    ["A larger mean", "μ = 3: z has the same mean in both modes. Why does its variance differ so much more?", { mu: 3 }],
    ["Evaluate", "The norm divides by what it has kept. How wide is its output, and what did the next layer learn to expect?", { mu: 1 }],
  ]);
}

export default { parameters, render };
