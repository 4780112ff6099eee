// The figure "flat": losses and curvatures against PyTorch.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { curvature, loss, net, stepped } from "../../book/explore/flat.js";

const { flats } = JSON.parse(readFileSync(process.env.REFERENCE, "utf8"));
const near = (a, b, what) => assert.ok(Math.abs(a - b) < 1e-9 * Math.max(1, Math.abs(b)), `${what}: ${a}, ${b}`);

test("losses, outputs and curvatures are those of PyTorch", () => {
  assert.ok(flats.length >= 200);
  for (const { c, along, t, weights, outputs, loss: lost, curved, top } of flats) {
    const there = stepped(c, along, t);
    const what = `${c} ${along} ${t}`;
    there.forEach((w, i) => near(w, weights[i], what));
    [-2, -0.5, 0, 1, 2].forEach((x, i) => near(net(there, x), outputs[i], what));
    near(loss(there), lost, what);
    near(curvature(c, along), curved, what);
    near(curvature(c, "steepest"), top, what);
  }
});

test("a rescaling changes the curvature and not the function", () => {
  for (const c of [0.25, 0.7, 1, 2, 4]) {
    near(loss([c, 1 / c]), 0, c);
    assert.ok(curvature(c, "steepest") >= 5);
    near(curvature(c, "share"), 10, c);
  }
  assert.ok(curvature(4, "first") < 0.2 && curvature(4, "steepest") > 40);
});
