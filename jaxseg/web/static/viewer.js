// A prediction over its photograph: opacity, classes to look at alone, entropy, value under the pointer.

import {chip, fill, h, percent} from "./dom.js";
import {heatTable} from "./networks.js";

/** The element for an item {url} and one or two results of `predicted`; titles name their snapshots. */
export function viewer(item, first, second, titles, signal) {
  const {width, height, classes, palette} = first,
    results = second ? [first, second] : [first];
  const image = h("img", {src: item.url, alt: "the photograph"});
  const layers = results.map((_, i) =>
    h("canvas", {
      width,
      height,
      class: "over",
      role: "img",
      "aria-label": `prediction of snapshot ${titles[i]}`,
    }),
  );
  const opacity = h("input", {type: "range", min: 0, max: 100, value: 60, id: "opacity"});
  const swipe = h("input", {type: "range", min: 0, max: 100, value: 50, id: "swipe"});
  const told = h("p", {class: "under"}, "Point at the image to read it."),
    line = h("div", {class: "line"});
  let what = "classes",
    only = null;

  const paint = () =>
    results.forEach((result, i) => {
      const context = layers[i].getContext("2d"),
        picture = context.createImageData(width, height),
        out = new Uint32Array(picture.data.buffer);
      const table = (what === "entropy" ? heatTable : palette).map(
        ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0,
      );
      const from = what === "entropy" ? result.levels : result.ids;
      for (let at = 0; at < out.length; at++)
        if (only === null || result.ids[at] === only) out[at] = table[from[at]];
      context.putImageData(picture, 0, 0);
    });
  const blend = () =>
    layers.forEach(layer =>
      layer.style.setProperty("opacity", what === "photograph" ? 0 : opacity.value / 100),
    );
  const cut = () => {
    if (!second) return;
    layers[0].style.setProperty("clip-path", `inset(0 ${100 - swipe.value}% 0 0)`);
    layers[1].style.setProperty("clip-path", `inset(0 0 0 ${swipe.value}%)`);
    line.style.setProperty("left", `${swipe.value}%`);
  };
  opacity.addEventListener("input", blend);
  swipe.addEventListener("input", cut);

  const frame = h(
    "div",
    {
      class: "frame",
      tabindex: "0",
      "aria-label": "photograph with prediction; arrow keys move the reading point",
      role: "application",
    },
    image,
    layers,
    second && line,
    h("div", {class: "cross", hidden: true}),
  );
  const cross = frame.lastChild;
  let point = [Math.floor(width / 2), Math.floor(height / 2)];
  const read = () => {
    const at = point[1] * width + point[0];
    told.textContent =
      `x ${point[0]}, y ${point[1]}: ` +
      results
        .map(
          (r, i) =>
            `${second ? `${titles[i]}: ` : ""}${classes[r.ids[at]]} (${r.ids[at]}), entropy ${percent(r.levels[at] / 255)} %`,
        )
        .join(" · ");
  };
  frame.addEventListener("pointermove", e => {
    const box = frame.getBoundingClientRect();
    point = [
      Math.floor(((e.clientX - box.left) / box.width) * width),
      Math.floor(((e.clientY - box.top) / box.height) * height),
    ].map((v, i) => Math.max(0, Math.min((i ? height : width) - 1, v)));
    cross.hidden = true;
    read();
  });
  frame.addEventListener("keydown", e => {
    const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key];
    if (!move) return;
    e.preventDefault();
    const by = e.shiftKey ? 1 : Math.max(1, Math.round(width / 64));
    point = [
      Math.max(0, Math.min(width - 1, point[0] + by * move[0])),
      Math.max(0, Math.min(height - 1, point[1] + by * move[1])),
    ];
    cross.hidden = false;
    cross.style.setProperty("left", `${(100 * (point[0] + 0.5)) / width}%`);
    cross.style.setProperty("top", `${(100 * (point[1] + 0.5)) / height}%`);
    read();
  });

  const legend = h("div", {class: "legend"});
  const draw = () => {
    const order = first.shares
      .map((share, i) => [share, i])
      .sort((a, b) => b[0] - a[0])
      .filter(([share, i]) => share > 0 || second?.shares[i] > 0);
    fill(
      legend,
      order.map(([share, i]) =>
        h(
          "button",
          {
            type: "button",
            class: "legend-row",
            "aria-pressed": String(only === i),
            title: "show this class alone",
            onclick: () => {
              only = only === i ? null : i;
              draw();
              paint();
            },
          },
          chip(classes[i], palette[i]),
          h("b", {}, `${percent(share)} %`),
          second && h("b", {class: "faint"}, `${percent(second.shares[i])} %`),
        ),
      ),
    );
  };
  const kinds = h(
    "fieldset",
    {class: "kinds"},
    h("legend", {class: "sr"}, "What lies over the photograph"),
    ["classes", "entropy", "photograph"].map(kind =>
      h(
        "label",
        {},
        h("input", {
          type: "radio",
          name: "what",
          checked: kind === what,
          onchange: () => {
            what = kind;
            paint();
            blend();
          },
        }),
        kind,
      ),
    ),
  );
  const link = (kind, text) =>
    h(
      "a",
      {
        class: "button",
        href: `/api/predictions/${first.id}/${kind}.png${kind === "overlay" ? `?strength=${opacity.value / 100}` : ""}`,
        download: `${item.name.replace(/\.\w+$/, "")}_${kind}.png`,
        onclick: e => {
          if (kind === "overlay")
            e.currentTarget.href = `/api/predictions/${first.id}/overlay.png?strength=${opacity.value / 100}`;
        },
      },
      text,
    );

  paint();
  blend();
  cut();
  draw();
  return h(
    "div",
    {class: "side wide"},
    h(
      "div",
      {},
      h(
        "div",
        {class: "bar-row"},
        kinds,
        h("label", {for: "opacity"}, "opacity", opacity),
        second && h("label", {for: "swipe"}, `${titles[0]} | ${titles[1]}`, swipe),
      ),
      frame,
      told,
      h(
        "div",
        {class: "bar-row"},
        h("span", {class: "faint"}, "Download"),
        link("overlay", "overlay"),
        link("color", "classes in colour"),
        link("ids", "class ids"),
        link("entropy", "entropy"),
      ),
    ),
    h(
      "div",
      {class: "card"},
      h("h2", {}, "Share of the pixels"),
      second && h("p", {class: "note"}, `${titles[0]} and ${titles[1]}`),
      legend,
    ),
  );
}
