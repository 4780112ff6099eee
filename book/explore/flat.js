// Two layers of one weight each: one function, and a valley that narrows and widens.

import { sumOf, times } from "./laws.js";
import { axes, begin, box, finish, fixed, h, label, note, paths, ring, trace } from "./shared.js";

const X = [-2, -1, 1, 2]; // the inputs; their targets are relu(x)
const relu = (v) => Math.max(v, 0);

const parameters = {
  c: { label: "c: first weight × c, second ÷ c", value: 1, min: 0.25, max: 4, step: 0.05 },
  t: { label: "t, the step", value: 0.4, min: -1, max: 1, step: 0.05 },
  along: {
    label: "Step", value: "steepest",
    options: { steepest: "where the loss rises most", first: "of the first weight", second: "of the second", share: "a share of each weight" },
  },
};

/** What a step t changes in each weight, from c and 1/c.
 * @param {number} c @param {string} along @param {number} t */
export function stepped(c, along, t) {
  const length = Math.hypot(c, 1 / c);
  const way = { steepest: [1 / c / length, c / length], first: [1, 0], second: [0, 1] }[along] ?? [c, 1 / c];
  return [c + t * way[0], 1 / c + t * way[1]];
}

/** The net. @param {number[]} weights @param {number} x */
export const net = ([first, second], x) => second * relu(first * x);

/** Its mean squared error. @param {number[]} weights */
export const loss = (weights) => sumOf(X.map((x) => (net(weights, x) - relu(x)) ** 2)) / X.length;

/** The curvature of the loss along a step, at its start.
 * @param {number} c @param {string} along */
export const curvature = (c, along) => 2.5 * ({ steepest: c ** 2 + c ** -2, first: c ** -2, second: c ** 2 }[along] ?? 4);

function render(place) {
  const { el, table, formula, input, read } = begin(place, parameters);
  const shape = axes([-2, -1, 0, 1, 2], [0, 2, 4], "input x");
  const valley = axes([-1, 0, 1], [0, 2, 4], "step t");
  const [line, after, points] = paths(shape.el, "line line-1 mean", "asked", "dots");
  const [now, first, dot] = paths(valley.el, "line line-1 mean", "asked", "now");
  trace(points, X.map((x) => `M${shape.x(x)} ${shape.y(relu(x))}h0`).join(""));
  const curve = (chart, from, f) => chart.line(times(161, (i) => from * (1 - i / 80)).map((x) => [x, f(x)]).filter(([, y]) => y <= 4));

  function show() {
    const { c, t, along } = read();
    const there = stepped(c, along, t);
    const lost = loss(there);
    const top = curvature(c, "steepest");
    trace(line, curve(shape, -2, (x) => net([c, 1 / c], x)));
    trace(after, curve(shape, -2, (x) => net(there, x)));
    trace(now, curve(valley, -1, (s) => loss(stepped(c, along, s))));
    trace(first, curve(valley, -1, (s) => loss(stepped(1, along, s))));
    trace(dot, ring(valley.x(t), valley.y(Math.min(lost, 4))));
    formula.textContent = `sharpness λ = 2.5 (c² + 1/c²) = ${fixed(top)}`;
    table.show([
      ["the two weights", `${fixed(c)} and ${fixed(1 / c)}`],
      ["their product", "1.00"],
      ["curvature along the step", fixed(curvature(c, along))],
      ["loss after the step", fixed(lost)],
    ]);
    const words = `c ${fixed(c)}: the same function, sharpness ${fixed(top)}; after the step ${fixed(t)} the loss is ${fixed(lost)}.`;
    label(shape.el, `The net’s output. ${words}`);
    label(valley.el, `Its loss along the step. ${words}`);
    return words;
  }
  el.append(
    input("along"),
    box("columns",
      h("div", {}, shape.el, note("Dots: targets. Solid: the net, w₂ relu(w₁ x). Dashed: after the step.")),
      h("div", {}, valley.el, note("Its loss along the step. Solid: now. Dashed: at c = 1. Dot: after the step."))),
    box("columns", h("div", {}, input("c"), input("t"), formula), table.el),
  );
  finish(place, show, [
    ["Equal weights", "c = 1: does any output change? How much flatter has the minimum become?", { c: 1, along: "steepest" }],
    ["Step by shares", "Each weight moves by a share of itself. Now move c: what does the valley do?", { c: 4, along: "share" }],
  ]);
}

export default { parameters, render };
