// The mathematics of the interactive figures, against numbers of the package.
// test_explore.py writes them, and says in REFERENCE where.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as laws from "../../book/explore/laws.js";

const reference = JSON.parse(readFileSync(process.env.REFERENCE, "utf8"));

function close(actual, expected, bound = 1e-9) {
  const [all, wanted] = [[actual].flat(), [expected].flat()];
  assert.equal(all.length, wanted.length);
  all.forEach((a, i) => {
    const e = wanted[i];
    assert.ok(Math.abs(a - e) <= bound * Math.max(1, Math.abs(e)), `${a} is not ${e}`);
  });
}

test("gamma, cover counts and P(keep) are those of the package", () => {
  assert.ok(reference.blocks.length >= 200);
  for (const { height, width, block, p, border, gamma, keep, counts } of reference.blocks) {
    const solved = laws.dropBlockGamma(height, width, block, p, border);
    close(solved / (gamma || 1), gamma ? 1 : 0);
    close(laws.keepProbability(height, width, block, solved, border), keep);
    assert.deepEqual(laws.coverCounts(height, block, border), counts);
  }
});

test("the binomial law is that of scipy", () => {
  assert.ok(reference.binomial.length >= 40);
  for (const { n, p, law } of reference.binomial) close(laws.binomial(n, p), law);
});

test("the variance of a share is that of all patterns of seeds", () => {
  assert.ok(reference.variance.length >= 20);
  for (const { size, block, gamma, border, variance } of reference.variance)
    close(laws.shareVariance(size, block, gamma, border), variance, 1e-12);
});

test("the same seeds give the same numbers, and others other ones", () => {
  const draw = (...seeds) => Array.from({ length: 5 }, laws.generator(...seeds));
  assert.deepEqual(draw(1, 2, 3), draw(1, 2, 3));
  assert.notDeepEqual(draw(1, 2, 3), draw(1, 3, 3));
  assert.notDeepEqual(draw(1, 2, 3), draw(2, 2, 3));
});

test("the generator is uniform, and neighbouring seeds are independent", () => {
  const n = 20_000;
  let [sum, square, product] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const [a, b] = [laws.generator(1, i, 14)(), laws.generator(1, i + 1, 14)()];
    sum += a;
    square += a * a;
    product += a * b;
  }
  assert.ok(Math.abs(sum / n - 1 / 2) < 4 * Math.sqrt(1 / 12 / n));
  assert.ok(Math.abs(square / n - 1 / 3) < 4 * Math.sqrt(4 / 45 / n));
  assert.ok(Math.abs(product / n - 1 / 4) < 4 * Math.sqrt(7 / 144 / n));
});

for (const method of ["element", "channel", "block", "path"])
  test(`${method}: every place falls as often as its law says, and together as it says`, () => {
    const draws = 4000;
    for (const border of method === "block" ? ["valid", "clip"] : ["valid"]) {
      const shape = { N: 2, C: 3, size: 6, p: 0.3, k: 3, border };
      const often = new Float64Array(2 * 3 * 36);
      let [sum, square] = [0, 0];
      for (let i = 0; i < draws; i++) {
        const fell = laws.drawMask(method, shape, laws.generator(7, i));
        fell.forEach((one, j) => (often[j] += one));
        const share = laws.share(fell);
        sum += share;
        square += share ** 2;
        const map = (c) => fell.subarray(c * 36, (c + 1) * 36);
        const whole = (part) => part.every((one) => one === part[0]);
        if (method === "channel") for (let c = 0; c < 6; c++) assert.ok(whole(map(c)));
        if (method === "path") for (const n of [0, 1]) assert.ok(whole(fell.subarray(n * 108, (n + 1) * 108)));
      }
      const gamma = laws.dropBlockGamma(6, 6, 3, 0.3, border);
      const keep = method === "block" ? laws.keepProbability(6, 6, 3, gamma, border) : new Array(36).fill(0.7);
      often.forEach((n, j) => {
        const p = 1 - keep[j % 36];
        // 216 places are looked at: 5 standard errors, one false alarm in 8,000 runs.
        assert.ok(Math.abs(n / draws - p) < 5 * Math.sqrt((p * (1 - p)) / draws), `${border} ${j}`);
      });
      const together = { element: 216, channel: 6, path: 2 }[method];
      const variance = together ? 0.21 / together : laws.shareVariance(6, 3, gamma, border) / 6;
      assert.ok(Math.abs(sum / draws - 0.3) < 4 * Math.sqrt(variance / draws));
      const measured = square / draws - (sum / draws) ** 2;
      assert.ok(Math.abs(measured / variance - 1) < 4 * Math.sqrt(2 / draws), `${measured} ${variance}`);
    }
  });

test("blocks of 1 are single values; as large as the map they are whole maps", () => {
  const count = (fell) => [0, 1, 2].map((c) => fell.subarray(c * 25, (c + 1) * 25).reduce((a, b) => a + b));
  for (let i = 0; i < 50; i++) {
    const shape = { N: 1, C: 3, size: 5, p: 0.4 };
    const draw = (k) => laws.drawMask("block", { ...shape, k }, laws.generator(3, i));
    for (const n of count(draw(5))) assert.ok(n === 0 || n === 25);
    assert.deepEqual(draw(1), laws.drawMask("element", shape, laws.generator(3, i)));
  }
});

test("an unknown method is an error", () => {
  assert.throws(() => laws.drawMask("all", { N: 1, C: 1, size: 2, p: 0.5 }, Math.random), /unknown method "all"/);
});
