// The figure "mask": what it says of a setting.

import assert from "node:assert/strict";
import { test } from "node:test";

import mask, { amounts, draw, law, meaning } from "../../book/explore/mask.js";
import { share } from "../../book/explore/laws.js";

const settings = Object.keys(mask.parameters.method.options).flatMap((method) =>
  [0.05, 0.25, 0.5, 0.9].flatMap((p) =>
    (method === "block" ? [1, 2, 5, 13, 14] : [5]).flatMap((k) =>
      (method === "block" ? ["valid", "clip"] : ["valid"]).map((border) => ({ method, p, k, border, seed: 1 })))));

const mean = (values) => values.reduce((a, b) => a + b) / values.length;

test("every setting drops p on average, by its table and by its draws", () => {
  assert.ok(settings.length >= 50);
  for (const s of settings) {
    const { keep, spread } = meaning(s.method, s.p, s.k, s.border);
    assert.ok(Math.abs(1 - mean(keep) - s.p) < 1e-9, JSON.stringify(s));
    const shares = Array.from({ length: 100 }, (_, i) => share(draw(s, i + 1)));
    assert.ok(Math.abs(mean(shares) - s.p) <= 4 * (spread / 10), JSON.stringify(s));
  }
});

test("every law sums to 1 and has the mean and the spread that are shown", () => {
  for (const s of settings) {
    const { spread } = meaning(s.method, s.p, s.k, s.border);
    const kind = amounts(s);
    const bins = law(kind, s.p, spread);
    if (kind === "block") continue; // a curve, cut at the ends of the axis
    const moment = (f) => bins.reduce((sum, [x, v]) => sum + f(x) * v, 0);
    assert.ok(Math.abs(moment(() => 1) - 1) < 1e-9);
    if (kind === "element") continue; // in bins of 0.025
    assert.ok(Math.abs(moment((x) => x) - s.p) < 1e-9);
    assert.ok(Math.abs(Math.sqrt(moment((x) => (x - s.p) ** 2)) - spread) < 1e-9, JSON.stringify(s));
  }
});

test("blocks of the map's size are channel dropout, blocks of 1 element dropout", () => {
  assert.equal(amounts({ method: "block", k: 14, border: "valid" }), "channel");
  assert.equal(amounts({ method: "block", k: 14, border: "clip" }), "block");
  for (const border of ["valid", "clip"]) assert.equal(amounts({ method: "block", k: 1, border }), "element");
  for (const [k, method] of [[14, "channel"], [1, "element"]]) {
    const [block, other] = [meaning("block", 0.3, k, "valid"), meaning(method, 0.3, 5, "valid")];
    assert.equal(block.asked, other.asked);
    for (const key of ["rate", "spread"]) assert.ok(Math.abs(block[key] - other[key]) < 1e-9, `${k} ${key}`);
  }
});
