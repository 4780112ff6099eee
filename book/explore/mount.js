// Put each interactive figure in the place of its picture, and its state in the address.

import { announcer, button, h, readAddress, readState, stateOf, writeAddress, writeState } from "./shared.js";

/** @typedef {import("./shared.js").Parameter} Parameter */

/** The state of one figure, with the interface of anywidget's model. */
export class State {
  /** @param {Record<string, any>} values @param {() => void} [saved] */
  constructor(values, saved = () => {}) {
    this.values = { ...values };
    this.saved = saved;
    /** @type {Map<string, (() => void)[]>} */
    this.listeners = new Map();
    /** @type {Set<string>} */
    this.changed = new Set();
  }
  /** @param {string} key */
  get(key) {
    return this.values[key];
  }
  /** @param {string} key @param {any} value */
  set(key, value) {
    if (this.values[key] === value) return;
    this.values[key] = value;
    this.changed.add(key);
  }
  /** @param {string} event @param {() => void} callback */
  on(event, callback) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), callback]);
  }
  save_changes() {
    if (!this.changed.size) return;
    const events = [...[...this.changed].map((key) => `change:${key}`), "change"];
    this.changed.clear();
    for (const event of events) for (const callback of this.listeners.get(event) ?? []) callback();
    this.saved();
  }
}

/** @type {Map<string, {model: State, parameters: Record<string, Parameter>,
 *   initial: Record<string, any>, figure: Element}>} */
const mounted = new Map();
let timer = 0;

/** What the reader has changed, figure by figure. */
function states() {
  const all = new Map();
  for (const [name, { model, parameters, initial }] of mounted) {
    all.set(name, writeState(stateOf(model, parameters), initial));
  }
  return all;
}

/** Write the address; at most a few times a second, or Safari complains. */
function save() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const hash = writeAddress(readAddress(location.hash).anchor, states());
    history.replaceState(history.state, "", hash ? `#${hash}` : location.pathname + location.search);
  }, 250);
}

/** Take over what the address says; what it does not say of a figure stays. */
function load(first = false) {
  const { anchor, states: given } = readAddress(location.hash);
  for (const [name, query] of given) {
    const one = mounted.get(name);
    if (!one) continue;
    const values = readState(one.parameters, query, one.initial);
    for (const [key, value] of Object.entries(values)) one.model.set(key, value);
    one.model.save_changes();
  }
  if (!given.size) {
    if (!first) save(); // a link within the page: the states go with it
    return;
  }
  /** @type {any[]} */
  const [entry] = performance.getEntriesByType("navigation");
  if (first && entry?.type !== "navigate") return; // stay where one was
  const named = anchor ? document.getElementById(anchor) : mounted.get([...given.keys()][0])?.figure;
  named?.scrollIntoView();
}

/** @param {Element} place @param {any} module @param {any} data */
function mount(place, module, data) {
  const figure = place.querySelector("figure") ?? document.getElementById(place.getAttribute("data-figure") ?? "");
  if (!figure) throw new Error(`there is no figure for ${place.outerHTML}`);
  const parameters = module.parameters;
  const initial = readState(parameters, place.getAttribute("data-state") ?? "");
  const model = new State({ ...initial, data }, save);
  const name = figure.id;
  mounted.set(name, { model, parameters, initial, figure });
  const said = announcer();
  const link = button("Copy link", async () => {
    const hash = writeAddress("", new Map([[name, states().get(name) ?? ""]])) || name;
    const address = `${location.href.split("#")[0]}#${hash}`;
    try {
      await navigator.clipboard.writeText(address);
      said.say("The link is copied.");
      link.textContent = "Copied";
    } catch {
      history.replaceState(history.state, "", `#${hash}`); // no clipboard: it is in the address
      said.say("The link is in the address of the page.");
      link.textContent = "See the address";
    }
    setTimeout(() => (link.textContent = "Copy link"), 2000);
  });
  const back = button("Reset", () => {
    for (const [key, value] of Object.entries(initial)) model.set(key, value);
    model.save_changes();
  });
  const el = h("div", { class: "explore-body" });
  module.render({ model, el });
  const live = h("div", { class: "explore-live" }, el, h("div", { class: "explore-foot" }, back, link), said.el);
  figure.insertBefore(live, figure.querySelector("figcaption"));
  figure.classList.add("explore", "explore-mounted");
}

/** Mount every figure of the page.
 * @param {Record<string, {default: any}>} modules @param {Record<string, any>} data */
export function mountAll(modules, data) {
  for (const place of document.querySelectorAll("[data-explore]")) {
    const name = place.getAttribute("data-explore") ?? "";
    try {
      mount(place, modules[name].default, data[name]);
    } catch (error) {
      console.error(`The interactive figure ${name} could not start.`, error); // its picture stays
    }
  }
  load(true);
  addEventListener("hashchange", () => load());
}
