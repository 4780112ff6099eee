// What Sphinx's own scripts give the pages.
declare const DOCUMENTATION_OPTIONS: { SHOW_SEARCH_SUMMARY: boolean };
declare const Search: { makeSearchSummary: Function };
