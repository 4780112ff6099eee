// The stock search, mended. Questions that are asked often have an answer above the
// results (search_answers.yml). What holds the phrase comes first, and chapters before
// pages for teachers and of reference. An excerpt begins at the phrase, says in which
// section it stands, and of the glossary it is the entry. Opened as a file, where a browser
// lets no page read another, the search quotes nothing and logs no error.

(() => {
  const FILE = location.protocol === "file:";
  const DATA = "script, style, template, metadata"; // no text for a reader
  const FETCHED = 30; // pages that are read before the results are put in order
  /** @type {{ask: string[], url: string, title: string, say: string}[]} */
  const answers = /** @type {any} */ (globalThis).searchAnswers ?? [];
  const stemmer = new Stemmer();
  // Sphinx speaks of categories, which there are none of.
  if (typeof Documentation !== "undefined")
    Documentation.TRANSLATIONS[
      "Your search did not match any documents. Please make sure that all words are spelled correctly and that you've selected enough categories."
    ] = "Your search did not match any page. Are the words spelt as the glossary spells them?";
  const SMALL = new Set([...stopwords, "best", "good", "it", "my", "there"]);

  /** What is compared: no capitals, one kind of hyphen, no needless blanks. */
  const plain = (text) => text.toLowerCase().replace(/[\u2010-\u2013]/g, "-").replace(/\s+/g, " ");
  /** The words that count, by their stems. @param {string} text */
  const words = (text) =>
    splitQuery(plain(text)).filter((word) => !SMALL.has(word)).map((word) => stemmer.stemWord(word));
  /** The query without the small words at its ends: what a page would say, too. */
  const phraseOf = (query) => {
    const parts = plain(query).replace(/[?!"“”]/g, "").trim().split(" ");
    const small = (word) => splitQuery(word).every((part) => SMALL.has(part));
    while (parts.length && small(parts[0])) parts.shift();
    while (parts.length && small(parts[parts.length - 1])) parts.pop();
    return parts.join(" ");
  };
  /** How often a text holds a part, from the beginning of a word on. */
  const count = (text, part) =>
    part ? plain(text).split(new RegExp(`(?<!\\w)${_escapeRegExp(part)}`)).length - 1 : 0;
  let phrase = "";

  // The answers, best first: those with the most words of the query.
  /** @param {string} query @param {boolean} [typing] is the last word only begun? */
  function answer(query, typing = false) {
    const asked = new Set(words(query));
    const said = plain(query);
    const begun = typing ? (said.match(/\w{3,}$/)?.[0] ?? " ") : " ";
    const points = (ask) => {
      const own = words(ask);
      if (!own.length) return said.includes(plain(ask)) ? plain(ask).length / 10 : 0;
      const all = own.every((word) => asked.has(word) || word.startsWith(begun));
      return all ? own.length + (said.includes(plain(ask)) ? 0.5 : 0) : 0;
    };
    const found = answers
      .map((one) => ({ ...one, points: Math.max(...one.ask.map(points)) }))
      .filter((one) => one.points)
      .sort((a, b) => b.points - a.points);
    return found.filter((one, k) => k < 2 && one.points > found[0].points - 1);
  }

  /** Put the best answers above the results. @param {typeof answers} best
   * @param {Element | null} [above] where they stand, if not at the end */
  function say(best, above) {
    document.querySelector(".search-best")?.remove();
    if (!best.length) return;
    const box = document.createElement("div");
    box.className = "search-best";
    for (const { url, title, say } of best) {
      const [name, text] = ["h2", "p"].map((tag) => document.createElement(tag));
      const link = document.createElement("a");
      link.href = url;
      link.textContent = title;
      text.textContent = say;
      name.append(box.children.length ? "Or: " : "Best answer: ", link);
      box.append(name, text);
    }
    if (above) above.after(box);
    else document.getElementById("search-results")?.append(box);
  }

  const perform = Search.performSearch;
  Search.performSearch = (query) => {
    phrase = phraseOf(query);
    say(answer(query));
    perform(query);
  };

  /** How much a page is for a learner. @param {string} name */
  const weight = (name) => {
    if (/^book\/\d\d_/.test(name)) return 2;
    if (/^book\/\d\d[b-z]_/.test(name)) return 1.5;
    if (/^book\/(intro|setup|exercises)/.test(name)) return 1;
    if (/sources$/.test(name)) return 0.2;
    return /glossary$/.test(name) ? 1 : 0.5;
  };

  /** The article of a page, or nothing. */
  async function read(name) {
    try {
      const answer = await fetch(`${name}.html`);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of page.querySelectorAll(DATA)) part.remove();
      return page.querySelector("article");
    } catch {
      return null;
    }
  }

  /** The entry of a glossary that the query names. @param {Element} article */
  const entryOf = (article) =>
    [...article.querySelectorAll("dl.glossary dt")]
      .map((term) => ({ term, said: plain(term.textContent.replace("#", "").trim()) }))
      .filter(({ said }) => phrase && (said === phrase || said.includes(phrase)))
      .sort((a, b) => a.said.length - b.said.length)[0]?.term;

  const query = Search._performSearch;

  // A word that no page has is read as the nearest one that a title or a question has.
  /** How many letters one has to change, insert, drop or swap. @param {string} a
   * @param {string} b */
  function distance(a, b) {
    let [last, row] = [/** @type {number[]} */ ([]), Array.from({ length: b.length + 1 }, (_, j) => j)];
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? last[j - 2] + 1 : Infinity;
        next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + Number(a[i - 1] !== b[j - 1]), swapped);
      }
      [last, row] = [row, next];
    }
    return row[b.length];
  }
  /** @type {Set<string>} */
  let known = new Set();
  Search.meant = (/** @type {string} */ text) => {
    const { terms, titleterms, alltitles, indexentries } = Search._index;
    if (!known.size) {
      const said = [...Object.keys(alltitles), ...answers.flatMap(({ ask }) => ask), ...Object.keys(indexentries).filter((name) => !name.includes("("))];
      known = new Set(said.join(" ").toLowerCase().match(/\p{L}{4,}/gu));
    }
    return text.replace(/\p{L}{4,}/gu, (word) => {
      const small = word.toLowerCase();
      const stem = stemmer.stemWord(small);
      if (SMALL.has(small)) return word;
      const all = [...known, ...Object.keys(terms), ...Object.keys(titleterms)];
      if (all.some((one) => one === stem || one.startsWith(small))) return word; // it may go on
      const [nearest] = [...known].map((one) => ({ one, far: distance(small, one) })).sort((a, b) => a.far - b.far);
      return nearest.far <= (small.length > 6 ? 2 : 1) ? nearest.one : word;
    });
  };

  // What a reader may mean who is still typing: answers, then pages and their parts.
  Search.suggest = (text, most) => {
    const [asked, terms, excluded, , objects] = Search._parseQuery(text);
    localStorage.removeItem("sphinx_highlight_terms"); // nothing has been searched yet
    const best = answer(text);
    const found = (best.length ? best : answer(text, true)).map(({ url, title, say }) => ({ url, title, say }));
    const results = query(phraseOf(text) || asked, terms, excluded, new Set(), objects)
      .map(([name, title, anchor, about, score]) => {
        const entry = anchor.startsWith("#term-") && anchor.slice(6).replaceAll("-", " ");
        const [page, part] = entry ? [title, entry] : title.split(" > ");
        return { url: `${name}.html${anchor}`, title: part ?? page, say: about ?? (part ? page : ""), score: score * weight(name) };
      })
      .sort((a, b) => b.score - a.score);
    for (const { url, title, say } of results)
      if (!found.some((one) => one.url === url || (!say && plain(one.title) === plain(title.replace(/<[^>]*>/g, ""))))) found.push({ url, title, say });
    return found.slice(0, most);
  };

  Search.query = async (text) => {
    const meant = Search.meant(text);
    if (meant !== text) {
      const line = document.createElement("p");
      line.textContent = `No page has “${text}”. These results are for “${meant}”.`;
      document.getElementById("search-results")?.prepend(line);
      say(answer(meant), line);
      text = meant;
      phrase = phraseOf(text);
    }
    const [asked, terms, excluded, marked, objects] = Search._parseQuery(text);
    const results = query(phrase || asked, terms, excluded, marked, objects);
    const before = ([name, , , , score]) => score * weight(name);
    results.sort((a, b) => before(a) - before(b));
    if (!FILE) {
      const articles = new Map();
      const names = new Set(results.slice(-FETCHED).map(([name]) => name));
      await Promise.all([...names].map(async (name) => articles.set(name, await read(name))));
      for (const result of results) {
        const [name, title] = result;
        const article = articles.get(name);
        if (!article) continue;
        const times = count(article.textContent, phrase);
        const entry = name.endsWith("glossary") ? entryOf(article) : null;
        if (entry) [result[1], result[2]] = [`Glossary: ${entry.textContent.replace("#", "")}`, `#${entry.id}`];
        const exact = count(title, phrase) ? 12 : 0;
        result[4] = weight(name) * (result[4] / 5 + exact + (times ? 8 + Math.min(times, 12) : 0) + (entry ? 14 : 0));
      }
      results.sort((a, b) => a[4] - b[4]); // the last is shown first
    }
    const places = results.map(([name, , anchor]) => name + anchor);
    const once = results.filter((_, k) => places.lastIndexOf(places[k]) === k);
    Documentation.TRANSLATIONS["Search finished, found ${resultCount} page(s) matching the search query."] =
      once.length === 1 ? "One result" : "${resultCount} results";
    const worth = new Set([...marked].filter((word) => !SMALL.has(word) && word !== "put"));
    _displayNextItem(once, once.length, terms, worth);
  };

  Search.makeSearchSummary = (html, keywords, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const article = page.querySelector("article");
    if (!article) return null;
    for (const part of article.querySelectorAll(`.headerlink, ${DATA}, .cell_input, details`))
      if (!part.matches("details") || /^\s*What you will be able/.test(part.textContent) || part.matches(".cell > .hide"))
        part.remove();
    const found = [...keywords].map((word) => word.toLowerCase());
    const holds = (text) =>
      100 * Math.min(count(text, phrase), 1) + found.filter((word) => text.includes(word)).length;
    const text = (/** @type {Element} */ section) => {
      const copy = /** @type {Element} */ (section.cloneNode(true));
      copy.querySelectorAll("section, :scope > :is(h1, h2, h3, h4)").forEach((e) => e.remove());
      copy.querySelectorAll("msup").forEach((e) => e.lastElementChild?.before("^"));
      return copy.textContent.replace(/\s+/g, " ").trim();
    };
    const summary = document.createElement("p");
    summary.className = "context";
    const named = anchor ? article.querySelector(`#${CSS.escape(anchor.slice(1))}`) : null;
    if (named?.matches("dt") && named.closest("dl.glossary")) {
      summary.textContent = text(/** @type {Element} */ (named.nextElementSibling));
      return summary;
    }
    // The first of the sections that hold the phrase, or else most of the words.
    /** @type {Element | null | undefined} */
    let best = named?.closest("section");
    for (const section of best ? [] : article.querySelectorAll("section[id]"))
      if (!best || holds(text(section).toLowerCase()) > holds(text(best).toLowerCase())) best = section;
    const title = article.querySelector("section > h1")?.parentElement;
    const all = text(best ?? article) || text(article.querySelector("section > p") ?? article);
    const small = all.toLowerCase();
    const places = [phrase, ...found].map((word) => (word ? small.indexOf(word) : -1));
    const first = places[0] >= 0 ? places[0] : Math.min(...places.filter((n) => n >= 0), all.length);
    const start = first === all.length ? 0 : Math.max(all.lastIndexOf(" ", Math.max(first - 90, 0)) + 1, 0);
    const heading = best?.querySelector("h1, h2, h3, h4");
    if (best && best !== title && heading && !anchor) {
      const link = document.createElement("a");
      link.textContent = heading.textContent;
      summary.append(link, ": ");
      queueMicrotask(() => {
        const result = summary.parentElement?.querySelector("a");
        if (result) link.href = result.href = `${(result.getAttribute("href") ?? "").split("#")[0]}#${best.id}`;
      });
    }
    const end = start + 240;
    summary.append((start ? "… " : "") + all.slice(start, end).trim());
    if (end < all.length) summary.append(" …");
    return summary;
  };

  // Within a word nothing is marked: "in" is no part of "input".
  function unmark() {
    for (const mark of document.querySelectorAll("span.highlighted")) {
      const [before, after] = [mark.previousSibling, mark.nextSibling].map((e) => e?.textContent ?? "");
      if (!/[\p{L}\d]$/u.test(before) && !/^(?!e?s\b)[\p{L}\d]/u.test(after)) continue;
      const parent = mark.parentNode;
      mark.replaceWith(...mark.childNodes);
      parent?.normalize();
    }
  }
  addEventListener("DOMContentLoaded", () => {
    const list = document.querySelector("#search-results");
    if (list) new MutationObserver(unmark).observe(list, { childList: true, subtree: true });
  });

  if (FILE) {
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
    const note = document.createElement("p");
    note.className = "search-note";
    note.textContent =
      "Opened as a file, the search finds pages but cannot quote them. To see excerpts, " +
      "run “python -m http.server” in this folder and open the address that it names.";
    addEventListener("DOMContentLoaded", () => document.querySelector("#search-results")?.before(note));
  }
})();
