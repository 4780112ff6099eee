// What five published rules for the rate of the seeds really drop.

import { centredCounts, coverCounts, dropBlockGamma, droppedShare, textbookGamma } from "./laws.js";
import { begin, box, finish, fixed, gauge, h, note, short } from "./shared.js";

const parameters = {
  size: { label: "H, side of the map", value: 14, min: 4, max: 56, step: 1, digits: 0 },
  k: { label: "k, side of a block", value: 7, min: 1, max: 28, step: 1, digits: 0 },
  p: { label: "p, asked for", value: 0.1, min: 0.05, max: 0.9, step: 0.05 },
};

/** The rules: the probability of a seed, and how many seeds cover each place of a line.
 * @type {{name: string, words: string, gamma: (H: number, k: number, p: number) => number,
 *   line: (H: number, k: number) => number[]}[]} */
const RULES = [
  {
    name: "Paper, torchvision", words: "textbook rate, seeds so that blocks stay inside",
    gamma: textbookGamma, line: (H, k) => coverCounts(H, k, "valid"),
  },
  {
    name: "timm", words: "the same rate, but seeds everywhere, blocks cut",
    gamma: textbookGamma, line: centredCounts,
  },
  {
    name: "miguelvr/dropblock", words: "the rate p/k², seeds everywhere, blocks cut",
    gamma: (_, k, p) => p / k ** 2, line: centredCounts,
  },
  {
    name: "Solved, “valid”", words: "γ solved for, blocks inside",
    gamma: (H, k, p) => dropBlockGamma(H, H, k, p, "valid"), line: (H, k) => coverCounts(H, k, "valid"),
  },
  {
    name: "Solved, “clip”", words: "γ solved for, every block that touches the map, cut",
    gamma: (H, k, p) => dropBlockGamma(H, H, k, p, "clip"), line: (H, k) => coverCounts(H, k, "clip"),
  },
];

/** What each rule does with a setting; a block larger than the map is the map.
 * @param {number} size @param {number} block @param {number} p */
export function compare(size, block, p) {
  const k = Math.min(block, size);
  return RULES.map(({ name, words, gamma, line }) => {
    const rate = gamma(size, k, p);
    const counts = line(size, k);
    return { name, words, gamma: rate, share: droppedShare(counts, rate), counts };
  });
}

function render(place) {
  const { el, formula, input, read } = begin(place, parameters);
  const rows = RULES.map(({ name, words }) => {
    const rate = h("span", { class: "value" });
    return { ...gauge(name, box("between note", h("span", {}, words), rate)), rate };
  });

  function show() {
    const { size, k: block, p } = read();
    const k = Math.min(block, size);
    const results = compare(size, block, p);
    results.forEach(({ gamma, share }, i) => {
      const times = share / p;
      rows[i].show(share, `drops ${fixed(share, 3)}` +
        (Math.abs(times - 1) < 5e-4 ? ", as asked" : `, ${fixed(times, 2)} × p`), p);
      rows[i].rate.textContent = `γ = ${short(gamma)}`;
    });
    formula.replaceChildren(h("span", {}, "textbook: γ = p H² / (k² (H−k+1)²) = ",
      `${fixed(p)} · ${size}² / (${k}² · ${size - k + 1}²) = ${short(textbookGamma(size, k, p))}`));
    return `Map ${size}, block ${k}, asked ${fixed(p)}: ` +
      results.map(({ name, share }) => `${name} drops ${fixed(share, 3)}`).join("; ") + ".";
  }
  el.append(
    box("columns three",
      ["size", "k", "p"].map((key) => h("div", {}, input(key)))),
    formula,
    h("ul", { class: "list" }, rows.map(({ row }) => row)),
    note("Bar: the share dropped on average. Dashed line: p, what was asked for. A block larger than the map is the map."),
  );
  finish(place, show, [
    ["A deep stage", "A map of 7 and timm’s default k = 7: how much does a rate of 0.1 drop?", { size: 7, k: 7, p: 0.1 }],
    ["Ask for half", "p = 0.5: what does the paper’s rate give, and why less?", { size: 14, k: 7, p: 0.5 }],
  ]);
}

export default { parameters, render };
