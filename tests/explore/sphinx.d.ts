// What Sphinx's own scripts give the pages.
declare const DOCUMENTATION_OPTIONS: { SHOW_SEARCH_SUMMARY: boolean };
declare const Search: {
  makeSearchSummary: Function;
  performSearch: (query: string) => void;
  query: (query: string) => void;
  _performSearch: Function;
  suggest: (text: string, most: number) => { url: string; title: string; say: string }[];
  _parseQuery: Function;
  _index: Record<string, object>;
  meant: (text: string) => string;
};
declare const Documentation: { TRANSLATIONS: Record<string, string> };
declare const Stemmer: new () => { stemWord: (word: string) => string };
declare const stopwords: string[];
declare const splitQuery: (text: string) => string[];
declare const _escapeRegExp: (text: string) => string;
declare const _displayNextItem: Function;
