// The mathematics of the masks: rates, probabilities, draws from a seeded generator.
// Nothing here knows of a page. The tests compare it with the package, regdrop_lite.

/** A list of so many values. @template T @param {number} n
 * @param {(i: number) => T} make @returns {T[]} */
export const times = (n, make) => Array.from({ length: n }, (_, i) => make(i));

/** @param {number[]} list */
export const sumOf = (list) => list.reduce((a, b) => a + b, 0);

/**
 * A seeded generator of numbers in [0, 1): sfc32 by Chris Doty-Humphrey.
 * The same seeds give the same numbers in every browser.
 * @param {...number} seeds up to three whole numbers
 * @returns {() => number}
 */
export function generator(...seeds) {
  let [a, b, c] = [0, 1, 2].map((i) => (seeds[i] ?? 0) | 0);
  let counter = 1;
  const next = () => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return (t >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 15; i++) next(); // small seeds take a while to mix
  return next;
}

/** Where a block may begin along a line: [first, last].
 * @param {number} size @param {number} k @param {string} border */
export const starts = (size, k, border) => (border === "clip" ? [1 - k, size - 1] : [0, size - k]);

/** How many seed positions cover each element, along one dimension.
 * @param {number} size @param {number} block @param {string} border */
export function coverCounts(size, block, border) {
  const k = Math.min(block, size);
  const last = size - k; // the last position at which a block still fits
  return times(size, (i) =>
    border === "clip" ? k : Math.min(i, last) - Math.max(i - k + 1, 0) + 1,
  );
}

/** The same on a map, row by row: a product over the two dimensions.
 * @param {number} height @param {number} width @param {number} block
 * @param {string} border */
export function coverTable(height, width, block, border) {
  const across = coverCounts(width, block, border);
  return coverCounts(height, block, border).flatMap((a) => across.map((b) => a * b));
}

/** The dropped share of a square map, when seeds with this probability cover the
 * elements of a line so many times. @param {number[]} line @param {number} gamma */
export function droppedShare(line, gamma) {
  let kept = 0;
  for (const a of line) for (const b of line) kept += (1 - gamma) ** (a * b);
  return 1 - kept / line.length ** 2;
}

/** Cover counts of a line whose seeds are the middles of blocks, and lie on the map.
 * @param {number} size @param {number} block */
export function centredCounts(size, block) {
  const before = Math.floor(block / 2);
  return times(size, (i) =>
    Math.min(i, size - 1 - before) - Math.max(i - block + 1, -before) + 1);
}

/** The seed probability of the DropBlock paper.
 * @param {number} size @param {number} block @param {number} p */
export const textbookGamma = (size, block, p) => (p * size ** 2) / block ** 2 / (size - block + 1) ** 2;

/**
 * The seed probability at which the expected share of dropped elements is p.
 * Newton's method on mean(1 - exp(c x)) = p, x = log(1 - gamma), as in the package.
 * @param {number} height @param {number} width @param {number} block
 * @param {number} p @param {string} border "valid" or "clip"
 */
export function dropBlockGamma(height, width, block, p, border) {
  if (p <= 0 || p >= 1) return p;
  const counts = coverTable(height, width, block, border);
  const total = counts.length;
  let x = (Math.log1p(-p) * total) / sumOf(counts);
  for (;;) {
    let excess = 0;
    let slope = 0;
    for (const c of counts) {
      excess += Math.expm1(c * x);
      slope += c * Math.exp(c * x);
    }
    const step = (excess / total + p) / (slope / total);
    if (!(x - step < x)) return -Math.expm1(x); // rounding has the last word
    x -= step;
  }
}

/** The probability of each element of a map to be kept, row by row.
 * @param {number} height @param {number} width @param {number} block
 * @param {number} gamma @param {string} border */
export function keepProbability(height, width, block, gamma, border) {
  return coverTable(height, width, block, border).map((c) => (1 - gamma) ** c);
}

/** The variance of the dropped share of one map, exactly. Two elements are both kept
 * when no seed falls on any position that covers one of them.
 * @param {number} size @param {number} block @param {number} gamma
 * @param {string} border */
export function shareVariance(size, block, gamma, border) {
  const k = Math.min(block, size);
  const [first, last] = starts(size, k, border);
  // Along one dimension: how many positions cover one of two elements, the other, both.
  const pairs = [];
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) {
      const [from, to] = [(e) => Math.max(e - k + 1, first), (e) => Math.min(e, last)];
      const common = Math.min(to(i), to(j)) - Math.max(from(i), from(j)) + 1;
      pairs.push([to(i) - from(i) + 1, to(j) - from(j) + 1, Math.max(common, 0)]);
    }
  let both = 0;
  const q = 1 - gamma;
  for (const [a, b, s] of pairs)
    for (const [c, d, t] of pairs) both += q ** (a * c + b * d - s * t);
  return Math.max(both / size ** 4 - (1 - droppedShare(coverCounts(size, k, border), gamma)) ** 2, 0);
}

/** The binomial probabilities of 0 ... n.
 * @param {number} n @param {number} p */
export function binomial(n, p) {
  if (p <= 0 || p >= 1)
    return times(n + 1, (k) => Number(k === (p <= 0 ? 0 : n)));
  let log = n * Math.log1p(-p);
  const odds = Math.log(p) - Math.log1p(-p);
  return times(n + 1, (k) => {
    if (k) log += odds + Math.log((n - k + 1) / k);
    return Math.exp(log);
  });
}

/** Drop probabilities of L blocks, by depth. @param {number} pMax @param {number} L
 * @param {string} schedule "linear", "linear1" or "constant" */
export function dropPathRates(pMax, L, schedule) {
  return times(L, (l) => {
    if (schedule === "linear") return pMax * (l / Math.max(L - 1, 1));
    return schedule === "linear1" ? pMax * ((l + 1) / L) : pMax;
  });
}

/** The probabilities of 0 ... L open blocks.
 * @param {number[]} rates */
export function depthLaw(rates) {
  let law = [1];
  for (const p of rates)
    law = times(law.length + 1, (d) => p * (law[d] ?? 0) + (1 - p) * (law[d - 1] ?? 0));
  return law;
}

/** The elements of a square map that a block covers, by number.
 * @param {number} row @param {number} column @param {number} k @param {number} size */
export function covered(row, column, k, size) {
  const line = (from) => times(k, (i) => from + i).filter((i) => i >= 0 && i < size);
  return line(row).flatMap((i) => line(column).map((j) => i * size + j));
}

/** Which elements of a batch of maps fall, sample by sample, map by map, row by row.
 * @param {string} method "element", "channel", "block" or "path"
 * @param {{N: number, C: number, size: number, p: number, k?: number, border?: string}}
 *   shape
 * @param {() => number} random
 */
export function drawMask(method, { N, C, size, p, k = 1, border = "valid" }, random) {
  const area = size ** 2;
  const fell = new Uint8Array(N * C * area);
  if (method === "block") {
    const block = Math.min(k, size);
    const gamma = dropBlockGamma(size, size, block, p, border);
    const [first, last] = starts(size, block, border);
    for (let map = 0; map < N * C; map++)
      for (let row = first; row <= last; row++)
        for (let column = first; column <= last; column++) {
          if (random() < gamma) for (const i of covered(row, column, block, size)) fell[map * area + i] = 1;
        }
    return fell;
  }
  const together = { element: 1, channel: area, path: C * area }[method];
  if (!together) throw new RangeError(`unknown method ${JSON.stringify(method)}`);
  for (let start = 0; start < fell.length; start += together)
    if (random() < p) fell.fill(1, start, start + together);
  return fell;
}

/** The dropped share of a mask. @param {Uint8Array} fell */
export const share = (fell) => sumOf([...fell]) / fell.length;
