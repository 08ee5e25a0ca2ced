// The queue: what runs, what waits, what has ended and how.

import {get, post} from "../api.js";
import {ago, badge, button, clock, every, fill, h, heading, say} from "../dom.js";
import {runLink} from "../words.js";

const took = job =>
  job.started ? clock((job.ended || Date.now() / 1000) - job.started) : "–";

export async function show(root, {rest, signal}) {
  const place = h("div"),
    log = h("div");
  root.append(
    heading("Queue"),
    h(
      "p",
      {class: "note"},
      "Jobs are processes of their own: they go on when this page is closed, and when the server ends.",
    ),
    place,
    log,
  );
  let drawn = "";
  async function load() {
    const {jobs} = await get("/api/jobs", {}, signal);
    const text = JSON.stringify(jobs.map(j => [j.id, j.state, j.said, ago(j.created), took(j)]));
    if (text === drawn) return;
    drawn = text;
    if (!jobs.length) {
      fill(place, h("p", {class: "empty"}, "No jobs yet."));
      return;
    }
    fill(
      place,
      h(
        "div",
        {class: "scroll", tabindex: "0", role: "region", "aria-label": "Jobs"},
        h(
          "table",
          {class: "list"},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              ["job", "state", "created", "took", ""].map(t => h("th", {scope: "col"}, t)),
            ),
          ),
          h("tbody", {}, jobs.map(row)),
        ),
      ),
    );
  }
  const row = job =>
    h(
      "tr",
      {},
      h(
        "th",
        {class: "wrap", scope: "row"},
        ["train", "import"].includes(job.kind)
          ? h("a", {href: runLink(job.run)}, job.title)
          : h("a", {href: `#/jobs/${job.id}`}, job.title),
        h("small", {}, job.kind),
      ),
      h("td", {class: "wrap"}, badge(job.state), job.said && h("small", {}, job.said)),
      h("td", {class: "faint"}, ago(job.created)),
      h("td", {class: "faint"}, took(job)),
      h(
        "td",
        {class: "n"},
        ["queued", "running", "stopping"].includes(job.state) &&
          button(
            job.state === "queued" ? "Cancel" : "Stop",
            async () => {
              await post(`/api/jobs/${job.id}/stop`);
              say("asked to end");
              await load();
            },
            "danger",
          ),
        " ",
        h("a", {href: `#/jobs/${job.id}`}, "log"),
      ),
    );
  async function tail() {
    if (!rest) return;
    const found = await get(`/api/jobs/${rest}/log`, {}, signal);
    if (log.dataset.text === found.log) return;
    log.dataset.text = found.log;
    fill(log, h("h2", {}, "Log"), h("pre", {tabindex: "0", "aria-label": "Log"}, found.log || "nothing yet"));
  }
  await load();
  await tail();
  every(
    2000,
    async () => {
      await load();
      await tail();
    },
    signal,
  );
}
