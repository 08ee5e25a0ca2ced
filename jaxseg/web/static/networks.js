// Choosing a network: a run and one of its snapshots.

import {get} from "./api.js";
import {bytes, field, fill, h, select} from "./dom.js";
import {CRITERIA} from "./words.js";

const UPLOAD = 64 << 20; // bytes; more are refused by the server
export const SAMPLES = "or one of this run's validation images:";

/** {element, value() -> {run, step}, samples() -> addresses of images}; onchange is called after a choice. */
export async function chooser(query, signal, onchange, label = "Snapshot") {
  const {networks} = await get("/api/networks", {run: query.get("run")}, signal);
  if (!networks.length) return null;
  const wanted = query.get("run");
  if (wanted && !networks.some(n => n.name === wanted))
    throw new Error(`there is no network of ${wanted}: it has no snapshot yet, or no such run is here`);
  const run = select(
    networks.map(n => n.name),
    wanted || networks[0].name,
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
  const shoot = h("button", {type: "button", onclick: camera}, "Camera"),
    close = h("button", {type: "button", hidden: true, onclick: () => end()}, "Close the camera");
  const video = h("video", {playsinline: true, muted: true, hidden: true, "aria-label": "camera"});
  const place = h(
    "div",
    {class: "drop"},
    input,
    h("label", {for: "file", class: "button main"}, several ? "Choose images" : "Choose an image"),
    h("span", {class: "faint"}, several ? "or drop them here" : "or drop it here"),
    navigator.mediaDevices && [shoot, close],
    video,
  );
  const said = h("div", {role: "alert"}),
    element = h("div", {}, place, said);
  const problem = (...lines) => fill(said, lines.length > 0 && h("p", {class: "problem"}, lines.join("; ")));
  function all(files) {
    const [good, bad] = [[], []];
    for (const file of several ? files : [...files].slice(0, 1)) {
      const wrong = !file.type.startsWith("image/")
        ? `${file.name} is not an image`
        : file.size > UPLOAD && `${file.name} has ${bytes(file.size)}; at most ${bytes(UPLOAD)}`;
      (wrong ? bad : good).push(wrong || file);
    }
    problem(...bad);
    for (const file of good) give(file, file.name);
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
    video.hidden = close.hidden = true;
    shoot.textContent = "Camera";
  };
  async function camera() {
    if (stream) {
      const canvas = h("canvas");
      canvas.width = video.videoWidth;
      canvas.height = video.videoHeight;
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob(blob => give(blob, "camera.png"));
      end();
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
      problem();
      video.srcObject = stream;
      video.hidden = close.hidden = false;
      await video.play();
      shoot.textContent = "Take the picture";
    } catch (error) {
      end();
      problem(`no camera: ${error.message}`);
    }
  }
  signal.addEventListener("abort", end);
  return element;
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
