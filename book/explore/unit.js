// One hidden unit: where one pass stands, with ReLUs after it and without.

import { times } from "./laws.js";
import { axes, begin, box, finish, fixed, h, label, paths, ring, trace } from "./shared.js";

const parameters = {
  p: { label: "p", value: 0.5, min: 0.1, max: 0.5, step: 0.1, digits: 1 },
  relu: { label: "What reads v", value: "on", options: { on: "ReLUs", off: "no ReLU" } },
};

const sigmoid = (z) => 1 / (1 + Math.exp(-z));

/** The logit of the true class, for v ≥ 0. @param {number} v @param {boolean} relu */
const logit = (v, relu) => (relu ? -5 * (v - 2 * Math.max(v - 1, 0)) : 5 * (v - 2));

/** The true class's share: nets (v = 0, 1/q), averages, one pass.
 * @param {number} p @param {boolean} relu */
export function twoUnits(p, relu) {
  const z = [0, 1 / (1 - p), 1].map((v) => logit(v, relu));
  const [dropped, kept, plain] = z.map(sigmoid);
  return { dropped, kept, arithmetic: p * dropped + (1 - p) * kept, geometric: sigmoid(p * z[0] + (1 - p) * z[1]), plain };
}

function render(place) {
  const { el, table, input, read } = begin(place, parameters);
  const chart = axes([0, 1, 2], [0, 5, 10], "the hidden unit v (up: loss)");
  const [curve, nets, mean, one] = paths(chart.el, "line line-1 mean", "mark line-0", "mark line-1", "mark line-0");

  function show() {
    const { p, ...now } = read();
    const relu = now.relu === "on";
    const lost = Object.values(twoUnits(p, relu)).map((share) => -Math.log(share));
    const { x: across, y: up } = chart;
    const x = across(1);
    trace(curve, chart.line(times(81, (i) => [i / 40, -Math.log(sigmoid(logit(i / 40, relu)))])));
    trace(nets, ring(across(0), up(lost[0])) + ring(across(1 / (1 - p)), up(lost[1])));
    trace(mean, `M${x - 8} ${up(lost[3]) - 8}h16v16h-16z`);
    trace(one, `M${x} ${up(lost[4]) - 6}l6 6l-6 6l-6 -6z`);
    const rows = ["dropped (ring)", "kept (ring)", "", "geometric mean (square)", "one pass (diamond)"].map((name, i) => [name, fixed(lost[i])]);
    rows.splice(2, 1);
    table.show(rows);
    const words = `Losses: ${rows.map((row) => row.join(" ")).join(", ")}.`;
    label(chart.el, words);
    return words;
  }
  el.append(input("relu"), input("p"), box("columns", h("div", {}, chart.el), table.el));
  finish(place, show, [
    ["No ReLU", "Now the logit is linear in v. Where has the diamond gone?", { relu: "off" }],
    ["A small rate", "p = 0.1: how far is the diamond from the square now?", { p: 0.1 }],
  ]);
}

export default { parameters, render };
