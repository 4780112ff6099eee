// The figure "ensemble": all thinned nets and their averages, against the package.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ensemble } from "../../book/explore/ensemble.js";

const data = JSON.parse(readFileSync(new URL("../../book/explore/ensemble.json", import.meta.url), "utf8"));
const { nets } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8")).ensembles;
const near = (a, b, at) => assert.ok(Math.abs(a - b) < 1e-9, `${at}: ${a}, but ${b}`);

test("averages, one pass, losses and thinned nets are those of the package", () => {
  assert.ok(nets.length >= 36);
  let seen = 0;
  for (const { photo, p, loss, members, ...averages } of nets) {
    const mine = ensemble(data, photo, p);
    near(mine.loss, loss, `loss ${photo} ${p}`);
    for (const [name, values] of Object.entries(averages))
      values.forEach((value, k) => near(mine[name][k], value, `${name} ${photo} ${p}`));
    for (const { mask, chance, given } of members) {
      near(mine.members[mask].chance, chance, `chance ${mask}`);
      near(mine.members[mask].given, given, `given ${mask} ${photo} ${p}`);
      seen++;
    }
    assert.ok(-Math.log(mine.arithmetic[mine.label]) <= mine.loss + 1e-9);
    assert.ok(-Math.log(mine.geometric[mine.label]) <= mine.loss + 1e-9);
  }
  assert.ok(seen >= 200);
});
