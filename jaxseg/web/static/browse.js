// Looks at the images of both domains side by side, labels over them.

import {get} from "./api.js";
import {chip, field, fill, h, heading, select} from "./dom.js";

export async function show(root, {query, signal}) {
  const who = query.get("run") ? {run: query.get("run")} : {set: query.get("set") || ""},
    name = query.get("run") || query.get("set");
  const wait = h("p", {class: "note", role: "status"}, "opening the records…");
  root.append(heading(name ? `Images of ${name}` : "Images"), wait);
  const slow = setTimeout(() => {
    wait.textContent =
      "opening the records… Where this folder has none of them yet, they are prepared first, which takes minutes; the server's output says how far it is.";
  }, 3000);
  signal.addEventListener("abort", () => clearTimeout(slow));
  get("/api/data/splits", who, signal).then(
    found => {
      clearTimeout(slow);
      wait.remove();
      fill(root.appendChild(h("div")), body(who, found));
    },
    error => {
      clearTimeout(slow);
      if (!signal.aborted) wait.replaceWith(h("p", {class: "problem"}, error.message));
    },
  );
}

function body(who, found) {
  const opacity = h("input", {type: "range", min: 0, max: 100, value: 55, id: "opacity"}),
    hidden = new Set(),
    sides = [];
  const legend = h(
    "div",
    {class: "chips legend-chips"},
    found.classes.map((c, i) =>
      h(
        "button",
        {
          type: "button",
          class: "pick",
          "aria-pressed": "true",
          onclick: e => {
            hidden.has(i) ? hidden.delete(i) : hidden.add(i);
            e.currentTarget.setAttribute("aria-pressed", String(!hidden.has(i)));
            sides.forEach(s => s.paint());
          },
        },
        chip(c, found.palette[i]),
      ),
    ),
  );
  const all = shown => {
    hidden.clear();
    if (!shown) found.classes.forEach((_, i) => hidden.add(i));
    legend.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", String(shown)));
    sides.forEach(s => s.paint());
  };
  for (const side of ["source", "target"]) {
    const parts = found.parts.filter(p => p.side === side && (!who.set || p.data === "folder"));
    const same =
      side === "target" &&
      JSON.stringify(parts.map(p => [p.data, p.split, p.images])) ===
        JSON.stringify(found.parts.filter(p => p.side === "source").map(p => [p.data, p.split, p.images])) &&
      who.set;
    if (parts.length && !same) sides.push(one(who, side, parts, found, hidden, opacity));
  }
  opacity.addEventListener("input", () => sides.forEach(s => s.blend()));
  return [
    h(
      "div",
      {class: "bar-row"},
      h("label", {for: "opacity"}, "opacity of the labels", opacity),
      h("button", {type: "button", onclick: () => all(true)}, "all classes"),
      h("button", {type: "button", onclick: () => all(false)}, "none"),
    ),
    legend,
    h(
      "div",
      {class: sides.length > 1 ? "split" : ""},
      sides.map(s => s.element),
    ),
  ];
}

/** One domain: a split, a slider over its images, the photograph and its labels. */
function one(who, side, parts, found, hidden, opacity) {
  const choose = select(
    parts.map((p, i) => [String(i), `${p.data}, ${p.split} (${p.images})`]),
    "0",
    () => {
      at.value = 0;
      split();
    },
  );
  const at = h("input", {type: "range", min: 0, value: 0, "aria-label": `image of the ${side}`}),
    told = h("span", {class: "faint"});
  const image = h("img", {alt: `image of the ${side}`}),
    canvas = h("canvas", {class: "over", role: "img", "aria-label": `labels of the ${side}`}),
    place = h("div", {class: "frame"}, image, canvas),
    said = h("div");
  let label = null,
    asked = 0,
    soon = 0;
  const part = () => parts[+choose.value];
  const address = kind =>
    `/api/data/image?${new URLSearchParams({...who, side, split: part().split, index: at.value, kind})}`;

  function split() {
    at.max = Math.max(0, part().images - 1);
    place.hidden = !part().images;
    fill(
      said,
      part().said && h("p", {class: "problem"}, part().said),
      part().images > 0 && !part().labelled && h("p", {class: "note"}, "no labels"),
    );
    load();
  }
  async function load() {
    const own = ++asked;
    told.textContent = part().images ? `${+at.value + 1} of ${part().images}` : "";
    if (!part().images) return;
    image.src = address("image");
    label = null;
    if (!part().labelled) {
      canvas.width = 1;
      return;
    }
    const bitmap = await createImageBitmap(await (await fetch(address("label"))).blob(), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
    if (own !== asked) return;
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(bitmap, 0, 0);
    label = context.getImageData(0, 0, bitmap.width, bitmap.height).data.filter((_, i) => i % 4 === 0);
    paint();
  }
  function paint() {
    if (!label) return;
    const context = canvas.getContext("2d"),
      picture = context.createImageData(canvas.width, canvas.height);
    label.forEach((id, i) => {
      if (id < found.palette.length && !hidden.has(id)) picture.data.set([...found.palette[id], 255], 4 * i);
    });
    context.putImageData(picture, 0, 0);
    blend();
  }
  const blend = () => canvas.style.setProperty("opacity", opacity.value / 100);
  const step = by => {
    at.value = +at.value + by;
    load();
  };
  at.addEventListener("input", () => {
    clearTimeout(soon);
    soon = setTimeout(load, 60);
  });
  split();
  return {
    paint,
    blend,
    element: h(
      "section",
      {},
      h("h2", {}, side === "source" ? "Source" : "Target"),
      field("Split", choose),
      h(
        "div",
        {class: "bar-row"},
        h("button", {type: "button", "aria-label": "previous image", onclick: () => step(-1)}, "‹"),
        at,
        h("button", {type: "button", "aria-label": "next image", onclick: () => step(1)}, "›"),
        told,
      ),
      said,
      place,
    ),
  };
}
