// One run, live: what it is doing, its curves as they grow, pictures, classes, log.

import {get, post, run as address} from "../api.js";
import {badge, button, clock, every, fill, h, heading, percent, say} from "../dom.js";
import {curves, POINTS} from "../curves.js";
import {pictures} from "../pictures.js";
import {classes, settings, snapshots, tiles} from "../tables.js";
import {runLink, stateOf} from "../words.js";

const BUSY = ["queued", "running", "stopping"];

export async function show(root, {rest: name, signal}) {
  let facts = await get(address(name), {}, signal),
    at = "",
    busy = false;
  const lines = {train: [], eval: [], warning: []};
  const parts = Object.fromEntries(
    [
      "head",
      "state",
      "tiles",
      "warnings",
      "curves",
      "pictures",
      "classes",
      "snapshots",
      "log",
      "settings",
    ].map(key => [key, h("section", {class: `part-${key}`})]),
  );
  root.append(...Object.values(parts));
  const drawn = curves(parts.curves, signal),
    shown = pictures(parts.pictures, name);
  const pre = h("pre", {tabindex: "0", "aria-label": "Log of the run"});

  async function read() {
    for (;;) {
      const found = await get(`${address(name)}/metrics`, {from: at, most: POINTS}, signal);
      if (found.reset) for (const kind in lines) lines[kind].length = 0;
      for (const line of found.lines) lines[line.kind]?.push(line);
      at = found.at;
      if (found.lines.length || found.reset) busy = true;
      if (!found.more) return;
    }
  }

  function frame() {
    const state = stateOf(facts);
    fill(
      parts.head,
      heading(name, actions(name, facts, state)),
      h(
        "p",
        {class: "note"},
        [facts.method, facts.data, facts.network, facts.seed !== null && `seed ${facts.seed}`]
          .filter(Boolean)
          .join(" · "),
      ),
    );
    const share = facts.steps ? Math.min(1, facts.step / facts.steps) : 0;
    fill(
      parts.state,
      h(
        "div",
        {
          class: "progress",
          role: "progressbar",
          "aria-label": "steps done",
          "aria-valuemin": "0",
          "aria-valuemax": "100",
          "aria-valuenow": String(Math.round(100 * share)),
        },
        h("i", {css: {width: `${100 * share}%`}}),
      ),
      h(
        "p",
        {class: "note"},
        badge(state),
        ` step ${facts.step}${facts.steps ? ` of ${facts.steps}` : ""}`,
        left(facts, lines, state),
      ),
      facts.said &&
        state === "failed" &&
        h("p", {class: "problem"}, h("b", {}, "The job ended with an error: "), facts.said),
    );
  }

  function draw() {
    fill(parts.tiles, tiles(lines.eval, facts));
    fill(
      parts.warnings,
      lines.warning.length > 0 &&
        h(
          "div",
          {class: "problem"},
          lines.warning.slice(-6).map(w => h("div", {}, h("b", {}, `step ${w.step} `), w.text)),
        ),
    );
    drawn(lines, facts);
    shown(facts);
    fill(parts.classes, classes(lines.eval, facts));
    fill(parts.snapshots, snapshots(facts));
  }

  async function tail() {
    const {log} = await get(`${address(name)}/log`, {}, signal);
    facts.eta = [...log.matchAll(/ETA ([\d:]+)/g)].pop()?.[1];
    if (!log) {
      fill(parts.log);
      return;
    }
    if (!pre.isConnected) fill(parts.log, h("h2", {}, "Log"), pre);
    if (pre.textContent === log) return;
    const low = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 30;
    pre.textContent = log;
    if (low) pre.scrollTop = pre.scrollHeight;
  }

  async function look() {
    try {
      await update();
    } catch (error) {
      if (signal.aborted) return;
      busy = true; // all is drawn again as soon as there is an answer
      if (parts.state.textContent !== error.message)
        fill(parts.state, h("p", {class: "problem", role: "alert"}, error.message));
    }
  }

  async function update() {
    await read();
    const before = [facts.step, facts.job_state, facts.finished].join();
    const first = !facts.config;
    facts = {...facts, ...(await get(address(name), {}, signal))};
    if (first) fill(parts.settings, settings(facts.config));
    await tail();
    if (busy || before !== [facts.step, facts.job_state, facts.finished].join()) {
      frame();
      draw();
    }
    busy = false;
  }

  await read();
  await tail();
  frame();
  draw();
  fill(parts.settings, settings(facts.config));
  requestAnimationFrame(() => {
    pre.scrollTop = pre.scrollHeight;
  });
  every(1500, look, signal);
}

/** The time left: the launcher's own estimate, which includes evaluations, or one from the speed. */
function left(facts, lines, state) {
  if (!["running", "live"].includes(state)) return "";
  if (facts.eta) return `, about ${facts.eta} left`;
  const speed = lines.train.at(-1)?.images_per_second,
    batch = facts.config?.train?.batch;
  return speed && batch ? `, about ${clock(((facts.steps - facts.step) * batch) / speed)} left` : "";
}

function actions(name, facts, state) {
  const query = encodeURIComponent(name),
    files = facts.files,
    last = facts.checkpoints.length > 0;
  const resume = async steps => {
    const job = await post(`${address(name)}/resume`, {steps});
    say(steps ? "extended" : "resumed");
    if (job.run !== name) location.hash = runLink(job.run); // a copy with a longer schedule
  };
  const extend = async () => {
    const given = prompt("Train until which step?", String(facts.steps + Math.ceil(facts.steps / 2)));
    if (given === null) return;
    if (!/^\d+$/.test(given.trim())) throw new Error(`${given || "nothing"} is no step: give a whole number`);
    await resume(Number(given));
  };
  return [
    BUSY.includes(state) &&
      button(
        state === "stopping" ? "Stop at once" : "Stop",
        async () => {
          await post(`/api/jobs/${facts.job}/stop`);
          say("ends after this step and saves");
        },
        "danger",
      ),
    !BUSY.includes(state) && state !== "finished" && facts.config && button("Resume", () => resume(), "main"),
    !BUSY.includes(state) && state === "finished" && facts.config && button("Extend", extend),
    facts.config && h("a", {class: "button", href: `#/new?clone=${query}`}, "Clone"),
    last && h("a", {class: "button main", href: `#/try?run=${query}`}, "Try an image"),
    last && h("a", {class: "button", href: `#/layers?run=${query}`}, "Layers"),
    files.includes("report.html") &&
      h(
        "a",
        {class: "button", href: `${address(name)}/files/report.html`, target: "_blank", rel: "noopener"},
        "Report",
      ),
    last && h("a", {class: "button", href: `${address(name)}/archive?step=last`, download: true}, "Download"),
  ].filter(Boolean);
}
