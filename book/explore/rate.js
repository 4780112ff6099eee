// What five published rules for the rate of the seeds really drop.

import { centredCounts, coverCounts, dropBlockGamma, droppedShare, textbookGamma } from "./laws.js";
import { begin, box, finish, fixed, gauge, h, note, number, short, svg, trace } from "./shared.js";

const parameters = {
  size: number("H, side of the map", 14, 4, 56, 1, 0),
  k: number("k, side of a block", 7, 1, 28, 1, 0),
  p: number("p, asked for", 0.1, 0.05, 0.9, 0.05),
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
    name: "timm, S2", words: "the same rate, but seeds everywhere, blocks cut",
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
  const { el, said, formula, input, now } = begin(place, parameters);
  const rows = RULES.map(({ name, words }) => {
    const rate = h("span", { class: "explore-value" });
    const ground = svg("path", { d: "M0 3H300V17H0z", class: "explore-ground" });
    return { rate, ...gauge(name, ground, box("between explore-note", h("span", {}, words), rate)) };
  });

  function show() {
    const { size, k: block, p } = now();
    const k = Math.min(block, size);
    const results = compare(size, block, p);
    results.forEach(({ gamma, share }, i) => {
      const ratio = share / p;
      trace(rows[i].bar, `M0 4H${300 * share}V16H0z`);
      trace(rows[i].asked, `M${300 * p} 0V20`);
      rows[i].value.textContent = `drops ${fixed(share, 3)}` +
        (Math.abs(ratio - 1) < 5e-4 ? ", as asked" : `, ${fixed(ratio, 2)} × p`);
      rows[i].rate.textContent = `γ = ${short(gamma)}`;
    });
    formula.replaceChildren(h("span", {}, "textbook: γ = p H² / (k² (H−k+1)²) = ",
      `${fixed(p)} · ${size}² / (${k}² · ${size - k + 1}²) = ${short(textbookGamma(size, k, p))}`));
    said.say(`Map ${size}, block ${k}, asked ${fixed(p)}: ` +
      results.map(({ name, share }) => `${name} drops ${fixed(share, 3)}`).join("; ") + ".");
  }
  el.append(
    box("columns explore-three",
      ["size", "k", "p"].map((key) => h("div", {}, input(key)))),
    formula,
    h("ul", { class: "explore-list" }, rows.map(({ row }) => row)),
    note("Bar: the share that falls on average. Dashed line: p, what was asked for. A block larger than the map is the map."),
  );
  finish(place, said, show, [
    ["A deep stage", "A map of 7 and timm’s default k = 7: how much does a rate of 0.1 drop?", { size: 7, k: 7, p: 0.1 }],
    ["Ask for half", "p = 0.5: what does the paper’s rate give, and why less?", { size: 14, k: 7, p: 0.5 }],
  ]);
}

export default { parameters, render };
