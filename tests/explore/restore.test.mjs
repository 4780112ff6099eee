// The figure "restore": best guesses, against conditional means from the covariance.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { generator } from "../../book/explore/laws.js";
import { ceiling, expected, field, holes, remains, restore, written } from "../../book/explore/restore.js";

const { restored } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8"));
const near = (a, b, at, bound = 1e-9) => assert.ok(Math.abs(a - b) < bound, `${at}: ${a}, but ${b}`);

test("guesses and what is left are those of the covariance", () => {
  assert.ok(restored.length >= 200);
  for (const { rho, map, gone, guess, left } of restored) {
    const mine = restore(map, gone, rho);
    assert.equal(mine.list.length, left.length);
    mine.list.forEach((i, r) => {
      near(mine.guess[i], guess[r], `guess at ${rho}`);
      near(mine.left[r], left[r], `variance at ${rho}`);
    });
    gone.forEach((one, i) => one || assert.equal(mine.guess[i], map[i]));
    near(remains(gone, rho), left.reduce((a, b) => a + b, 0) / (left.length || 1), "mean");
  }
});

test("with all neighbours in sight it is the theorem, with none nothing", () => {
  const [one, all] = [new Array(100).fill(0), new Array(100).fill(1)];
  one[44] = 1;
  for (const rho of [0, 0.3, 0.6, 0.9, 0.95]) {
    near(expected(remains(one, rho), 0), ceiling(rho), "one gap");
    near(expected(remains(all, rho), 0), 0, "the whole map");
    near(expected(remains(all, rho), 0.6), 0.36, "another map alone");
  }
});

test("all eight neighbours tell what the whole map tells, the four nearest tell less", () => {
  const place = 44;
  const alone = (near4) => new Array(100).fill(0).map((_, i) => {
    const [dx, dy] = [Math.abs((i % 10) - 4), Math.abs(Math.floor(i / 10) - 4)];
    return Number(i === place || !(near4 ? dx + dy === 1 : Math.max(dx, dy) === 1));
  });
  for (const rho of [0.3, 0.6, 0.9]) {
    for (const [gone, share] of [[alone(false), ceiling(rho)], [alone(true), (4 * rho ** 2) / (1 + 3 * rho ** 2)]]) {
      const { list, left } = restore(new Array(100).fill(0), gone, rho);
      near(1 - left[list.indexOf(place)], share, `at ${rho}`);
    }
  }
});

test("neighbours have the correlation that is asked for, and the variance 1", () => {
  for (const rho of [0, 0.5, 0.9]) {
    const draws = Array.from({ length: 4000 }, (_, i) => field(rho, generator(i, 3, 10)));
    const average = (f) => draws.reduce((sum, map) => sum + f(map), 0) / draws.length;
    const error = Math.sqrt(2 / draws.length);
    near(average((m) => m[77] ** 2), 1, "variance", 4 * error);
    for (const [a, b] of [[54, 55], [54, 64], [0, 1], [89, 99]]) near(average((m) => m[a] * m[b]), rho, `${a} ${b}`, 4 * error);
  }
});

test("the gaps are kept in the address", () => {
  for (const { gone } of restored) assert.deepEqual(holes(written(gone)), gone);
});
