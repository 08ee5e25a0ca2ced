// The pictures of a run's evaluations, a row for each image, at the step that the slider names.

import {run as address} from "./api.js";
import {chip, fill, h} from "./dom.js";

const FIRST = ["image", "truth", "prediction", "entropy"];
const WORDS = {truth: "ground truth", depth: "depth"};

/** {row: {kind: path}} of the files of all steps and of one step: "0_image.jpg", "views_0_pseudo.png". */
export function rows(files, step) {
  const found = {};
  const add = (names, folder) => {
    for (const name of names || []) {
      const match = name.match(/^(?:(\D\w*?)_)?(\d+)_(.+)\.(png|jpg)$/);
      if (!match) continue;
      const row = `${match[1] || ""} ${match[2]}`.trim();
      let kind = match[3];
      if (folder && found[row]?.[kind]) kind = `predicted ${kind}`;
      (found[row] ??= {})[kind] = folder + name;
    }
  };
  add(files[""], "");
  add(files[String(step)], `${String(step).padStart(8, "0")}/`);
  return found;
}

/** Returns draw(facts), which keeps to the newest step until another one is chosen. */
export function pictures(place, name) {
  let chosen = null,
    key = "";
  return facts => {
    const {files, classes, palette} = facts.pictures,
      steps = Object.keys(files).filter(Boolean).map(Number);
    const state = JSON.stringify(files);
    if (!steps.length || state === key) return;
    key = state;
    const grid = h("div"),
      told = h("b", {}),
      slider = h("input", {
        type: "range",
        min: 0,
        max: steps.length - 1,
        step: 1,
        "aria-label": "step of the pictures",
      });
    const draw = () => {
      const at = chosen === null ? steps.length - 1 : Math.max(0, steps.indexOf(chosen));
      slider.value = at;
      told.textContent = `step ${steps[at]}`;
      slider.setAttribute("aria-valuetext", told.textContent);
      fill(grid, blocks(rows(files, steps[at]), name, steps[at], facts.brought?.views || {}));
    };
    slider.addEventListener("input", () => {
      chosen = +slider.value === steps.length - 1 ? null : steps[+slider.value];
      draw();
    });
    fill(
      place,
      h("h2", {}, "Pictures"),
      h("div", {class: "bar-row"}, steps.length > 1 && h("label", {}, "step", slider), told),
      classes &&
        h(
          "div",
          {class: "chips"},
          classes.map((c, i) => chip(c, palette[i])),
        ),
      grid,
    );
    draw();
  };
}

/** Rows with the same columns stand in one grid; `views` are the method's own, in its order. */
function blocks(found, name, step, views) {
  const grids = new Map(),
    own = Object.keys(views),
    title = (row, kind) =>
      (row.startsWith("views") && views[kind]?.title) || WORDS[kind] || kind.replaceAll("_", " ");
  for (const [row, kinds] of Object.entries(found)) {
    const order = k => (FIRST.includes(k) ? FIRST.indexOf(k) : 9 + own.indexOf(k));
    const columns = Object.keys(kinds).sort((a, b) => order(a) - order(b));
    const key = `${row.replace(/\d+/, "")}|${columns.join()}`;
    if (!grids.has(key)) grids.set(key, {group: row.replace(/ ?\d+/, ""), columns, cells: []});
    grids
      .get(key)
      .cells.push(
        ...columns.map(c =>
          h("img", {
            loading: "lazy",
            alt: `${row}: ${title(row, c)}`,
            src: `${address(name)}/files/pictures/${kinds[c]}?step=${step}`,
          }),
        ),
      );
  }
  return [...grids.values()].map(({group, columns, cells}) => [
    group &&
      h(
        "h3",
        {},
        {source: "Source images as the method changes them", views: "What else the method shows"}[group] ||
          group,
      ),
    h(
      "div",
      {class: "scroll", tabindex: "0", role: "region", "aria-label": `pictures ${group}`},
      h(
        "div",
        {class: "pictures", css: {"--columns": columns.length}},
        columns.map(c => h("span", {class: "head"}, title(group, c))),
        cells,
      ),
    ),
  ]);
}
