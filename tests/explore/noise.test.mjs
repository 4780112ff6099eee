// The figure "noise": covariances and added variances, against the package.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { added, covariance } from "../../book/explore/noise.js";

const { noises } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8"));

test("K and the added variance are those of the package", () => {
  assert.ok(noises.length >= 200);
  for (const { method, p, u, K, added: known } of noises) {
    const mine = covariance(method, p);
    mine.forEach((row, i) => row.forEach((k, j) =>
      assert.ok(Math.abs(k - K[i][j]) < 1e-9 * Math.max(1, Math.abs(k)), `${method} ${p} ${i} ${j}`)));
    assert.ok(Math.abs(added(u, mine) - known) < 1e-9 * Math.max(1, known), `${method} ${p}`);
  }
});
