// Try an image: prediction over the photograph, its shares, its entropy, and two snapshots compared.

import {send} from "../api.js";
import {field, fill, h, heading, percent, select} from "../dom.js";
import {chooser, images, SAMPLES} from "../networks.js";
import {viewer} from "../viewer.js";

export async function show(root, {query, signal}) {
  const network = await chooser(query, signal, again);
  if (!network) {
    root.append(
      heading("Try an image"),
      h(
        "p",
        {class: "empty"},
        "There is no trained network yet: ",
        h("a", {href: "#/new"}, "train one"),
        ".",
      ),
    );
    return;
  }
  const strip = h("div", {class: "strip"}),
    stage = h("div"),
    told = h("p", {class: "note", role: "status"});
  const second = select([], "", () => compare()),
    kept = [];
  let shown = null;

  const samples = h("div", {class: "bar-row"});
  function offer() {
    fill(
      samples,
      network.samples().length > 0 && [
        h("span", {class: "faint"}, SAMPLES),
        network.samples().map((url, i) =>
          h(
            "button",
            {
              type: "button",
              class: "thumb",
              "aria-label": `validation image ${i + 1}`,
              onclick: async () => {
                give(await (await fetch(url)).blob(), `validation_${i + 1}.jpg`);
              },
            },
            h("img", {src: url, alt: "", loading: "lazy"}),
          ),
        ),
      ],
    );
    fill(
      second,
      [["", "no second snapshot"], ...network.steps()].map(([v, t]) => h("option", {value: v}, t)),
    );
  }

  function give(blob, name) {
    const item = {blob, name, url: URL.createObjectURL(blob), results: {}};
    signal.addEventListener("abort", () => URL.revokeObjectURL(item.url));
    kept.push(item);
    item.element = h(
      "button",
      {type: "button", class: "thumb", "aria-label": `show ${name}`, onclick: () => display(item)},
      h("img", {src: item.url, alt: ""}),
    );
    strip.append(item.element);
    strip.hidden = kept.length < 2;
    display(item);
  }

  async function result(item, step) {
    const {run} = network.value(),
      key = `${run} ${step}`;
    if (!item.results[key]) {
      told.textContent = "predicting… the first image of a size is compiled first";
      item.results[key] = await predicted(item.blob, run, step, signal);
    }
    return item.results[key];
  }

  async function display(item) {
    shown = item;
    for (const other of kept) other.element.setAttribute("aria-pressed", String(other === item));
    try {
      const {step} = network.value(),
        began = performance.now(),
        first = await result(item, step);
      const took = performance.now() - began,
        other = second.value ? await result(item, second.value) : null;
      if (shown !== item || signal.aborted) return;
      told.textContent =
        `${item.name}: ${first.width} × ${first.height}, mean entropy ${percent(first.entropy)} %, network ${(1000 * first.seconds).toFixed(0)} ms` +
        (took > 1 ? `, all in all ${took.toFixed(0)} ms` : "");
      stage.dataset.ms = took.toFixed(0);
      fill(stage, viewer(item, first, other, [network.value().step, second.value], signal));
    } catch (error) {
      if (!signal.aborted) {
        told.textContent = "";
        fill(stage, h("p", {class: "problem", role: "alert"}, `${item.name}: ${error.message}`));
      }
    }
  }
  function compare() {
    if (shown) display(shown);
  }
  function again() {
    offer();
    compare();
  }

  root.append(
    heading("Try an image"),
    h(
      "div",
      {class: "card"},
      h("div", {class: "split three"}, network.element, field("Compare with", second)),
      images(give, signal),
      samples,
    ),
    strip,
    told,
    stage,
  );
  strip.hidden = true;
  offer();
}

/** Predicts: {classes, palette, shares, entropy, seconds, width, height, ids, levels, id}. */
export async function predicted(blob, run, step, signal) {
  const search = new URLSearchParams({run, step, as: "maps"});
  const response = await send(`/api/predict?${search}`, blob, signal);
  const facts = JSON.parse(response.headers.get("x-prediction"));
  const maps = new Uint8Array(await response.arrayBuffer()),
    count = facts.width * facts.height;
  return {...facts, ids: maps.subarray(0, count), levels: maps.subarray(count, 2 * count)};
}
