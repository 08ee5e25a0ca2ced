// Makes elements, formats numbers, and polls; no text ever becomes HTML.

/** An element: h("a", {href: "/", class: "x", onclick: f}, "text", child, [more]). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else if (name === "css") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false));
  return element;
}

/** Replaces the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false),
  );
  return element;
}

/** Says one line at the bottom of the page, to screen readers as well. */
export function say(text, bad = false) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.className = bad ? "shown bad" : "shown";
  clearTimeout(say.timer);
  say.timer = setTimeout(
    () => {
      place.className = "";
      place.textContent = "";
    },
    bad ? 9000 : 4000,
  );
}

/** 0.4321 -> "43.2"; a dash where there is no number. */
export const percent = (value, digits = 1) =>
  value === null || value === undefined ? "–" : (100 * value).toFixed(digits);

/** Three significant digits, without a needless exponent. */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(+value.toPrecision(3));
}

/** "3 min ago" of a time in seconds. */
export function ago(time) {
  const seconds = Date.now() / 1000 - time;
  for (const [unit, size] of [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
  ])
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  return "just now";
}

/** 3725 -> "1:02:05". */
export function clock(seconds) {
  const s = Math.max(0, Math.round(seconds)),
    pad = n => String(n).padStart(2, "0");
  const hours = Math.floor(s / 3600),
    minutes = Math.floor(s / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(s % 60)}` : `${minutes}:${pad(s % 60)}`;
}

/** Bytes for people. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  for (const [unit, size] of [
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ])
    if (count >= size) return `${(count / size).toFixed(count >= 10 * size ? 0 : 1)} ${unit}`;
  return `${count} B`;
}

/** Calls again and again until the page is left; waits while the tab is hidden. */
export function every(milliseconds, call, signal) {
  let timer;
  const again = async () => {
    if (signal.aborted) return;
    try {
      if (!document.hidden) await call();
    } catch (error) {
      if (!signal.aborted) say(error.message, true);
    }
    if (!signal.aborted) timer = setTimeout(again, milliseconds);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  timer = setTimeout(again, milliseconds);
}

/** A labelled control: the label stands above it, a remark below. */
export function field(label, control, remark) {
  const id = control.id || `f${(field.count = (field.count || 0) + 1)}`;
  control.id = id;
  if (remark) control.setAttribute("aria-describedby", `${id}-r`);
  return h(
    "div",
    {class: "field"},
    h("label", {for: id}, label),
    control,
    remark && h("p", {class: "note", id: `${id}-r`}, remark),
  );
}

/** A drop-down: choices are strings or [value, text]. */
export function select(choices, value, onchange) {
  const options = choices.map(c => (Array.isArray(c) ? c : [c, c]));
  const element = h(
    "select",
    {onchange},
    options.map(([v, text]) => h("option", {value: v}, text)),
  );
  if (value !== undefined && options.some(([v]) => v === value)) element.value = value;
  return element;
}

/** A button that is disabled while what it started is going on, and says what went wrong. */
export function button(text, act, kind = "") {
  const element = h(
    "button",
    {
      type: "button",
      class: kind,
      onclick: async () => {
        element.disabled = true;
        try {
          await act();
        } catch (error) {
          say(error.message, true);
        }
        element.disabled = false;
      },
    },
    text,
  );
  return element;
}

/** A long name that may go on in the next line after "_", "-" or "/". */
export const breakable = name =>
  name.split(/(?<=[_\-/])/).flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));

/** The state of a run or job as a small coloured word. */
export const badge = state => h("span", {class: `badge ${state}`}, state);

/** Colour and name of a class. */
export const chip = (name, colour, ...more) =>
  h(
    "span",
    {class: "chip"},
    h("i", {css: {background: Array.isArray(colour) ? `rgb(${colour.join(",")})` : colour}}),
    name,
    ...more,
  );

/** The heading of a page; it also names the browser's tab. */
export function heading(title, ...beside) {
  document.title = `${title} · jaxseg`;
  return h("div", {class: "heading"}, h("h1", {}, title), h("div", {class: "actions"}, beside));
}
