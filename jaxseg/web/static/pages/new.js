// New training: a config and preset, data, a handful of settings; all others in a text box.

import {get} from "../api.js";
import {button, field, fill, h, heading, say, select} from "../dom.js";
import {quoted, reference} from "../reference.js";
import {begin, checked, cloned} from "../starting.js";

export async function show(root, {query, signal}) {
  const clone = query.get("clone");
  if (clone) {
    await cloned(root, clone, signal);
    return;
  }
  const [{configs}, {datasets}] = await Promise.all([
    get("/api/configs", {}, signal),
    get("/api/datasets", {}, signal),
  ]);
  const first = configs.find(c => c.name === (query.get("config") || "advent")) || configs[0];
  const config = select(
    configs.map(c => c.name),
    first.name,
    () => presets(),
  );
  const title = h("p", {class: "note"}),
    preset = select([], undefined, () => chosen()),
    typed = h("input", {autocomplete: "off", spellcheck: "false", onchange: () => chosen()}),
    other = field("Its name", typed, "modifiers follow after plus signs, as in streets+scratch+mic"),
    unknown = h("div", {role: "alert"});
  const name = h("input", {autocomplete: "off", spellcheck: "false"}),
    data = h("div", {class: "card split"}),
    few = h("div", {class: "fields"});
  const more = h("textarea", {
    rows: 5,
    spellcheck: "false",
    placeholder: "optim.gen.lr=0.05\naugment.source.jitter=0.4",
  });
  const all = h("div"),
    wrong = h("div", {role: "alert"});
  let settings = [],
    suggested = "";

  const given = () => preset.value || typed.value.trim();
  let wanted = query.get("preset"); // by the address, for the first method

  async function presets() {
    const own = config.value;
    title.textContent = configs.find(c => c.name === own).title;
    try {
      const {presets: known} = await get(`/api/configs/${own}/presets`, {}, signal);
      if (own !== config.value) return;
      fill(preset, grouped(known), h("option", {value: ""}, "another one, by its name"));
      typed.value = wanted && !known.includes(wanted) ? wanted : "";
      preset.value = wanted ? (typed.value ? "" : wanted) : known[0];
      wanted = null;
    } catch (error) {
      if (!signal.aborted) say(error.message, true);
      return;
    }
    await chosen();
  }

  async function chosen() {
    other.hidden = preset.value !== "";
    fill(unknown);
    const asked = [config.value, given()];
    if (!given()) {
      typed.focus();
      return;
    }
    try {
      const found = await get(`/api/configs/${config.value}`, {preset: given()}, signal);
      if (asked.join() !== [config.value, given()].join()) return;
      ({settings} = found);
    } catch (error) {
      if (!signal.aborted) fill(unknown, h("p", {class: "problem"}, error.message));
      return;
    }
    if (!name.value || name.value === suggested) {
      suggested = `${config.value}_${given()}_${new Date().toISOString().slice(5, 16).replace(/\D/g, "")}`.replace(
        /[^\w.-]/g,
        "_",
      );
      name.value = suggested;
    }
    const own = datasets.filter(d => d.job.job_state === "done");
    const picked = new Map(
      [...data.querySelectorAll("select")].map(c => [c.dataset.side, c.value]),
    );
    const side = which => {
      const text = settings
        .filter(s => [`data.${which}.name`, `data.${which}.options.domain`].includes(s.key))
        .map(s => s.value)
        .join(", ");
      const control = select(
        [
          ["", `the preset's: ${text}`],
          ...own.filter(d => which === "target" || d.labels).map(d => [d.name, d.name]),
        ],
        picked.get(which) ?? (query.get(which) || ""),
      );
      control.dataset.side = which;
      return field(which === "source" ? "Source (labelled)" : "Target", control);
    };
    fill(
      data,
      side("source"),
      side("target"),
      own.length === 0 &&
        h(
          "p",
          {class: "note"},
          "Data of your own are added on the page ",
          h("a", {href: "#/data/new"}, "Data"),
          ".",
        ),
    );
    // What was typed stays, also while the settings of another preset were on their way.
    const mine = new Map(
      [...few.querySelectorAll("input[data-mine]")].map(i => [i.dataset.key, i.value]),
    );
    fill(
      few,
      settings
        .filter(s => s.few)
        .map(s => {
          const control = h("input", {
            value: mine.get(s.key) ?? s.value,
            spellcheck: "false",
            "data-key": s.key,
            "data-was": s.value,
            oninput: () => (control.dataset.mine = "1"),
          });
          if (mine.has(s.key)) control.dataset.mine = "1";
          return field(s.key, control, s.comment);
        }),
    );
    reference(all, settings, more);
  }

  const content = () => {
    const lines = [...few.querySelectorAll("input")]
      .filter(i => i.value !== i.dataset.was)
      .map(i => `${i.dataset.key}=${quoted(i.value)}`);
    const sides = Object.fromEntries(
      [...data.querySelectorAll("select")].map(c => [c.dataset.side, c.value]),
    );
    return {
      name: name.value,
      config: `${config.value}:${given()}`,
      settings: [...lines, more.value].join("\n"),
      ...sides,
    };
  };
  const check = button("Check", async () => {
    await checked(wrong, content());
  });
  const start = button(
    "Start",
    async () => {
      await begin(wrong, content(), name);
    },
    "main",
  );
  root.append(
    heading("New training"),
    h(
      "div",
      {class: "side"},
      h(
        "div",
        {},
        h(
          "div",
          {class: "card"},
          h(
            "div",
            {class: "split"},
            h("div", {}, field("Method", config), title),
            h(
              "div",
              {},
              field("Preset", preset, "data, network and schedule that belong together; + changes one thing"),
              other,
              unknown,
            ),
          ),
          field("Name of the run", name, "a new folder among the runs"),
        ),
        h("h2", {}, "Data"),
        data,
        h("h2", {}, "Settings"),
        h("div", {class: "card"}, few),
        h("h2", {}, "Other settings"),
        field("One a line, as on the command line", more),
        all,
      ),
      h(
        "aside",
        {class: "card sticky"},
        h("h2", {}, "Ready?"),
        h(
          "p",
          {class: "note"},
          "The training is a process of its own, the same as on the command line. If another one runs, it waits its turn.",
        ),
        wrong,
        h("div", {class: "bar-row"}, start, check),
      ),
    ),
  );
  await presets();
}

/** The presets as choices, those with a modifier beneath the one that they change. */
function grouped(known) {
  const choices = names => names.map(name => h("option", {value: name}, name));
  return known
    .filter(name => !name.includes("+"))
    .map(base => {
      const changed = known.filter(name => name.startsWith(`${base}+`));
      return changed.length ? h("optgroup", {label: base}, choices([base, ...changed])) : choices([base]);
    });
}
