// Results while one types, below each field of the search: arrow keys choose, Enter opens
// what is chosen or else searches, Escape shuts. What the search needs is fetched when a
// field is first used.

(() => {
  const MOST = 7;
  const PAUSE = 150; // milliseconds without a key
  const place = /** @type {HTMLScriptElement} */ (document.currentScript).src;
  const top = new URL("../", place).href;
  /** @type {NodeListOf<HTMLInputElement>} */
  const fields = document.querySelectorAll("form.bd-search input[name=q]");

  /** @param {string} name */
  const load = (name) =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { src: top + name, onload: resolve, onerror: reject });
      document.head.append(script);
    });

  /** @type {Promise<void> | undefined} */
  let ready;
  async function fetchAll() {
    if (typeof Search !== "undefined") return; // the search page has all that
    // Sphinx's script asks for these; what it would do at once, it does not do here.
    Object.assign(window, { _: (text) => text, _ready() {}, SPHINX_HIGHLIGHT_ENABLED: false });
    for (const name of ["language_data", "search-answers", "searchtools", "search-sections"]) await load(`_static/${name}.js`);
    await load("searchindex.js");
  }

  fields.forEach((field, number) => {
    const form = /** @type {HTMLFormElement} */ (field.form);
    const list = document.createElement("div");
    const status = document.createElement("p");
    list.id = `search-typed-${number}`;
    list.className = "search-typed";
    list.role = "listbox";
    list.ariaLabel = "Suggestions";
    status.className = "search-typed-status";
    status.role = "status";
    const set = (/** @type {Record<string, string>} */ values) => {
      for (const [name, value] of Object.entries(values)) field.setAttribute(name, value);
    };
    set({ role: "combobox", "aria-autocomplete": "list", "aria-controls": list.id, "aria-expanded": "false" });
    form.after(list, status);
    let chosen = -1;
    let timer = 0;

    /** @param {number} index */
    function choose(index) {
      chosen = index;
      [...list.children].forEach((option, k) => option.setAttribute("aria-selected", String(k === chosen)));
      const now = list.children[chosen];
      if (now) set({ "aria-activedescendant": now.id });
      else field.removeAttribute("aria-activedescendant");
      now?.scrollIntoView({ block: "nearest" });
    }
    function shut() {
      clearTimeout(timer);
      list.replaceChildren();
      status.textContent = "";
      set({ "aria-expanded": "false" });
      choose(-1);
    }
    async function show() {
      const text = field.value.trim();
      if (text.length < 2) {
        shut();
        if (text) status.textContent = "Type two letters or more.";
        return;
      }
      await (ready ??= fetchAll());
      if (text !== field.value.trim()) return; // more was typed meanwhile
      const asked = Search.meant(text); // or nearly so
      const found = Search.suggest(asked, MOST).map((one) => ({ ...one, url: new URL(one.url, top).href }));
      const all = `${top}search.html?q=${encodeURIComponent(asked)}`;
      const options = found.length ? [...found, { url: all, title: `All results for “${asked}”`, say: asked === text ? "" : `nothing has “${text}”` }] : [];
      list.replaceChildren(...options.map(({ url, title, say }, k) => {
        const option = document.createElement("a");
        option.id = `${list.id}-${k}`;
        option.role = "option";
        option.href = url;
        option.tabIndex = -1;
        option.innerHTML = title; // of our own pages; names of them may hold formulas
        const more = document.createElement("small");
        more.textContent = say;
        if (say) option.append(more);
        return option;
      }));
      set({ "aria-expanded": String(found.length > 0) });
      choose(-1);
      status.textContent = found.length ? "" : "No page has these words. Are they spelt as the glossary spells them?";
      status.ariaLabel = found.length ? `${found.length} suggestions` : "";
    }

    field.addEventListener("focus", () => (ready ??= fetchAll()));
    field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(show, PAUSE);
    });
    field.addEventListener("keydown", (event) => {
      const count = list.children.length;
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && count) {
        // Between the last and the first stands the field itself.
        choose(((chosen + 1 + step + count + 1) % (count + 1)) - 1);
        event.preventDefault();
      } else if (event.key === "Enter" && chosen >= 0) {
        /** @type {HTMLAnchorElement} */ (list.children[chosen]).click();
        event.preventDefault();
      } else if (event.key === "Escape") shut();
    });
    list.addEventListener("click", () => {
      form.closest("dialog")?.close(); // a place of this page is seen, too
    });
    form.closest("dialog")?.addEventListener("close", shut);
  });
})();
