// Data sets: those made here, the published ones, and what is prepared. "#/data/new" makes one,
// "#/data/browse?set=NAME" or "?run=NAME" looks at the images.

import {get} from "../api.js";
import {ago, badge, bytes, chip, every, fill, h, heading, percent} from "../dom.js";
import * as browse from "../browse.js";
import {listed} from "../tables.js";
import * as making from "../making.js";

export async function show(root, options) {
  if (options.rest === "new") return making.show(root, options);
  if (options.rest === "browse") return browse.show(root, options);
  return list(root, options.signal);
}

async function list(root, signal) {
  const place = h("div");
  root.append(heading("Data", h("a", {class: "button main", href: "#/data/new"}, "New data set")), place);
  let before = "";
  async function load() {
    const found = await get("/api/datasets", {}, signal),
      text = JSON.stringify(found);
    if (text === before) return;
    before = text;
    fill(
      place,
      h("h2", {}, "Yours"),
      found.datasets.length
        ? h("div", {class: "cards"}, found.datasets.map(card))
        : h(
            "p",
            {class: "empty"},
            "Folders of your own images, with labels or without, become a data set here. ",
            h("a", {href: "#/data/new"}, "Make one"),
          ),
      h("h2", {}, "Published"),
      listed(
        "Published data sets",
        ["data set", "what it is", "here"],
        found.published.map(d => [
          h("th", {scope: "row"}, d.name),
          h("td", {class: "wrap"}, d.title),
          h(
            "td",
            {class: "wrap"},
            d.here
              ? d.name === "streets"
                ? "rendered when needed"
                : "yes"
              : h("span", {class: "faint"}, `no; its files belong in ${d.place}`),
          ),
        ]),
      ),
      h(
        "p",
        {class: "note"},
        "They are read as published; the documentation's page on data tells where they come from and how they are laid out. Each has terms of its own.",
      ),
      h("h2", {}, "Prepared records"),
      found.prepared.length
        ? listed(
            "Prepared records",
            ["data set", "records", "images", "size", "made"],
            found.prepared.map(d => [
              h("th", {scope: "row"}, d.data),
              h("td", {class: "wrap"}, d.config),
              h(
                "td",
                {class: "n"},
                Object.values(d.splits).reduce((a, b) => a + b, 0),
              ),
              h("td", {class: "n"}, bytes(d.bytes)),
              h("td", {class: "n faint"}, ago(d.changed)),
            ]),
          )
        : h("p", {class: "empty"}, "Nothing is prepared yet: a training prepares what it reads."),
    );
  }
  await load();
  every(3000, load, signal);
}

function card(set) {
  const {report, job} = set,
    ready = job.job_state === "done";
  const top = report.labelled
    ? report.classes
        .map((c, i) => [report.share[i], c, report.palette[i]])
        .sort((a, b) => b[0] - a[0])
        .slice(0, 6)
    : [];
  return h(
    "article",
    {class: "card"},
    h("h3", {}, set.name, " ", badge(ready ? "prepared" : job.job_state || "unknown")),
    h(
      "p",
      {class: "note"},
      `${report.splits.train} images to train, ${report.splits.val} to validate, stored at ${set.size.join(" × ")}, ${report.labelled ? `${report.classes.length} classes` : "no labels"}`,
    ),
    job.said && h("p", {class: "problem"}, job.said),
    h(
      "div",
      {class: "chips"},
      top.map(([share, name, colour]) => chip(name, colour, h("b", {}, `${percent(share, 0)} %`))),
    ),
    h(
      "div",
      {class: "bar-row"},
      ready && h("a", {class: "button", href: `#/data/browse?set=${set.name}`}, "Browse"),
      ready && h("a", {class: "button", href: `#/new?target=${set.name}`}, "Adapt to it"),
      ready && report.labelled && h("a", {class: "button", href: `#/new?source=${set.name}`}, "Train on it"),
      job.job && h("a", {href: `#/jobs/${job.job}`}, "log"),
    ),
  );
}
