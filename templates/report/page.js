const { config, specs } = JSON.parse(document.getElementById("data").textContent);
const narrow = matchMedia("(max-width: 640px)").matches;
config.axisY.labelLimit = narrow ? 112 : 220;
config.legend.columns = narrow ? 2 : 5;
config.legend.labelLimit = narrow ? 110 : 200;
const options = { mode: "vega-lite", renderer: "svg", actions: false, config, defaultStyle: false, tooltip: { theme: "page" } };
const drawn = Object.entries(specs).map(([key, spec]) => tinygenEmbed(`#chart-${key}`, spec, options));
Promise.all(drawn).then(
  () => document.documentElement.classList.add("drawn"),
  (problem) => { console.error(problem); document.documentElement.classList.add("failed"); },
);

/* paper shows all tables */
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((d) => { d.open = true; });
});
addEventListener("afterprint", () => closed.forEach((d) => { d.open = false; }));
