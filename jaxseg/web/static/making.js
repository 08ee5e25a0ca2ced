// A new data set: choose folders, see what they hold, and only then prepare it.

import {get, post} from "./api.js";
import {badge, button, chip, field, fill, h, heading, percent, select} from "./dom.js";

const SETS = ["cityscapes", "synthia16", "synthia13", "crosscity13", "camvid", "virtual_kitti"];

export async function show(root, {signal}) {
  const found = await get("/api/data/folders", {}, signal);
  const listed = (id, values) =>
    h(
      "datalist",
      {id},
      values.map(v => h("option", {value: v})),
    );
  const text = (key, value = "", list, more = {}) =>
    h("input", {value, "data-key": key, list, spellcheck: "false", autocomplete: "off", ...more});
  const number = (key, value) => text(key, value, undefined, {inputmode: "decimal"});
  const values = select([
    ["auto", "automatic: by colour if the class file lists colours"],
    ["index", "index: grey values or palette indices"],
    ["colour", "colour: RGB of the class file"],
  ]);
  values.dataset.key = "label_values";
  const wrong = h("div", {role: "alert"}),
    report = h("div"),
    name = text("name", "");
  const form = h(
    "div",
    {},
    h(
      "div",
      {class: "card"},
      h(
        "p",
        {class: "note"},
        `Folders within ${found.top}. A path may hold {split}; folders with subfolders train and val are seen as such.`,
      ),
      h(
        "div",
        {class: "split"},
        field("Folder of images", text("images", "", "image-folders")),
        field("Folder of labels", text("labels", "", "image-folders"), "empty for unlabelled images"),
      ),
      h(
        "div",
        {class: "split"},
        field(
          "Classes",
          text("classes", "", "class-files"),
          "a text file with a class on each line (name, or R G B name), or a built-in set",
        ),
        field("What labels hold", values),
      ),
      h(
        "div",
        {class: "fields"},
        field("Height to store at", number("height", "128")),
        field("Width to store at", number("width", "256")),
        field(
          "Validation, percent",
          number("val_percent", "10"),
          "drawn by the files' names; not used if folders say it",
        ),
        field("Ending of image names", text("image_suffix"), "that labels lack, as _leftImg8bit"),
        field("Ending of label names", text("label_suffix"), "that images lack, as _L"),
      ),
      listed(
        "image-folders",
        found.images.map(f => f.path),
      ),
      listed("class-files", [...found.classes, ...SETS]),
    ),
    wrong,
    h("div", {class: "bar-row"}, button("Inspect", inspect, "main")),
  );
  root.append(heading("New data set"), form, report);

  const content = () =>
    Object.fromEntries([...form.querySelectorAll("[data-key]"), name].map(e => [e.dataset.key, e.value]));

  async function inspect() {
    fill(wrong);
    fill(report, h("p", {class: "note", role: "status"}, "reading…"));
    try {
      let job = await post("/api/data/survey", {...content(), name: "unnamed"});
      while (["queued", "running"].includes(job.state)) {
        await new Promise(done => setTimeout(done, 400));
        if (signal.aborted) return;
        job = await get(`/api/data/survey/${job.id}`, {}, signal);
        fill(
          report,
          h("p", {class: "note", role: "status"}, job.log?.trim().split("\n").at(-1) || "reading…"),
        );
      }
      if (job.state !== "done") throw new Error(job.said || "the inspection failed");
      fill(report, described(job.report), !job.report.faulty && create(job.id));
    } catch (error) {
      fill(report);
      if (!signal.aborted) fill(wrong, h("p", {class: "problem"}, error.message));
    }
  }

  function create(survey) {
    const said = h("div", {role: "alert"});
    if (!name.value)
      name.value = (
        content()
          .images.split("/")
          .filter(p => !["images", "{split}", "."].includes(p))
          .at(-1) || "mine"
      ).replace(/[^\w-]/g, "_");
    return h(
      "div",
      {class: "card create"},
      field("Name", name),
      said,
      button(
        "Create the data set",
        async () => {
          try {
            await post("/api/datasets", {...content(), survey});
            location.hash = "#/data";
          } catch (error) {
            fill(said, h("p", {class: "problem"}, error.message));
          }
        },
        "main",
      ),
    );
  }
}

/** What an inspection found. */
export function described(report) {
  // Files with faults are not counted.
  const rows = report.labelled
    ? report.classes.map((c, i) => ({c, i, share: report.share[i], images: report.images_with[i]}))
    : [];
  const total = report.splits.train + report.splits.val,
    never = rows.filter(r => !r.images).map(r => r.c);
  return h(
    "section",
    {},
    h("h2", {}, "What they hold"),
    h(
      "div",
      {class: "tiles"},
      [
        ["images to train", report.splits.train],
        ["images to validate", report.splits.val],
        ["sizes", Object.keys(report.sizes).length],
        ...(report.labelled ? [["of the pixels ignored", `${percent(report.ignored)} %`]] : []),
      ].map(([t, v]) =>
        h(
          "div",
          {class: "tile"},
          h("b", {}, v),
          h("span", {}, t),
          t === "sizes" &&
            h(
              "em",
              {},
              Object.entries(report.sizes)
                .map(([s, n]) => `${s.replace("x", " × ")} (${n})`)
                .join(", "),
            ),
        ),
      ),
    ),
    report.faulty > 0 &&
      h(
        "div",
        {class: "problem"},
        h("b", {}, `${report.faulty} of ${total} files have faults`),
        " and nothing can be prepared before they are mended:",
        h(
          "ul",
          {class: "faults"},
          report.faults.map(f => h("li", {}, h("code", {}, f.file), h("br"), f.said)),
        ),
        report.faulty > report.faults.length && `and ${report.faulty - report.faults.length} more`,
      ),
    !report.faulty && never.length > 0 && h("p", {class: "note"}, badge("note"), ` never shown: ${never.join(", ")}`),
    report.labelled
      ? report.faulty < total &&
        h(
          "div",
          {class: "scroll", tabindex: "0", role: "region", "aria-label": "Shares of the classes"},
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
                h("td"),
                h("th", {scope: "col"}, "% of labelled pixels"),
                h("th", {scope: "col"}, "% of images"),
              ),
            ),
            h(
              "tbody",
              {},
              rows.map(r =>
                h(
                  "tr",
                  {},
                  h("th", {scope: "row"}, chip(r.c, report.palette[r.i])),
                  h("td", {class: "bars"}, h("div", {class: "bar", css: {width: `${100 * r.share}%`}})),
                  h("td", {}, percent(r.share, 2)),
                  h("td", {}, percent(r.images / total, 0)),
                ),
              ),
            ),
          ),
        )
      : h("p", {class: "note"}, "No labels: such images can be adapted to, and looked at."),
  );
}
