// The figure "unit": two thinned nets of one unit and their averages, against the package.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { twoUnits } from "../../book/explore/unit.js";

const { units } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8")).ensembles;
const near = (a, b, at) => assert.ok(Math.abs(a - b) < 1e-9, `${at}: ${a}, but ${b}`);

test("two units: worse than both nets with ReLU, the geometric mean without", () => {
  assert.equal(units.length, 20);
  for (const { p, relu, given } of units) {
    const mine = twoUnits(p, relu);
    for (const [name, value] of Object.entries(given)) near(mine[name], value, `${name} ${p} ${relu}`);
    if (!relu) near(mine.plain, mine.geometric, "one pass");
  }
  const { plain, dropped, kept } = twoUnits(0.5, true);
  assert.ok(plain < dropped && plain < kept);
});
