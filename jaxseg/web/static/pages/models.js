// The store of models: trained here, offered by packages and papers, imported from files.

import {get, post, run as address} from "../api.js";
import {badge, breakable, button, bytes, field, fill, h, heading, percent, say, select} from "../dom.js";
import {listed} from "../tables.js";
import {CRITERIA, runLink} from "../words.js";

export async function show(root, {signal}) {
  const search = h("input", {
    type: "search",
    class: "search",
    "aria-label": "Filter the trained networks by run, method or data",
    placeholder: "Filter by run, method, data",
  });
  const own = h("div"),
    found = await get("/api/models", {}, signal);
  let typed;
  search.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(async () => {
      try {
        fill(own, table(await get("/api/models", {q: search.value}, signal), search.value));
      } catch (error) {
        if (!signal.aborted) say(error.message, true);
      }
    }, 150);
  });
  fill(own, table(found, ""));
  root.append(
    heading("Models", found.trained.length > 0 && search),
    h("h2", {}, "Trained here"),
    own,
    ...body(found),
  );
}

function table(found, words) {
  if (!found.trained.length)
    return h(
      "p",
      {class: "empty"},
      words ? "No network matches." : ["No trained network yet. ", h("a", {href: "#/new"}, "Train one")],
    );
  return [
    listed(
      "Trained here",
      ["run", "network", "mIoU %", "snapshots", ""],
      found.trained.map(t => trained(t)),
    ),
    found.more && h("p", {class: "note"}, "These are the newest; the filter finds the others."),
  ];
}

function body(found) {
  return [
    h("h2", {}, "Import a weights file"),
    importing(found),
    h("h2", {}, "Offered by packages and papers"),
    h(
      "p",
      {class: "note"},
      `Nothing is downloaded from here: fetch a file yourself and put it below ${found.top}; it is then found by its name. `,
      "A backbone starts a training as init.backbone; a whole network is imported above.",
    ),
    listed(
      "Offered weights",
      ["file", "licence and source", "SHA-256", "here"],
      found.offered.map(o => offered(o, found.top)),
    ),
  ];
}

function trained(t) {
  const steps = [
    ["last", `last, step ${t.steps.at(-1)}`],
    ...Object.entries(t.chosen).map(([k, s]) => [
      k === "miou" ? "best" : k,
      `${k === "miou" ? "best" : CRITERIA[k]}, step ${s}`,
    ]),
  ];
  const step = select(steps, t.chosen.miou !== undefined ? "best" : "last");
  step.setAttribute("aria-label", `snapshot of ${t.name}`);
  const link = h("a", {class: "button", download: true, href: "#"}, "Download");
  const set = () => {
    link.href = `${address(t.name)}/archive?step=${step.value}`;
  };
  step.addEventListener("change", set);
  set();
  const out = ["jax", "onnx"].map(format =>
    button(`Export ${format}`, async () => {
      const job = await post(`${address(t.name)}/export`, {format, step: step.value});
      location.hash = `#/jobs/${job.id}`;
    }),
  );
  return [
    h(
      "th",
      {scope: "row"},
      h("a", {href: runLink(t.name)}, breakable(t.name)),
      h("small", {}, [t.method, t.data].filter(Boolean).join(" · ")),
    ),
    h("td", {class: "faint"}, t.network),
    h("td", {}, percent(t.miou)),
    h("td", {}, step),
    h(
      "td",
      {},
      h(
        "span",
        {class: "row-actions"},
        h("a", {class: "button", href: `#/try?run=${encodeURIComponent(t.name)}`}, "Try"),
        link,
        out,
        t.exports.map(f =>
          h("a", {href: `${address(t.name)}/export/${encodeURIComponent(f)}`, download: true}, f),
        ),
      ),
    ),
  ];
}

function importing(found) {
  const path = h("input", {
    list: "weights",
    spellcheck: "false",
    autocomplete: "off",
    oninput: () => {
      if (!name.dataset.own)
        name.value = path.value
          .split("/")
          .at(-1)
          .replace(/\.\w+$/, "")
          .replace(/[^\w-]/g, "_");
    },
  });
  const name = h("input", {
    spellcheck: "false",
    autocomplete: "off",
    oninput: () => {
      name.dataset.own = "1";
    },
  });
  const config = h("input", {placeholder: "recognised", spellcheck: "false"}),
    said = h("div", {role: "alert"});
  return h(
    "div",
    {class: "card"},
    h(
      "div",
      {class: "fields"},
      field(
        "File",
        path,
        found.files.length
          ? `${found.files.length} ${found.files.length > 1 ? "files" : "file"} below ${found.top}`
          : `no weights file below ${found.top}`,
      ),
      field("Name of the new run", name),
      field(
        "Experiment",
        config,
        "for a file with this project's names: the run whose settings it has, or an experiment, as advent:streets; published networks are recognised",
      ),
    ),
    h(
      "datalist",
      {id: "weights"},
      found.files.map(f => h("option", {value: f.path}, bytes(f.bytes))),
    ),
    said,
    button(
      "Import",
      async () => {
        fill(said);
        try {
          const job = await post("/api/models/import", {
            path: path.value,
            name: name.value,
            config: config.value,
          });
          location.hash = `#/jobs/${job.id}`;
        } catch (error) {
          fill(said, h("p", {class: "problem"}, error.message));
        }
      },
      "main",
    ),
  );
}

function offered(o, top) {
  const sum = h(
    "code",
    {},
    o.sha256 ? o.sha256.slice(0, 16) + (o.sha256.length > 16 ? "…" : "") : "not known",
  );
  const where = o.where.startsWith("http")
    ? h("a", {href: o.where, rel: "noreferrer noopener", target: "_blank"}, o.where.replace("https://", ""))
    : h("code", {}, o.where);
  const check = button(
    "verify",
    async () => {
      const {sha256} = await get("/api/models/checksum", {path: o.here});
      const right = !o.sha256 || sha256.startsWith(o.sha256);
      fill(sum, sha256.slice(0, 16) + "…");
      say(
        right
          ? `sha256 ${sha256}${o.sha256 ? ": as published" : ""}`
          : `${o.name} is NOT the published file: sha256 ${sha256}`,
        !right,
      );
    },
    "link",
  );
  return [
    h("th", {scope: "row", class: "wrap"}, o.name, h("small", {}, o.what)),
    h("td", {class: "wrap"}, o.licence, h("small", {}, where)),
    h("td", {}, sum, o.bytes && h("small", {}, bytes(o.bytes))),
    h("td", {}, o.here ? [badge("here"), " ", !o.backbone && check] : h("span", {class: "faint"}, "no")),
  ];
}
