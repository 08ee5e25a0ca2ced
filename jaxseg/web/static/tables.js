// Tiles and tables of one run: scores, classes, snapshots, settings.

import {h, percent, short} from "./dom.js";
import {CRITERIA} from "./words.js";

/** The evaluation to compare with: the end of the warm-up, or the first. */
export const before = (evaluations, warmup) => evaluations.findLast(e => e.step <= warmup) || evaluations[0];
const best = evaluations =>
  evaluations.reduce((top, e) => ((e.miou ?? -1) >= (top?.miou ?? -1) ? e : top), null);

const NUMBERS = ["images", "size", "made"]; // heads of columns of numbers

/** A table of things, such as data sets: heads ("" for none) and rows of cells. */
export const listed = (name, heads, rows) =>
  h(
    "div",
    {class: "scroll", tabindex: "0", role: "region", "aria-label": name},
    h(
      "table",
      {class: "list"},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map(t => (t ? h("th", {scope: "col", class: NUMBERS.includes(t) ? "n" : ""}, t) : h("td"))),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map(cells => h("tr", {}, cells)),
      ),
    ),
  );

const tile = (value, unit, title, remark, main) =>
  h(
    "div",
    {class: main ? "tile main" : "tile"},
    h("b", {}, value, h("small", {}, unit)),
    h("span", {}, title),
    h("em", {}, remark),
  );

export function tiles(evaluations, facts) {
  if (!evaluations.length) return [];
  const last = evaluations.at(-1),
    first = before(evaluations, facts.warmup),
    top = best(evaluations);
  const two = first !== last;
  return h(
    "div",
    {class: "tiles"},
    two &&
      tile(
        percent(first.miou),
        " %",
        "mIoU before",
        `${first.step <= facts.warmup ? "source only" : "first evaluation"}, step ${first.step}`,
      ),
    tile(
      percent(last.miou),
      " %",
      "mIoU at the last step",
      `step ${last.step}${last.images ? `, ${last.images} images of ${last.split}` : ""}`,
      true,
    ),
    top &&
      top !== last &&
      tile(percent(top.miou), " %", "mIoU of the best step", `step ${top.step}, chosen with target labels`),
    tile(
      percent(last.pixel_accuracy),
      " %",
      "pixel accuracy",
      two ? `before: ${percent(first.pixel_accuracy)} %` : "",
    ),
    tile(percent(last.entropy), " %", "mean entropy", two ? `before: ${percent(first.entropy)} %` : ""),
    last.source_miou != null &&
      tile(percent(last.source_miou), " %", "mIoU on the source", "held-out images"),
    last.depth?.abs_rel != null &&
      tile(
        short(last.depth.abs_rel),
        "",
        "relative error of depth",
        two && first.depth ? `before: ${short(first.depth.abs_rel)}` : "",
      ),
    facts.blind?.colour_and_position != null &&
      tile(
        percent(facts.blind.colour_and_position),
        " %",
        "mIoU by colour and position alone",
        "what hardly looking reaches",
      ),
  );
}

export function classes(evaluations, facts) {
  if (!evaluations.length || !evaluations.at(-1).iou) return [];
  const last = evaluations.at(-1),
    first = before(evaluations, facts.warmup),
    two = first !== last;
  const colours = Object.fromEntries(
    (facts.pictures.classes || []).map((c, i) => [c, facts.pictures.palette[i]]),
  );
  const bar = (value, old) =>
    h("div", {class: old ? "bar old" : "bar", css: {width: `${100 * (value || 0)}%`}});
  const row = (name, old, value, share) => {
    const change = old == null || value == null ? null : Math.round(1000 * (value - old)) / 10;
    return h(
      "tr",
      {class: name === "mean" ? "mean" : ""},
      h(
        "th",
        {scope: "row"},
        h("i", {class: "dot", css: {background: colours[name] ? `rgb(${colours[name]})` : "transparent"}}),
        name,
      ),
      h("td", {class: "bars"}, two && bar(old, true), bar(value)),
      h("td", {class: "faint share"}, share == null ? "" : percent(share)),
      two && h("td", {class: "faint"}, percent(old)),
      h("td", {}, percent(value)),
      two &&
        h(
          "td",
          {class: change > 0 ? "up" : change < 0 ? "down" : "faint"},
          change == null ? "–" : (change > 0 ? "+" : "") + change.toFixed(1),
        ),
    );
  };
  return [
    h("h2", {}, "IoU of each class"),
    h(
      "div",
      {class: "scroll", tabindex: "0", role: "region", "aria-label": "IoU of each class"},
      h(
        "table",
        {class: "classes"},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", {scope: "col"}, "class"),
            h("td", {class: "bars"}),
            h("th", {scope: "col", class: "share"}, "% of pixels"),
            two && h("th", {scope: "col"}, `step ${first.step}`),
            h("th", {scope: "col"}, `step ${last.step}`),
            two && h("th", {scope: "col"}, "change"),
          ),
        ),
        h(
          "tbody",
          {},
          Object.entries(last.iou).map(([name, value]) =>
            row(name, first.iou[name], value, last.pixels?.[name]),
          ),
          row("mean", first.miou, last.miou),
        ),
      ),
    ),
    h("p", {class: "note"}, "In percent; – where a class is neither in the ground truth nor called."),
  ];
}

export function snapshots(facts) {
  const criteria = facts.selection?.criteria;
  if (!criteria) return [];
  return [
    h("h2", {}, "Choosing a snapshot without target labels"),
    h(
      "div",
      {class: "scroll", tabindex: "0", role: "region", "aria-label": "Snapshots by criterion"},
      h(
        "table",
        {class: "list"},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["criterion", "step", "target mIoU %", "below best", "rank correlation", "kept"].map((t, i) =>
              h("th", {scope: "col", class: i ? "n" : ""}, t),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          Object.entries(criteria).map(([key, c]) =>
            h(
              "tr",
              {},
              h("th", {scope: "row"}, CRITERIA[key] || key),
              h("td", {class: "n"}, c.step),
              h("td", {class: "n"}, percent(c.miou)),
              h("td", {class: "n"}, percent(c.below_best)),
              h("td", {class: "n"}, c.rank_correlation == null ? "–" : c.rank_correlation.toFixed(2)),
              h("td", {class: "n"}, facts.checkpoints.includes(c.step) ? "yes" : "no"),
            ),
          ),
        ),
      ),
    ),
  ];
}

/** Settings flat and by name, as they are given on the command line. */
export function flat(config, prefix = "") {
  return Object.entries(config || {}).flatMap(([key, value]) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? flat(value, `${prefix}${key}.`)
      : [[prefix + key, value]],
  );
}

export const settings = config =>
  config
    ? h(
        "details",
        {},
        h("summary", {}, "Settings"),
        h(
          "table",
          {class: "facts"},
          h(
            "tbody",
            {},
            flat(config).map(([k, v]) =>
              h("tr", {}, h("th", {scope: "row"}, k), h("td", {}, JSON.stringify(v))),
            ),
          ),
        ),
      )
    : [];
