// The figure "rate": shares of five rules, against the package and an independent count.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { compare } from "../../book/explore/rate.js";

const { rates } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8"));

test("every rule has the rate and drops the share that counting gives", () => {
  assert.ok(rates.length >= 200);
  for (const { size, block, p, rules } of rates)
    compare(size, block, p).forEach(({ gamma, share }, i) => {
      const at = `${size} ${block} ${p} rule ${i}`;
      assert.ok(Math.abs(gamma / rules[i].gamma - 1) < 1e-9, at);
      assert.ok(Math.abs(share - rules[i].share) < 1e-9, at);
    });
});

test("the shares are those that were measured with the libraries", () => {
  // torchvision 0.29.1, timm 1.0.31 and miguelvr/dropblock, with maps of the real functions.
  for (const [size, k, p, paper, timm, copy] of [
    [7, 3, 0.1, 0.095, 0.149, 0.079], [7, 5, 0.1, 0.095, 0.311, 0.066], [14, 7, 0.1, 0.093, 0.209, 0.074],
    [14, 7, 0.5, 0.358, 0.683, 0.317], [56, 7, 0.3, 0.255, 0.298, 0.246],
  ]) {
    const shares = compare(size, k, p).map(({ share }) => share);
    assert.ok(Math.abs(shares[0] - paper) < 6e-4 && Math.abs(shares[1] - timm) < 6e-4);
    assert.ok(Math.abs(shares[2] - copy) < 6e-4);
    assert.ok(Math.abs(shares[3] - p) < 1e-9 && Math.abs(shares[4] - p) < 1e-9);
  }
});

test("a block larger than the map is the map", () => {
  assert.deepEqual(compare(7, 28, 0.3), compare(7, 7, 0.3));
});
