// The mathematics of the masks: rates, laws, and draws from a seeded generator.
// Nothing here knows of a page. The tests compare it with the package, regdrop_lite.

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

/** A list of what a function makes of 0 ... n − 1.
 * @template T @param {number} n @param {(i: number) => T} make */
export const times = (n, make) => Array.from({ length: n }, (_, i) => make(i));

/** @param {Iterable<number>} values */
export function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

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

/** The share of a square map that falls, when seeds with this probability cover the
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

/** How often each value occurs.
 * @param {number[]} values @returns {[number, number][]} */
function tally(values) {
  const times = new Map();
  for (const value of values) times.set(value, (times.get(value) ?? 0) + 1);
  return [...times];
}

/**
 * The seed probability at which the expected share of dropped elements is p.
 * Newton's method on mean(1 - exp(c x)) = p for x = log(1 - gamma), as in the package.
 * @param {number} height @param {number} width @param {number} block
 * @param {number} p @param {string} border "valid" or "clip"
 */
export function dropBlockGamma(height, width, block, p, border) {
  if (p <= 0 || p >= 1) return p;
  const counts = coverTable(height, width, block, border);
  const cases = tally(counts);
  const total = counts.length;
  let x = (Math.log1p(-p) * total) / sum(counts);
  for (;;) {
    let excess = 0;
    let slope = 0;
    for (const [c, n] of cases) {
      excess += n * Math.expm1(c * x);
      slope += n * c * Math.exp(c * x);
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

/** The variance of the share of one map that falls, exactly. Two elements are both kept
 * when no seed falls on any position that covers one of them.
 * @param {number} size @param {number} block @param {number} gamma
 * @param {string} border */
export function shareVariance(size, block, gamma, border) {
  const k = Math.min(block, size);
  const first = border === "clip" ? 1 - k : 0; // positions of a seed's first element
  const last = border === "clip" ? size - 1 : size - k;
  // Along one dimension: how often two elements have (covers, covers, common covers).
  const pairs = new Map();
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) {
      const from = (e) => Math.max(e - k + 1, first);
      const to = (e) => Math.min(e, last);
      const common = Math.min(to(i), to(j)) - Math.max(from(i), from(j)) + 1;
      const key = [to(i) - from(i), to(j) - from(j), Math.max(common, 0)].join();
      pairs.set(key, (pairs.get(key) ?? 0) + 1);
    }
  const cases = [...pairs].map(([key, n]) => {
    const [a, b, common] = key.split(",").map(Number);
    return [a + 1, b + 1, common, n];
  });
  let both = 0;
  let mean = 0;
  const q = 1 - gamma;
  for (const [a, b, s, n] of cases)
    for (const [c, d, t, m] of cases) both += n * m * q ** (a * c + b * d - s * t);
  for (const c of coverTable(size, size, block, border)) mean += q ** c;
  const total = size ** 2;
  return Math.max(both / total ** 2 - (mean / total) ** 2, 0);
}

/** The binomial law: the probabilities of 0 ... n.
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

/** The law of the number of open blocks: the probabilities of 0 ... L.
 * @param {number[]} rates */
export function depthLaw(rates) {
  let law = [1];
  for (const p of rates)
    law = times(law.length + 1, (d) => p * (law[d] ?? 0) + (1 - p) * (law[d - 1] ?? 0));
  return law;
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
    const first = border === "clip" ? 1 - block : 0;
    const last = border === "clip" ? size - 1 : size - block;
    for (let map = 0; map < N * C; map++)
      for (let row = first; row <= last; row++)
        for (let column = first; column <= last; column++) {
          if (random() >= gamma) continue;
          for (let i = Math.max(row, 0); i < Math.min(row + block, size); i++)
            for (let j = Math.max(column, 0); j < Math.min(column + block, size); j++)
              fell[map * area + i * size + j] = 1;
        }
    return fell;
  }
  const together = { element: 1, channel: area, path: C * area }[method];
  if (!together) throw new RangeError(`unknown method ${JSON.stringify(method)}`);
  for (let start = 0; start < fell.length; start += together)
    if (random() < p) fell.fill(1, start, start + together);
  return fell;
}

/** The share of a mask that falls. @param {Uint8Array} fell */
export const share = (fell) => sum(fell) / fell.length;
