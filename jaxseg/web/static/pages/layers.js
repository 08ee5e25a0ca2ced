// The layers of a network: for each a grid of channels with mean, deviation and histogram.

import {send} from "../api.js";
import {fill, h, heading, short} from "../dom.js";
import {chooser, heatTable, images, SAMPLES} from "../networks.js";

export async function show(root, {query, signal}) {
  const network = await chooser(query, signal, () => {
    offer();
    if (image) look();
  });
  if (!network) {
    root.append(
      heading("Layers"),
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
  const told = h("p", {class: "note", role: "status"}),
    place = h("div"),
    samples = h("div", {class: "bar-row"});
  let image = null;
  function give(blob) {
    image = blob;
    look();
  }
  function offer() {
    fill(
      samples,
      network.samples().length > 0 && h("span", {class: "faint"}, SAMPLES),
      network
        .samples()
        .map((url, i) =>
          h(
            "button",
            {
              type: "button",
              class: "thumb",
              "aria-label": `validation image ${i + 1}`,
              onclick: async () => give(await (await fetch(url)).blob()),
            },
            h("img", {src: url, alt: "", loading: "lazy"}),
          ),
        ),
    );
  }
  async function look() {
    told.textContent = "computing… the first time the network is compiled for it";
    try {
      const found = await layers(image, network.value(), signal);
      if (signal.aborted) return;
      told.textContent = `${found.network}, which sees the image at ${found.seen[1]} × ${found.seen[0]}`;
      fill(place, browser(found));
    } catch (error) {
      if (!signal.aborted) {
        told.textContent = "";
        fill(place, h("p", {class: "problem", role: "alert"}, error.message));
      }
    }
  }
  root.append(
    heading("Layers"),
    h("p", {class: "note"}, "What each layer makes of an image, and what its weights are."),
    h("div", {class: "card"}, network.element, images(give, signal, false), samples),
    told,
    place,
  );
  offer();
  const sample = network.samples()[0];
  if (query.get("run") && sample) give(await (await fetch(sample)).blob());
}

/** Activations and weights with their tiles: entries have a function tile(n) -> Uint8Array. */
async function layers(image, {run, step}, signal) {
  const response = await send(`/api/layers?${new URLSearchParams({run, step})}`, image, signal);
  const data = new Uint8Array(await response.arrayBuffer()),
    size = +new TextDecoder().decode(data.subarray(0, 8));
  const found = JSON.parse(new TextDecoder().decode(data.subarray(8, 8 + size)));
  const stream = new Blob([data.subarray(8 + size)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const tiles = new Uint8Array(await new Response(stream).arrayBuffer());
  for (const kind of ["activations", "weights"])
    for (const entry of found[kind])
      entry.tile = n =>
        tiles.subarray(
          entry.offset + n * entry.tiles[1] * entry.tiles[2],
          entry.offset + (n + 1) * entry.tiles[1] * entry.tiles[2],
        );
  return found;
}

function browser(found) {
  const detail = h("div"),
    list = h("div", {class: "layer-list"});
  let kind = "activations",
    deep = false;
  const tabs = h(
    "fieldset",
    {class: "kinds"},
    h("legend", {class: "sr"}, "What to show"),
    ["activations", "weights"].map(k =>
      h(
        "label",
        {},
        h("input", {
          type: "radio",
          name: "kind",
          checked: k === kind,
          onchange: () => {
            kind = k;
            draw();
          },
        }),
        k,
      ),
    ),
    h(
      "label",
      {},
      h("input", {
        type: "checkbox",
        onchange: e => {
          deep = e.currentTarget.checked;
          draw();
        },
      }),
      "all layers, not only the stages",
    ),
  );
  function draw() {
    let shown = found[kind].filter(e => e.tiles[0] > 0 && (deep || depth(e.name) <= 2));
    if (shown.length < 3) shown = found[kind].filter(e => e.tiles[0] > 0);
    fill(
      list,
      shown.map(entry =>
        h(
          "button",
          {type: "button", class: "layer", onclick: event => choose(entry, event.currentTarget)},
          h("b", {}, title(entry)),
          h("span", {class: "faint"}, entry.shape.join(" × ")),
          histogram(entry, 120, 26),
        ),
      ),
    );
    if (shown.length) choose(shown[0], list.firstChild);
  }
  function choose(entry, element) {
    for (const other of list.children) other.removeAttribute("aria-current");
    element.setAttribute("aria-current", "true");
    const [count, high, wide] = entry.tiles,
      of = entry.shape.at(-1);
    fill(
      detail,
      h("h2", {}, title(entry)),
      h(
        "p",
        {class: "note"},
        entry.shape.join(" × ") +
          (count > 1 && count < of ? `, the first ${count} of ${of} channels` : "") +
          (kind === "weights"
            ? count
              ? "; blue below 0, red above"
              : ""
            : "; dark is three deviations below the mean, bright three above"),
      ),
      h(
        "div",
        {class: "tiles"},
        [
          ["mean", entry.mean],
          ["deviation", entry.deviation],
          ["lowest", entry.low],
          ["highest", entry.high],
        ].map(([t, v]) => h("div", {class: "tile"}, h("b", {}, short(v)), h("span", {}, t))),
      ),
      h(
        "figure",
        {class: "chart histogram"},
        h("figcaption", {}, h("b", {}, "Histogram")),
        histogram(entry, 560, 90),
        h("div", {class: "ends"}, h("span", {}, short(entry.low)), h("span", {}, short(entry.high))),
      ),
      h(
        "div",
        {
          class: "channels",
          css: {
            "--wide": `${count === 1 ? Math.max(240, wide) : Math.max(kind === "weights" ? 44 : 96, 0)}px`,
          },
        },
        Array.from({length: count}, (_, n) => picture(entry, n, high, wide, kind)),
      ),
    );
  }
  draw();
  return h("div", {}, h("div", {class: "bar-row"}, tabs), h("div", {class: "layers-split"}, list, detail));
}

/** A layer's name, which may break at its slashes. */
const title = entry => entry.name.replace(/\/kernel$/, "").replaceAll("/", "/\u200b");
const depth = name => name.split("/").length;

function picture(entry, n, high, wide, kind) {
  const canvas = h("canvas", {
      width: wide,
      height: high,
      role: "img",
      "aria-label": `channel ${n}`,
      title: `channel ${n}`,
    }),
    context = canvas.getContext("2d");
  const out = context.createImageData(wide, high),
    tile = entry.tile(n);
  for (let i = 0; i < tile.length; i++) {
    const [r, g, b] = kind === "weights" ? diverging[tile[i]] : heatTable[tile[i]];
    out.data.set([r, g, b, 255], 4 * i);
  }
  context.putImageData(out, 0, 0);
  return canvas;
}

/** Blue below the middle, red above it. */
const diverging = Array.from({length: 256}, (_, v) => {
  const t = (v - 127.5) / 127.5,
    end = t < 0 ? [33, 102, 172] : [178, 24, 43];
  return end.map(c => Math.round(247 + Math.abs(t) * (c - 247)));
});

/** Bars of the shares, by their square roots so that the tails are seen. */
function histogram(entry, width, height) {
  const ns = "http://www.w3.org/2000/svg",
    svg = document.createElementNS(ns, "svg"),
    top = Math.sqrt(Math.max(...entry.histogram)) || 1;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "bars-svg");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("preserveAspectRatio", "none");
  entry.histogram.forEach((share, i) => {
    const bar = document.createElementNS(ns, "rect"),
      tall = (Math.sqrt(share) / top) * height;
    for (const [k, v] of Object.entries({
      x: (i * width) / entry.histogram.length,
      y: height - tall,
      width: width / entry.histogram.length - 1,
      height: tall,
    }))
      bar.setAttribute(k, v);
    svg.append(bar);
  });
  return svg;
}
