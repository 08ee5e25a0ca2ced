// Choosing a network: a run and one of its snapshots.

import {get} from "./api.js";
import {field, fill, h, select} from "./dom.js";
import {CRITERIA} from "./words.js";

/** {element, value() -> {run, step}, samples() -> addresses of images}; onchange is called after a choice. */
export async function chooser(query, signal, onchange, label = "Snapshot") {
  const {networks} = await get("/api/networks", {run: query.get("run")}, signal);
  if (!networks.length) return null;
  const wanted = query.get("run"),
    run = select(
      networks.map(n => n.name),
      networks.some(n => n.name === wanted) ? wanted : networks[0].name,
      () => {
        steps();
        onchange();
      },
    );
  const step = select([], undefined, onchange),
    own = () => networks.find(n => n.name === run.value);
  function steps() {
    const {chosen, steps: kept} = own();
    const named = Object.entries(chosen).map(([key, at]) => [
      key === "miou" ? "best" : key,
      `step ${at}: ${key === "miou" ? "best, by target labels" : CRITERIA[key]}`,
    ]);
    fill(
      step,
      [["last", `step ${kept.at(-1)}: last`], ...named, ...kept.map(k => [String(k), `step ${k}`])].map(
        ([v, t]) => h("option", {value: v}, t),
      ),
    );
    step.value = query.get("step") || (chosen.miou !== undefined ? "best" : "last");
    if (step.selectedIndex < 0) step.value = "last";
  }
  steps();
  return {
    element: h("div", {class: "split tight"}, field("Run", run), field(label, step)),
    value: () => ({run: run.value, step: step.value}),
    steps: () => [...step.options].map(o => [o.value, o.textContent]),
    samples: () =>
      own().samples.map(
        f => `/api/runs/${own().name.split("/").map(encodeURIComponent).join("/")}/files/pictures/${f}`,
      ),
  };
}

/** A place to drop images on, to choose them, or to take one with the camera; calls give(blob, name). */
export function images(give, signal, several = true) {
  const input = h("input", {
    type: "file",
    accept: "image/*",
    multiple: several,
    class: "sr",
    id: "file",
    onchange: () => {
      all(input.files);
      input.value = "";
    },
  });
  const video = h("video", {playsinline: true, muted: true, hidden: true, "aria-label": "camera"});
  const place = h(
    "div",
    {class: "drop"},
    input,
    h("label", {for: "file", class: "button main"}, several ? "Choose images" : "Choose an image"),
    h("span", {class: "faint"}, "or drop them here"),
    navigator.mediaDevices && h("button", {type: "button", onclick: camera}, "Camera"),
    video,
  );
  function all(files) {
    for (const file of files) if (file.type.startsWith("image/")) give(file, file.name);
  }
  place.addEventListener("dragover", e => {
    e.preventDefault();
    place.classList.add("over");
  });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", e => {
    e.preventDefault();
    place.classList.remove("over");
    all(e.dataTransfer.files);
  });
  let stream = null;
  const end = () => {
    stream?.getTracks().forEach(t => t.stop());
    stream = null;
    video.hidden = true;
  };
  async function camera() {
    if (stream) {
      const canvas = h("canvas");
      canvas.width = video.videoWidth;
      canvas.height = video.videoHeight;
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob(blob => give(blob, "camera.png"));
      end();
      this.textContent = "Camera";
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
      video.srcObject = stream;
      video.hidden = false;
      await video.play();
      this.textContent = "Take the picture";
    } catch (error) {
      place.append(h("p", {class: "note"}, `no camera: ${error.message}`));
    }
  }
  signal.addEventListener("abort", end);
  return place;
}

/** The colours of entropy, those of the report: dark is certain, bright is not. */
const HEAT = [
  [11, 8, 36],
  [62, 22, 104],
  [126, 36, 118],
  [190, 55, 98],
  [236, 103, 72],
  [249, 174, 86],
  [252, 246, 196],
];
export const heat = level => {
  const at = (level / 255) * (HEAT.length - 1),
    low = Math.min(HEAT.length - 2, Math.floor(at)),
    part = at - low;
  return HEAT[low].map((c, i) => Math.round(c + part * (HEAT[low + 1][i] - c)));
};
export const heatTable = Array.from({length: 256}, (_, level) => heat(level));
