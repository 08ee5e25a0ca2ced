// The curves of a run: scores of its evaluations and what training logged, grouped as in report.html.

import {chart} from "./charts.js";
import {fill, h} from "./dom.js";
import {CRITERIA, TITLES} from "./words.js";

const LAST = ["lr", "images_per_second", "input_wait"];
const LEVELS = {accuracy: [0.5, 1]};
export const POINTS = 1500; // most points of a line; more could not be seen

/** {group: {rest: name of the metric}} of training lines, in the order of report.html. */
export function groups(train) {
  const found = {};
  for (const line of train)
    for (const name in line) {
      if (name === "kind" || name === "step" || name === "nonfinite") continue;
      const cut = name.lastIndexOf("/"),
        group = name.slice(0, Math.max(0, cut));
      const [key, rest] = group === "" || group === "loss" ? [name, ""] : [group, name.slice(cut + 1)];
      (found[key] ??= {})[rest] = name;
    }
  const place = key => (LAST.includes(key) ? 100 + LAST.indexOf(key) : key.startsWith("loss/") ? 0 : 1);
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => place(a) - place(b)));
}

/** Every n-th line, the last one always. */
export function thin(lines) {
  const size = Math.ceil(lines.length / POINTS);
  return size <= 1 ? lines : lines.filter((_, i) => i % size === 0 || i === lines.length - 1);
}

/** Returns draw({train, eval}, facts); charts are made once and then grow. */
export function curves(place, signal) {
  const charts = new Map(),
    box = h("div", {class: "charts"}),
    note = h("p", {class: "note"});
  let order = [],
    warmup = 0;
  const one = (title, options, steps, values, key = title) => {
    const made = [title, warmup, ...options.names].join();
    // A line that comes later, as the discriminator's after the warm-up, makes the chart anew.
    if (charts.get(key)?.made !== made) {
      charts.get(key)?.element.remove();
      charts.set(key, {...chart(title, {warmup, ...options}, signal), made});
    }
    order.push(charts.get(key).element);
    charts.get(key).set(steps, values);
  };
  const column = (lines, key, factor = 1) => lines.map(l => (l[key] == null ? null : factor * l[key]));

  return ({train, eval: evaluations}, facts) => {
    order = [];
    warmup = facts.warmup || 0; // a run that has only been queued has none yet
    const steps = evaluations.map(e => e.step),
      has = key => evaluations.some(e => e[key] != null);
    const scores = [
      ["target mIoU", "miou"],
      ["source mIoU", "source_miou"],
      ["pixel accuracy", "pixel_accuracy"],
    ].filter(([, k]) => has(k));
    if (scores.length)
      one(
        "Scores, %",
        {names: scores.map(([t]) => t), dots: true},
        steps,
        scores.map(([, k]) => column(evaluations, k, 100)),
      );
    const free = ["entropy", "agreement"].filter(has);
    if (free.length)
      one(
        "Without target labels, %",
        {names: free.map(k => CRITERIA[k]), dots: true},
        steps,
        free.map(k => column(evaluations, k, 100)),
      );
    if (has("neighbourhood_density"))
      one("Soft neighbourhood density", {names: ["density"], dots: true}, steps, [
        column(evaluations, "neighbourhood_density"),
      ]);
    const fewer = thin(train),
      titles = {...TITLES, ...(facts.brought?.titles || {})};
    for (const [group, own] of Object.entries(groups(train))) {
      const names = Object.keys(own);
      one(
        titles[group] || group.replaceAll("_", " ").replaceAll("/", " of "),
        {names, log: group === "lr", levels: LEVELS[group] || []},
        fewer.map(l => l.step),
        names.map(n => column(fewer, own[n])),
        group,
      );
    }
    if (order.some((element, i) => box.children[i] !== element)) box.append(...order);
    const marked = warmup > 0 && warmup <= facts.steps;
    note.textContent =
      (marked ? `The dashed line is the end of the warm-up on the source, step ${warmup}. ` : "") +
      "Drag over a chart to look closer, double-click to see all.";
    if (charts.size && !box.isConnected) fill(place, h("h2", {}, "Curves"), box, note);
    if (!charts.size)
      fill(place, h("p", {class: "empty"}, "Nothing is logged yet: the curves appear here as they grow."));
  };
}
