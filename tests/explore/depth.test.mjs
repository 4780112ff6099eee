// The figure "depth": rates, the law of the depth, and mini-batches.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { batch, moments, rates } from "../../book/explore/depth.js";
import { depthLaw, dropPathRates } from "../../book/explore/laws.js";

const { depths } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8"));
const mean = (values) => values.reduce((a, b) => a + b) / values.length;

test("rates are those of the package, and the law that of all masks", () => {
  assert.ok(depths.length >= 100);
  for (const { L, p, schedule, rates: expected, law } of depths) {
    const mine = dropPathRates(p, L, schedule);
    mine.forEach((rate, l) => assert.ok(Math.abs(rate - expected[l]) < 1e-12));
    depthLaw(mine).forEach((chance, d) => assert.ok(Math.abs(chance - law[d]) < 1e-9, `${L} ${p} ${d}`));
  }
});

test("mean and spread are those of the law", () => {
  for (const p of [0, 0.25, 0.5, 0.9])
    for (const schedule of ["linear", "linear1", "constant"])
      for (const blocks of ["............", "x..........o", "xxxxxxoooooo"]) {
        const rate = rates(p, schedule, blocks);
        const law = depthLaw(rate);
        const moment = (f) => law.reduce((sum, chance, d) => sum + chance * f(d), 0);
        const { mean: m, spread, ofMean } = moments(rate, "row");
        assert.ok(Math.abs(moment((d) => d) - m) < 1e-9);
        assert.ok(Math.abs(moment((d) => (d - m) ** 2) - spread ** 2) < 1e-9);
        assert.ok(Math.abs(ofMean - spread / 4) < 1e-12);
        assert.equal(moments(rate, "batch").ofMean, spread);
      }
});

test("the numbers that the figure's questions name", () => {
  const all = (p, schedule) => depthLaw(dropPathRates(p, 12, schedule))[12];
  assert.equal((100 * all(0.5, "linear")).toFixed(1), "2.4");
  assert.equal((100 * all(0.25, "constant")).toFixed(1), "3.2");
});

test("a closed block is never taken, an open one always", () => {
  const rate = rates(0.5, "constant", "x....o......");
  for (let i = 1; i <= 50; i++)
    for (const row of batch(rate, "row", 1, i)) assert.ok(!row[0] && row[5]);
});

for (const mode of ["row", "batch"])
  test(`one coin per ${mode}: depths follow their law`, () => {
    const rate = rates(0.5, "linear", "............");
    const { mean: expected, ofMean } = moments(rate, mode);
    const draws = 2000;
    const means = [];
    const taken = new Array(12).fill(0);
    for (let i = 1; i <= draws; i++) {
      const grid = batch(rate, mode, 3, i);
      const distinct = new Set(grid.map((row) => row.join())).size;
      if (mode === "batch") assert.equal(distinct, 1);
      else assert.ok(distinct > 1);
      grid[0].forEach((one, l) => (taken[l] += one));
      means.push(mean(grid.map((row) => row.filter(Boolean).length)));
    }
    assert.ok(Math.abs(mean(means) - expected) < (4 * ofMean) / Math.sqrt(draws));
    const variance = mean(means.map((m) => (m - expected) ** 2));
    assert.ok(Math.abs(variance / ofMean ** 2 - 1) < 4 * Math.sqrt(2 / draws));
    taken.forEach((n, l) => {
      const q = 1 - rate[l];
      assert.ok(Math.abs(n / draws - q) <= 4 * Math.sqrt((q * (1 - q)) / draws), `block ${l}`);
    });
  });
