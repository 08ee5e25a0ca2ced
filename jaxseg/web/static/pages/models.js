// The store of models: trained here, offered by packages and papers, imported from files.

import {get, post, run as address} from "../api.js";
import {badge, button, bytes, field, fill, h, heading, percent, say, select} from "../dom.js";
import {listed} from "../tables.js";
import {CRITERIA, runLink} from "../words.js";

export async function show(root, {signal}) {
  const place = h("div");
  root.append(heading("Models"), place);
  async function load() {
    fill(place, body(await get("/api/models", {}, signal), load));
  }
  await load();
}

function body(found, load) {
  return [
    h("h2", {}, "Trained here"),
    found.trained.length
      ? listed(
          "Trained here",
          ["run", "network", "mIoU %", "snapshots", ""],
          found.trained.map(t => trained(t)),
        )
      : h("p", {class: "empty"}, "No trained network yet. ", h("a", {href: "#/new"}, "Train one")),
    h("h2", {}, "Import a weights file"),
    importing(found, load),
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
      h("a", {href: runLink(t.name)}, t.name),
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

function importing(found, load) {
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
          ? `${found.files.length} files below ${found.top}`
          : `no weights file below ${found.top}`,
      ),
      field("Name of the new run", name),
      field(
        "Experiment",
        config,
        "for a file with this project's names, as advent:streets; published networks are recognised",
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
