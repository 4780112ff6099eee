// Numbers, addresses and states of the interactive figures.

import assert from "node:assert/strict";
import { test } from "node:test";

import { State } from "../../book/explore/mount.js";
import { fixed, readAddress, readState, short, writeAddress, writeState } from "../../book/explore/shared.js";

const parameters = {
  p: { label: "p", value: 0.25, min: 0, max: 0.9, step: 0.05 },
  k: { label: "k", value: 5, min: 1, max: 14, step: 1 },
  method: { label: "method", value: "block", options: { block: "a block", path: "a path" } },
  seeds: { value: "", pattern: /^(\d+(-\d+)*)?$/ },
};

test("numbers are written as people write them", () => {
  assert.equal(fixed(-0.001), "0.00");
  assert.equal(fixed(-1.5, 1), "−1.5");
  assert.equal(short(0.0297123), "0.0297");
  assert.equal(short(1234.5), "1235");
  assert.equal(short(8.7e6), "8.70 · 10⁶");
  assert.equal(short(-0.0000123), "−1.23 · 10⁻⁵");
  assert.equal(short(0), "0");
});

test("an address says an anchor and the states of several figures", () => {
  const hash = "#solve;fig-mask?p=0.3&k=7;fig-rate?k=3";
  const { anchor, states } = readAddress(hash);
  assert.equal(anchor, "solve");
  assert.deepEqual([...states], [["fig-mask", "p=0.3&k=7"], ["fig-rate", "k=3"]]);
  assert.equal(`#${writeAddress(anchor, states)}`, hash);
  assert.deepEqual(readAddress("#solve"), { anchor: "solve", states: new Map() });
  assert.equal(writeAddress("", new Map([["fig-mask", ""]])), "");
});

test("every state comes back from its address", () => {
  const initial = readState(parameters, "");
  assert.equal(writeState(initial, initial), "");
  for (let step = 0; step <= 18; step++)
    for (const k of [1, 7, 14])
      for (const method of ["block", "path"])
        for (const seeds of ["", "3-14"]) {
          const state = { p: Number((step * 0.05).toFixed(9)), k, method, seeds };
          assert.deepEqual(readState(parameters, writeState(state, initial)), state);
        }
});

test("what an address names wrongly stays as at first", () => {
  const initial = readState(parameters, "");
  for (const query of ["p=2", "p=-1", "p=", "p=NaN", "k=15", "k=x", "method=none", "method=toString",
    "seeds=<b>", "other=1", "%%%"])
    assert.deepEqual(readState(parameters, query), initial, query);
  assert.equal(readState(parameters, "p=0.31").p, 0.3); // on the slider's steps
  const own = { p: 0.5, k: 7, method: "path", seeds: "3" };
  assert.deepEqual(readState(parameters, "p=2&k=x&method=none&seeds=<b>", own), own);
});

test("a change is told once, to those who listen for it", () => {
  const told = [];
  const state = new State({ p: 1, k: 2 }, () => told.push("saved"));
  state.on("change:p", () => told.push("p"));
  state.on("change:k", () => told.push("k"));
  state.on("change", () => told.push("any"));
  state.set("p", 3);
  assert.deepEqual(told, []);
  state.save_changes();
  state.save_changes();
  state.set("k", 2); // no change
  state.save_changes();
  assert.deepEqual(told, ["p", "any", "saved"]);
  assert.equal(state.get("p"), 3);
});
