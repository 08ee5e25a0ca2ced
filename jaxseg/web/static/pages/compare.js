// Up to six runs on one chart and in one table, with mean and deviation over seeds.

import {get} from "../api.js";
import {chart, colour} from "../charts.js";
import {breakable, every, fill, h, heading, percent} from "../dom.js";
import {CRITERIA, runLink, stateOf} from "../words.js";

const KEYS = ["miou", "source_miou", "entropy", "agreement", "neighbourhood_density"];
const TITLES = {...CRITERIA, miou: "target mIoU"};

/** Mean and sample deviation of numbers; the deviation of a single one is null. */
export function spread(values) {
  const known = values.filter(v => v != null);
  if (!known.length) return [null, null];
  const mean = known.reduce((a, b) => a + b, 0) / known.length;
  const square = known.reduce((a, b) => a + (b - mean) ** 2, 0);
  return [mean, known.length > 1 ? Math.sqrt(square / (known.length - 1)) : null];
}

/** All runs' curves on the union of their steps. */
export function joined(runs, key) {
  const steps = [...new Set(runs.flatMap(r => r.curves[key].map(([s]) => s)))].sort((a, b) => a - b);
  return [
    steps,
    runs.map(r => {
      const own = new Map(r.curves[key]);
      return steps.map(s => own.get(s) ?? null);
    }),
  ];
}

export async function show(root, {query, signal}) {
  const names = query.getAll("run").slice(0, 6);
  if (!names.length) {
    root.append(
      heading("Compare"),
      h("p", {class: "empty"}, "Choose up to six runs in the ", h("a", {href: "#/runs"}, "list"), "."),
    );
    return;
  }
  const table = h("div"),
    byClass = h("div"),
    box = h("div", {class: "charts"}),
    charts = {};
  root.append(heading(`Compare ${names.length} runs`), table, h("h2", {}, "Curves"), box, byClass);
  async function load() {
    const {runs} = await get("/api/compare", {run: names}, signal);
    fill(table, scores(runs));
    for (const key of KEYS) {
      const [steps, lines] = joined(runs, key);
      if (!steps.length || !lines.flat().some(v => v != null)) continue;
      if (!charts[key]) {
        charts[key] = chart(
          TITLES[key] + (key === "neighbourhood_density" ? "" : ", %"),
          {names, dots: true},
          signal,
        );
        box.append(charts[key].element);
      }
      charts[key].set(
        steps,
        lines.map(l => l.map(v => (v == null ? null : key === "neighbourhood_density" ? v : 100 * v))),
      );
    }
    fill(byClass, perClass(runs));
  }
  await load();
  every(5000, load, signal);
}

const cell = (value, by) =>
  h("td", {class: "n"}, percent(value), by != null && h("span", {class: "faint"}, ` ± ${percent(by)}`));

/** What runs have in common that differ by their seeds. */
const group = r => `${r.method} · ${r.data} · ${r.network} · ${r.steps} steps`;

function scores(runs) {
  const columns = [
    ["miou", "mIoU %"],
    ["best", "best %"],
    ["source_miou", "source %"],
    ["entropy", "entropy %"],
  ];
  const groups = new Map();
  for (const r of runs) groups.set(group(r), [...(groups.get(group(r)) || []), r]);
  const means = [...groups]
    .filter(([, own]) => own.length > 1)
    .map(([title, own]) =>
      h(
        "tr",
        {class: "mean"},
        h("td"),
        h("th", {scope: "row"}, `mean of ${own.length} seeds`, h("small", {}, title)),
        h("td"),
        h("td"),
        columns.map(([k]) => cell(...spread(own.map(r => r[k])))),
      ),
    );
  return h(
    "div",
    {class: "scroll", tabindex: "0", role: "region", "aria-label": "Scores"},
    h(
      "table",
      {class: "list"},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", {}, h("span", {class: "sr"}, "colour")),
          h("th", {scope: "col"}, "run"),
          h("th", {class: "n", scope: "col"}, "seed"),
          h("th", {class: "n", scope: "col"}, "step"),
          columns.map(([, t]) => h("th", {class: "n", scope: "col"}, t)),
        ),
      ),
      h(
        "tbody",
        {},
        runs.map((r, i) =>
          h(
            "tr",
            {},
            h("td", {}, h("span", {class: "chip"}, h("i", {css: {background: colour(i)}}))),
            h(
              "th",
              {scope: "row"},
              h("a", {href: runLink(r.name)}, breakable(r.name)),
              h("small", {}, `${r.method} · ${r.data}`),
            ),
            h("td", {class: "n"}, r.seed ?? "–"),
            h("td", {class: "n"}, `${r.step} / ${r.steps}`),
            columns.map(([k]) => cell(r[k])),
          ),
        ),
        means,
      ),
    ),
  );
}

function perClass(runs) {
  const names = [...new Set(runs.flatMap(r => Object.keys(r.iou || {})))];
  if (!names.length) return [];
  const alike = runs.length > 1 && new Set(runs.map(group)).size === 1;
  return [
    h("h2", {}, "IoU of each class at the last evaluation"),
    h(
      "div",
      {class: "scroll", tabindex: "0", role: "region", "aria-label": "IoU of each class"},
      h(
        "table",
        {class: "list tight"},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", {scope: "col"}, "class"),
            runs.map(r => h("th", {class: "n", scope: "col"}, r.name)),
            alike && h("th", {class: "n", scope: "col"}, "mean ± deviation"),
          ),
        ),
        h(
          "tbody",
          {},
          names.map(name =>
            h(
              "tr",
              {},
              h("th", {scope: "row"}, name),
              runs.map(r => cell(r.iou?.[name])),
              alike && cell(...spread(runs.map(r => r.iou?.[name]))),
            ),
          ),
        ),
      ),
    ),
  ];
}
