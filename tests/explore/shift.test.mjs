// The figure "shift": the variance that a norm sees, over all masks and of the layer.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { histogram, parts, variance } from "../../book/explore/shift.js";

const { exact, drawn } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8")).shifts;

test("the variance is that over all masks, and of the law that is drawn", () => {
  assert.ok(exact.length >= 200);
  for (const { p, mu, variance: known } of exact) {
    assert.ok(Math.abs(variance(p, mu) / known - 1) < 1e-9, `${p} ${mu}`);
    const law = parts(p, mu);
    const moment = (f) => law.reduce((sum, [chance, m, v]) => sum + chance * f(m, v), 0);
    const mean = Math.sqrt(8) * mu;
    assert.ok(Math.abs(moment(() => 1) - 1) < 1e-9);
    assert.ok(Math.abs(moment((m) => m) - mean) < 1e-9);
    assert.ok(Math.abs(moment((m, v) => v + (m - mean) ** 2) / known - 1) < 1e-9);
  }
});

test("the layer of the package has this variance", () => {
  for (const { p, mu, variance: measured, error } of drawn)
    assert.ok(Math.abs(variance(p, mu) - measured) < 4 * error, `${p} ${mu}`);
});

test("bins hold the whole law, with its mean", () => {
  for (const [p, mu] of [[0, 0], [0.3, 1], [0.5, 1], [0.9, 3]]) {
    const bins = histogram(parts(p, mu), -100, 0.5, 800);
    const moment = (f) => bins.reduce((sum, v, i) => sum + v * f(-100 + 0.5 * (i + 0.5)), 0);
    assert.ok(Math.abs(moment(() => 1) - 1) < 2e-3, `${p} ${mu}`);
    assert.ok(Math.abs(moment((z) => z) - Math.sqrt(8) * mu) < 0.1 + 0.25 * p ** 8, `${p} ${mu}`);
  }
});
