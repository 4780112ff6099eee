// Put each figure in the place of its picture, and its state in the address.

import { announcer, button, change, h, readAddress, readState, stateOf, writeAddress, writeState } from "./shared.js";

/** @typedef {import("./shared.js").Parameter} Parameter */

/** The state of a figure, like anywidget's model. */
export class State {
  /** @param {Record<string, any>} values @param {() => void} [saved] */
  constructor(values, saved = () => {}) {
    this.start = values;
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

/** Take over what the address says of a figure. @param {string} name @param {string} query */
function take(name, query) {
  const one = mounted.get(name);
  if (one) change(one.model, readState(one.parameters, query, one.initial));
}

/** Scroll to what the address names. */
function go() {
  const { anchor, states: given } = readAddress(location.hash);
  document.getElementById(anchor || [...given.keys()][0])?.scrollIntoView();
}

/** @param {Element} place @param {Element} figure @param {any} module @param {any} data */
function mount(place, figure, module, data) {
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
  const back = button("Reset", () => (change(model, initial), (el.firstChild.hidden = true)));
  const el = h("div", { class: "body" });
  module.render({ model, el });
  const live = h("div", { class: "live" }, el, h("div", { class: "foot" }, back, link), said.el);
  figure.insertBefore(live, figure.querySelector("figcaption"));
  figure.classList.add("explore", "explore-mounted");
}

/** Fetch a module and its data: a script of its own puts them into `all`.
 * @param {Record<string, any>} all @param {string} beside a script in the same folder
 * @param {string} version */
export const fetching = (all, beside, version) => (name) =>
  (all[name] ??= new Promise((resolve, reject) => {
    const onload = () => resolve(all[name]);
    document.head.append(h("script", { src: new URL(`${name}.js?v=${version}`, beside), onload, onerror: reject }));
  }));

/** Mount figures: those that the address names at once, the others when
 * they come near. @param {(name: string) => any} get a module @param {Record<string, any>} data */
export function mountAll(get, data) {
  /** @type {Map<Element, Element>} */
  const waiting = new Map(); // figures, and their places
  async function start(figure) {
    const place = waiting.get(figure);
    if (!place) return;
    waiting.delete(figure);
    watcher.unobserve(figure);
    const name = place.getAttribute("data-explore") ?? "";
    try {
      mount(place, figure, (await get(name)).default, data[name]);
      take(figure.id, readAddress(location.hash).states.get(figure.id) ?? "");
    } catch (error) {
      console.error(`The interactive figure ${name} could not start.`, error); // its picture stays
    }
  }
  const watcher = new IntersectionObserver(
    (entries) => entries.forEach((one) => one.isIntersecting && start(one.target)),
    { rootMargin: "0px 0px 800px" },
  );
  for (const place of document.querySelectorAll("[data-explore]")) {
    const figure = place.querySelector("figure") ?? document.getElementById(place.getAttribute("data-figure") ?? "");
    if (!figure) throw new Error(`there is no figure for ${place.outerHTML}`);
    waiting.set(figure, place);
    watcher.observe(figure);
  }
  /** What the address names. */
  const named = () => {
    const { states: given } = readAddress(location.hash);
    for (const [name, query] of given) take(name, query);
    return [...waiting.keys()].filter(({ id }) => given.has(id)).map(start);
  };
  const first = named();
  /** @type {any[]} */
  const [entry] = performance.getEntriesByType("navigation");
  // Who comes back or reloads stays where they were.
  if (first.length && entry?.type === "navigate") Promise.all(first).then(go);
  addEventListener("hashchange", () => {
    if (readAddress(location.hash).states.size) Promise.all(named()).then(go);
    else save(); // a link within the page: the states go with it
  });
}
