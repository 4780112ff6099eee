// The stock search, mended in two places. Its excerpts begin with the page's buttons and
// do not say in which section the words stand; and opened as a file, where a browser lets
// no page read another, it logs an error for each result.

Search.makeSearchSummary = (html, keywords, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  const article = page.querySelector("article");
  if (!article) return null;
  article.querySelectorAll(".headerlink, script, style").forEach((e) => e.remove());
  const words = [...keywords].map((word) => word.toLowerCase());
  const count = (text) => words.filter((word) => text.includes(word)).length;
  const text = (/** @type {Element} */ section) => {
    const copy = /** @type {Element} */ (section.cloneNode(true));
    copy.querySelectorAll("section").forEach((inner) => inner.remove());
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  // The first of the sections that hold most of the words.
  const named = anchor ? article.querySelector(`#${CSS.escape(anchor.slice(1))}`) : null;
  /** @type {Element | null | undefined} */
  let best = named?.closest("section");
  for (const section of best ? [] : article.querySelectorAll("section[id]"))
    if (!best || count(text(section).toLowerCase()) > count(text(best).toLowerCase()))
      best = section;
  const all = text(best ?? article);
  const places = words.map((word) => all.toLowerCase().indexOf(word));
  const place = Math.min(...places.filter((n) => n >= 0), all.length);
  const start = place === all.length ? 0 : Math.max(place - 100, 0);
  const summary = document.createElement("p");
  summary.className = "context";
  if (best && !anchor) {
    const link = document.createElement("a");
    link.textContent = best.querySelector("h1, h2, h3, h4")?.textContent ?? "";
    summary.append(link, ": ");
    queueMicrotask(() => {
      const result = summary.parentElement?.querySelector("a");
      if (result) link.href = `${result.href.split("#")[0]}#${best.id}`;
    });
  }
  const end = start + 240;
  summary.append((start ? "… " : "") + all.slice(start, end).trim());
  if (end < all.length) summary.append(" …");
  return summary;
};

if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  const note = document.createElement("p");
  note.className = "search-note";
  note.textContent =
    "Opened as a file, the search finds pages but cannot quote them. To see excerpts, " +
    "run “python -m http.server” in this folder and open the address that it names.";
  addEventListener("DOMContentLoaded", () =>
    document.querySelector("#search-results")?.before(note),
  );
}
