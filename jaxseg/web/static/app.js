// Shows the page that the address names: "#/run/NAME?step=70" is pages/run.js with what follows.

import {get} from "./api.js";
import {fill, h, say} from "./dom.js";

const PAGES = ["runs", "run", "compare", "new", "try", "layers", "data", "models", "jobs"];
let leaving = new AbortController();

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a "%" that encodes nothing
  }
}

/** {page, rest, query} of an address. */
export function parse(hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page, ...rest] = path.split("/");
  return {
    page: page || "runs",
    rest: rest.map(decoded).join("/"),
    query: new URLSearchParams(search),
  };
}

async function show() {
  if (location.hash === "#main") {
    document.getElementById("main").focus();
    return;
  }
  leaving.abort();
  leaving = new AbortController();
  const {signal} = leaving,
    main = document.getElementById("main"),
    {page, rest, query} = parse(location.hash);
  for (const link of document.querySelectorAll("nav a")) {
    const own = parse(link.hash).page;
    const here = own === page || (own === "runs" && ["run", "compare"].includes(page));
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!PAGES.includes(page)) {
    fill(main, h("h1", {}, "There is no such page"));
    return;
  }
  try {
    const module = await import(`./pages/${page}.js`);
    if (signal.aborted) return;
    const root = h("div", {class: `page ${page}`});
    await module.show(root, {rest, query, signal});
    if (signal.aborted) return;
    fill(main, root);
    window.scrollTo(0, 0);
  } catch (error) {
    if (!signal.aborted)
      fill(main, h("h1", {}, "This page could not be shown"), h("p", {class: "problem"}, error.message));
  }
}

/** Keeps the count of running jobs beside the navigation. */
async function watch() {
  try {
    if (!document.hidden) {
      const {running, queued} = await get("/api/jobs/count");
      const text = [running && `${running} running`, queued && `${queued} waiting`]
        .filter(Boolean)
        .join(", ");
      const place = document.getElementById("busy");
      place.textContent = text || "queue";
      place.classList.toggle("on", running > 0);
    }
  } catch (error) {
    say(error.message, true);
  }
  setTimeout(watch, 3000);
}

window.addEventListener("hashchange", show);
show();
watch();
