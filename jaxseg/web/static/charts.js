// Line charts over steps, drawn by uPlot, in the colours of the page.

import {h, short} from "./dom.js";

const COLOURS = 6;
const powers = (_, splits) =>
  splits.map(v => (Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6 ? v : null));
/** Numbers beside an axis, with as many decimals as tell them apart. */
function labels(ticks) {
  const known = ticks.filter(v => v !== null),
    plain = known.map(short);
  const step = known.length > 1 ? Math.abs(known[1] - known[0]) : 0;
  const alike = step > 1e-9 && new Set(plain).size < plain.length;
  const text = v => (alike ? v.toFixed(Math.min(9, Math.ceil(-Math.log10(step) - 1e-6))) : short(v));
  return ticks.map(v => (v === null ? "" : text(v)));
}
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = number => style(`--line${number % COLOURS}`);

/**
 * A chart that may grow.
 * @param {string} title above it
 * @param {object} options names: of the lines; warmup: a step to mark; log: logarithmic; dots: draws each
 *   point; levels: values that the axis reaches, marked by dashed lines; unit: behind numbers
 * @param {AbortSignal} signal ends it when the page is left
 * @returns {{element: HTMLElement, set: (steps: number[], values: (number|null)[][]) => void}}
 */
export function chart(
  title,
  {names, warmup = 0, log = false, dots = false, levels = [], unit = "", colours},
  signal,
) {
  const place = h("div", {class: "plot"}),
    legend = h("div", {class: "chips"});
  const element = h("figure", {class: "chart"}, h("figcaption", {}, h("b", {}, title), legend), place);
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", title);
  const values = names.map(() => h("b", {}, ""));
  const keys = names.map((name, i) => h("i", {}));
  legend.append(...names.map((name, i) => h("span", {class: "chip"}, keys[i], name || null, values[i])));
  const only = log ? {filter: powers} : {};
  let data = [[], ...names.map(() => [])],
    plot = null;

  const tell = index =>
    names.forEach((_, i) => {
      const line = data[i + 1];
      let at = index ?? line.length - 1;
      if (index === null || index === undefined) while (at > 0 && line[at] == null) at--;
      const value = line[at];
      values[i].textContent = value == null ? "–" : short(value) + unit;
    });

  const draw = () => {
    plot?.destroy();
    const pick = i => (colours ? colours[i] : colour(i));
    keys.forEach((key, i) => key.style.setProperty("background", pick(i)));
    plot = new uPlot(
      {
        width: Math.max(240, place.clientWidth),
        height: 200,
        legend: {show: false},
        cursor: {points: {size: 6}, y: false, drag: {x: true, y: false}},
        scales: {x: {time: false}, y: {distr: log ? 3 : 1, range: log ? undefined : range}},
        axes: [
          {stroke: style("--faint"), grid: {show: false}, ticks: {show: false}, size: 28, gap: 6},
          {
            stroke: style("--faint"),
            grid: {stroke: style("--rule"), width: 1, ...only},
            ticks: {show: false},
            size: (_, texts) => Math.max(52, 14 + 7.5 * Math.max(0, ...(texts || []).map(t => t.length))),
            gap: 6,
            ...only,
            values: (_, ticks) => labels(ticks),
          },
        ],
        series: [
          {},
          ...names.map((name, i) => ({
            label: name,
            stroke: pick(i),
            width: 1.8,
            spanGaps: true,
            points: {show: dots ? true : data[0].length < 2, size: 6, fill: pick(i)},
          })),
        ],
        hooks: {draw: [marks], setCursor: [u => tell(u.cursor.idx)]},
      },
      data,
      place,
    );
    tell(null);
  };

  function range(_, low, high) {
    low = Math.min(low, ...levels);
    high = Math.max(high, ...levels);
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
  }

  function marks(u) {
    const {ctx} = u,
      {left, top, width, height} = u.bbox;
    ctx.save();
    ctx.strokeStyle = style("--faint");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    if (warmup > u.scales.x.min && warmup < u.scales.x.max) {
      const x = u.valToPos(warmup, "x", true);
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
    }
    for (const level of levels) {
      const y = u.valToPos(level, "y", true);
      ctx.moveTo(left, y);
      ctx.lineTo(left + width, y);
    }
    ctx.stroke();
    ctx.restore();
  }

  let due = 0;
  const later = () => {
    cancelAnimationFrame(due);
    due = requestAnimationFrame(() => place.isConnected && draw());
  };
  const watcher = new ResizeObserver(later),
    dark = matchMedia("(prefers-color-scheme: dark)");
  watcher.observe(place);
  dark.addEventListener("change", later);
  signal.addEventListener("abort", () => {
    watcher.disconnect();
    dark.removeEventListener("change", later);
    plot?.destroy();
  });
  return {
    element,
    set(steps, lines) {
      // The axis begins at step 0, where nothing is known.
      data = steps[0] > 0 ? [[0, ...steps], ...lines.map(line => [null, ...line])] : [steps, ...lines];
      if (!plot || steps.length < 3) {
        later();
        return;
      }
      const {min, max} = plot.scales.x,
        whole = min <= 0 && max >= plot.data[0].at(-1);
      plot.setData(data, whole);
      if (!whole) plot.setScale("x", {min, max});
      tell(null);
    },
  };
}
