// What dropout gives and costs: stored trainings with wrong and right labels.

import { sumOf } from "./laws.js";
import { axes, begin, box, finish, fixed, h, heading, label, METHOD, NAMES, note, paths, picture, ring, svg, trace } from "./shared.js";

const parameters = {
  method: { ...METHOD, value: "channel" },
  p: { label: "p, the chance to be dropped", value: 0.2, min: 0, max: 0.5, step: 0.1, digits: 1 },
  labels: {
    label: "Labels of the 1,000 photographs", value: "noisy",
    options: { noisy: "a fifth is wrong", clean: "all are right" },
  },
};

const mean = (values) => sumOf(values) / values.length;

/** The trainings of a setting: by seed, then [right labels learnt, new photographs
 * right, wrong labels learnt by heart], then by epoch; the last of the three only where
 * labels are wrong. @param {any} data @param {{method: string, p: number, labels: string}} state
 * @returns {number[][][]} */
export const trainings = (data, { method, p, labels }) =>
  data.runs[labels][method][Math.round(10 * p)].map((run) =>
    run.map((column) => column.map((v) => v / 1000)));

/** Of each column at the end: mean, least, most.
 * @param {number[][][]} runs */
export const ends = (runs) =>
  runs[0].map((_, c) => {
    const last = runs.map((run) => run[c][run[c].length - 1]);
    return { mean: mean(last), least: Math.min(...last), most: Math.max(...last) };
  });

/** How many get the label that was given, and their true class.
 * @param {number[]} answers @param {number[]} given @param {number[]} real */
export const count = (answers, given, real) => ({
  heart: answers.filter((a, i) => a === given[i] && a !== real[i]).length,
  right: answers.filter((a, i) => a === real[i]).length,
});

const WORDS = ["right labels learnt", "new photographs named rightly", "wrong labels learnt by heart"];

function render(place) {
  const { model, el, table, input, read } = begin(place, parameters);
  const data = model.get("data");
  const chart = axes([0, 10, 20, 30], [0, 0.5, 1], "epochs of training");
  const lines = WORDS.map((_, c) => paths(chart.el, ...["seeds", "mean", "before"].map((kind) => `line line-${c} ${kind}`)));
  const key = h("ul", { class: "legend" }, WORDS.map((words, c) =>
    h("li", {}, svg("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" },
      svg("path", { d: "M0 4H24", class: `line line-${c} mean` })), words)));
  const title = heading();
  const verdict = note();
  const spread = note();
  const photos = data.photos.map((text) => {
    const words = h("figcaption");
    return { words, el: h("figure", {}, svg("svg", { viewBox: "0 0 28 28", "aria-hidden": "true" },
      svg("rect", { width: 28, height: 28, class: "ground" }), picture(text, 28)), words) };
  });

  const shown = photos.map((one) => one.el);
  const pair = h("div", {}, box("photos four", shown.slice(0, 4)), verdict,
    h("details", {}, h("summary", {}, "Eight more"), box("photos", shown.slice(4))));

  function show() {
    const state = read();
    const { method, p, labels } = state;
    const runs = trainings(data, state);
    const [now, before] = [ends(runs), ends(trainings(data, { ...state, p: 0 }))];
    lines.forEach(([seeds, middle, start], c) => {
      const line = (column) => chart.line(column.map((v, i) => [data.epochs[i], v]));
      const there = c < now.length;
      trace(seeds, there ? runs.map((run) => line(run[c])).join("") : "");
      trace(middle, there ? line(data.epochs.map((_, i) => mean(runs.map((run) => run[c][i])))) : "");
      trace(start, there ? ring(chart.x(30) - 5 * c, chart.y(before[c].mean), 4) : "");
      key.children[c].hidden = !there;
    });
    const both = (value) => (p ? [before, now] : [now]).map((end) => fixed(value(end))).join(" → ");
    table.show([
      ["end of training", p ? "without → with dropout" : "without dropout"],
      ...[2, 0, 1].filter((c) => now[c]).map((c) => [WORDS[c], both((end) => end[c].mean)]),
    ]);
    const range = (end) => `${fixed(end[1].least)} to ${fixed(end[1].most)}`;
    spread.textContent = `New photographs, single trainings: ${range(before)} without dropout${p ? `, ${range(now)} with it` : ""}.`;
    const words = `With ${NAMES[method]}, p = ${fixed(p, 1)}: ${now.map(({ mean: m }, c) => `${WORDS[c]} ${fixed(m)}`).join(", ")}.`;
    label(chart.el, `Curves over 30 epochs, means of three. ${words}`);

    const nets = [["no dropout", data.said[labels].none], [NAMES[method], data.said[labels][method]]];
    const given = labels === "noisy" ? data.given : data.true;
    const { p: at } = nets[1][1];
    pair.classList.toggle("explore-faint", p !== at);
    title.textContent = `One pair of nets${p === at ? "" : `, which stays at p = ${at}`}: without dropout, and with ${nets[1][0]}`;
    photos.forEach(({ words: place }, i) => {
      const answer = (a) =>
        `${data.classes[a]} ${a === data.true[i] ? "✓" : a === given[i] ? "✗" : "?"}`;
      place.replaceChildren(h("span", {}, `label: ${data.classes[given[i]]}`),
        ...nets.map(([, net], n) => h(n ? "strong" : "span", {}, `${n ? "with" : "without"}: ${answer(net.answers[i])}`)));
    });
    const [plain, masked] = nets.map(([, net]) => net.heart ?? count(net.answers, given, data.true).right);
    verdict.textContent = labels === "noisy" ? `✗: the wrong label, learnt by heart. ✓: the true class. Of 200 wrong labels the first learnt ${plain}, the other ${masked}.`
      : `✓: the true class; of twelve the first net names ${plain}, the other ${masked}.`;
    return words;
  }
  el.append(
    box("columns swap",
      h("div", {}, chart.el, key,
        note("Thick: mean of three trainings (thin). Ring: end without dropout.")),
      h("div", {}, input("p"), input("labels"), input("method"), table.el, spread)),
    h("div", {}, title, pair),
  );
  finish(place, show, [
    ["Right labels", "p = 0.2: is the gain larger than the trainings differ?", { labels: "clean", p: 0.2 }],
    ["Too much", "p = 0.5: hardly a wrong label is learnt. Are new photographs named better than at 0.2?", { p: 0.5 }],
  ]);
}

export default { parameters, render };
