// The figure "seeds": what lies over each element, and what is known of a place.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { generator, starts } from "../../book/explore/laws.js";
import seeds, { lying, place, places } from "../../book/explore/seeds.js";

const { places: known } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8"));

test("cover counts, P(drop) and weights of places are those of the package", () => {
  assert.ok(known.length >= 200);
  for (const { row, column, k, p, border, covers, keep } of known) {
    const mine = place(row, column, k, p, border);
    assert.equal(mine.covers, covers);
    assert.ok(Math.abs(mine.drop - (1 - keep)) < 1e-9);
    assert.ok(Math.abs(mine.weight * keep - 1) < 1e-9);
  }
});

test("the first state is the draw of the chapter's picture", () => {
  const first = places(seeds.parameters.seeds.value, 5, "valid");
  assert.deepEqual(first, [[2, 7], [3, 0], [4, 1], [8, 4]]);
  assert.equal(lying(first, 5).filter(Boolean).length, 82);
});

test("blocks lie where one counts them element by element", () => {
  const random = generator(5);
  for (let i = 0; i < 200; i++) {
    const k = 1 + Math.floor(random() * 14);
    const border = random() < 0.5 ? "valid" : "clip";
    const [from, to] = starts(14, k, border);
    const one = () => from + Math.floor(random() * (to - from + 1));
    const all = Array.from({ length: 4 }, () => [one(), one()]);
    const counts = lying(all, k);
    for (let r = 0; r < 14; r++)
      for (let c = 0; c < 14; c++)
        assert.equal(counts[r * 14 + c], all.filter(([a, b]) => a <= r && r < a + k && b <= c && c < b + k).length);
    if (border === "valid") assert.equal(counts.reduce((a, b) => a + b), 4 * k * k);
    const text = all.map((pair) => pair.join(".")).join("_");
    assert.match(text, seeds.parameters.seeds.pattern);
    assert.deepEqual(places(text, k, border), all);
  }
});

test("seeds at which no block may begin are left out", () => {
  assert.deepEqual(places("0.0_13.13_-1.0", 5, "valid"), [[0, 0]]);
  assert.deepEqual(places("0.0_13.13_-1.0", 5, "clip"), [[0, 0], [13, 13], [-1, 0]]);
  assert.deepEqual(places("", 5, "valid"), []);
});
