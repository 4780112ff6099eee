// The figure "overfit": what it says of trainings is what the stored study has.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import overfit, { count, ends, trainings as of } from "../../book/explore/overfit.js";

const data = JSON.parse(readFileSync(new URL("../../book/explore/overfit.json", import.meta.url), "utf8"));
const { trainings } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8"));

test("the ends of all trainings are those of the rows of the study", () => {
  assert.ok(trainings.length >= 48);
  for (const { runs, ends: known, ...state } of trainings) {
    const found = of(data, state);
    assert.equal(found.length, runs);
    assert.ok(found.every((run) => run.every((column) => column.length === data.epochs.length)));
    const mine = ends(found);
    assert.equal(mine.length, known.length);
    mine.forEach(({ mean, least, most }, c) =>
      [mean, least, most].forEach((v, i) =>
        assert.ok(Math.abs(v - known[c][i]) < 5.1e-4, `${JSON.stringify(state)} ${c} ${i}`)));
  }
});

test("every setting that can be chosen is there", () => {
  const { method, p, labels } = overfit.parameters;
  assert.equal(trainings.length, Object.keys(method.options).length * Object.keys(labels.options).length * (1 + Math.round((p.max - p.min) / p.step)));
});

test("answers are counted one by one", () => {
  assert.deepEqual(count([0, 1, 1, 2], [1, 1, 2, 2], [0, 0, 1, 2]), { heart: 1, right: 3 });
  assert.ok(data.given.every((label, i) => label !== data.true[i]));
  const { heart, right } = count(data.said.noisy.none.answers, data.given, data.true);
  assert.deepEqual([heart, right], [12, 0]); // as the chapter says
});
