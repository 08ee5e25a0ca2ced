// What starts a training: a check of its settings, and the page that clones a run.

import {get, post, run as address} from "./api.js";
import {button, field, fill, h, heading} from "./dom.js";
import {reference} from "./reference.js";
import {flat} from "./tables.js";
import {runLink} from "./words.js";

/** The same settings as a run, in a new folder. */
export async function cloned(root, from, signal) {
  const {config} = await get(address(from), {}, signal);
  const name = h("input", {value: `${from.split("/").at(-1)}_2`, autocomplete: "off"}),
    wrong = h("div", {role: "alert"});
  const seed = h("input", {value: String(config.seed ?? 0), inputmode: "numeric"}),
    more = h("textarea", {rows: 6, spellcheck: "false"}),
    all = h("div");
  const content = () => ({
    name: name.value,
    clone: from,
    settings: [seed.value !== String(config.seed) && `seed=${seed.value}`, more.value]
      .filter(Boolean)
      .join("\n"),
  });
  reference(
    all,
    flat(config).map(([key, value]) => ({
      key,
      value: typeof value === "string" ? value : JSON.stringify(value),
      comment: "",
    })),
    more,
  );
  root.append(
    heading(`Clone ${from}`),
    h("p", {class: "note"}, "A new run with this one's settings, from its beginning."),
    h(
      "div",
      {class: "side"},
      h(
        "div",
        {},
        h(
          "div",
          {class: "card split"},
          field("Name of the run", name),
          field("seed", seed, "another seed shows how much is chance"),
        ),
        h("h2", {}, "Other changes"),
        field("One a line, as on the command line", more),
        all,
      ),
      h(
        "aside",
        {class: "card sticky"},
        wrong,
        h(
          "div",
          {class: "bar-row"},
          button("Start", () => begin(wrong, content(), name), "main"),
          button("Check", () => checked(wrong, content())),
        ),
      ),
    ),
  );
}

/** Starts the training once its settings are found to go together, and shows its page. */
export async function begin(wrong, content, name) {
  if (!(await checked(wrong, content))) return;
  try {
    await post("/api/runs", content);
    location.hash = runLink(name.value);
  } catch (error) {
    fill(wrong, h("p", {class: "problem"}, error.message));
  }
}

/** Whether the settings go together; where the check itself failed (500), the training will tell. */
export async function checked(wrong, content) {
  fill(wrong, h("p", {class: "note"}, "checking…"));
  try {
    await post("/api/check", content);
    fill(wrong, h("p", {class: "note up"}, "These settings go together."));
  } catch (error) {
    fill(wrong, h("p", {class: "problem"}, error.message));
    return error.status >= 500;
  }
  return true;
}
