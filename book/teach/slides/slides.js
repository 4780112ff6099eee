// Start reveal.js; the looks follow the reader's choice on the site, or the system's.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    return localStorage.getItem("mode");
  } catch {
    return null; // a browser that forbids it
  }
}

function follow() {
  const mode = stored();
  const dark = mode === "dark" || (mode !== "light" && system.matches);
  root.dataset.theme = dark ? "dark" : "light";
}

follow();
system.addEventListener("change", follow);

Reveal.initialize({
  // A slide is as large as the window: CSS alone lays it out.
  width: "100%",
  height: "100%",
  margin: 0,
  center: false,
  display: "flex",
  scrollActivationWidth: null,
  hash: true,
  slideNumber: "c/t",
  transition: matchMedia("(prefers-reduced-motion: reduce)").matches ? "none" : "slide",
  transitionSpeed: "fast",
  pdfSeparateFragments: false,
  plugins: [RevealNotes],
}).then(() => {
  Reveal.addKeyBinding({ keyCode: 68, key: "D", description: "Light or dark" }, () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  });
});
