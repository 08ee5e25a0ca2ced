// The list of runs: filtered, sorted and paged by the server, so that thousands stay quick.

import {get} from "../api.js";
import {ago, badge, breakable, every, fill, h, heading, percent} from "../dom.js";
import {runLink, stateOf} from "../words.js";

const PAGE = 100;
const COLUMNS = [
  ["name", "run"],
  ["step", "step", "n"],
  ["miou", "mIoU %", "n"],
  ["best", "best %", "n"],
  ["source_miou", "source %", "n"],
  ["entropy", "entropy %", "n"],
  ["seed", "seed", "n"],
  ["changed", "changed", "n"],
];

export async function show(root, {query, signal}) {
  const chosen = new Set();
  let sort = query.get("sort") || "-changed",
    offset = 0,
    words = query.get("q") || "",
    total = 0,
    drawn = "";
  const search = h("input", {
    type: "search",
    class: "search",
    "aria-label": "Filter runs by name, method or data",
    placeholder: "Filter by name, method, data",
    value: words,
  });
  const compare = h("a", {class: "button", "aria-disabled": "true"}, "Compare");
  const head = h("tr"),
    rows = h("tbody"),
    pager = h("div", {class: "bar-row"}),
    empty = h("div");
  const table = h(
    "div",
    {class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs"},
    h("table", {class: "list"}, h("thead", {}, head), rows),
  );

  const choose = () => {
    const ready = chosen.size > 1;
    compare.textContent = chosen.size ? `Compare ${chosen.size}` : "Compare";
    compare.setAttribute("aria-disabled", String(!ready));
    if (ready) compare.href = `#/compare?${[...chosen].map(n => `run=${encodeURIComponent(n)}`).join("&")}`;
    else compare.removeAttribute("href");
  };

  const heads = () =>
    fill(
      head,
      h("th", {}, h("span", {class: "sr"}, "compare")),
      COLUMNS.map(([key, text, kind]) => {
        const here = sort.replace("-", "") === key,
          down = sort.startsWith("-");
        return h(
          "th",
          {class: kind, "aria-sort": here ? (down ? "descending" : "ascending") : undefined},
          h(
            "button",
            {
              type: "button",
              onclick: () => {
                sort = here && down ? key : here ? `-${key}` : key === "name" ? key : `-${key}`;
                offset = 0;
                heads();
                load();
              },
            },
            text,
            here ? (down ? " ↓" : " ↑") : "",
          ),
        );
      }),
    );

  const row = run => {
    const box = h("input", {
      type: "checkbox",
      "aria-label": `compare ${run.name}`,
      checked: chosen.has(run.name),
      onchange: () => {
        if (box.checked && chosen.size >= 6) box.checked = false;
        else if (box.checked) chosen.add(run.name);
        else chosen.delete(run.name);
        choose();
      },
    });
    return h(
      "tr",
      {},
      h("td", {}, box),
      h(
        "th",
        {scope: "row"},
        h("a", {href: runLink(run.name)}, breakable(run.name)),
        " ",
        badge(stateOf(run)),
        h("small", {}, [run.method, run.data].filter(Boolean).join(" · ")),
      ),
      h("td", {class: "n"}, run.steps ? `${run.step} / ${run.steps}` : run.step),
      ...["miou", "best", "source_miou", "entropy"].map(k => h("td", {class: "n"}, percent(run[k]))),
      h("td", {class: "n"}, run.seed ?? "–"),
      h("td", {class: "n faint"}, run.changed ? ago(run.changed) : "–"),
    );
  };

  async function load() {
    const found = await get("/api/runs", {q: words, sort, offset, limit: PAGE}, signal);
    const text = JSON.stringify([found, offset, found.runs.map(r => ago(r.changed))]);
    if (text === drawn) return;
    drawn = text;
    total = found.total;
    fill(rows, found.runs.map(row));
    table.hidden = !found.runs.length;
    fill(
      empty,
      !found.runs.length &&
        h(
          "p",
          {class: "empty"},
          words ? "No run matches." : "No runs here yet. ",
          !words && h("a", {href: "#/new"}, "Start a training"),
        ),
    );
    const step = by =>
      h(
        "button",
        {
          type: "button",
          disabled: offset + by < 0 || offset + by >= total,
          onclick: () => {
            offset += by;
            load();
          },
        },
        by < 0 ? "Earlier" : "Further",
      );
    fill(
      pager,
      total > PAGE && [
        step(-PAGE),
        step(PAGE),
        h("span", {class: "faint"}, `${offset + 1}–${Math.min(offset + PAGE, total)} of ${total}`),
      ],
    );
  }

  let typed;
  search.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => {
      words = search.value;
      offset = 0;
      load();
    }, 150);
  });
  heads();
  choose();
  root.append(
    heading("Runs", search, compare, h("a", {class: "button main", href: "#/new"}, "New training")),
    table,
    empty,
    pager,
  );
  await load();
  every(4000, load, signal);
}
