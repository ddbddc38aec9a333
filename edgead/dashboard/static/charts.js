// The score strip (uPlot) and the histogram whose line moves (SVG). Colours are those of the style sheets.

import { clock, number, t } from "./i18n.js";
import { stamp } from "./live.js";
import uPlot from "./vendor/uPlot.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const VERDICTS = ["OK", "NG", "UNKNOWN"];

/** What a part is compared by; null where it has no number. */
export const statisticOf = (part) => part.statistic ?? part.score;

function shape(context, verdict, x, y, size) {
  context.beginPath();
  if (verdict === "OK") context.arc(x, y, size * 0.7, 0, 7);
  else if (verdict === "NG") context.rect(x - size, y - size, 2 * size, 2 * size);
  else { context.moveTo(x, y - size * 1.2); context.lineTo(x + size * 1.2, y + size); context.lineTo(x - size * 1.2, y + size); }
  context.fill();
}

// The scale shows the good parts and the threshold well; what lies far above stands at its upper edge.
function extent(parts) {
  const values = parts.map(statisticOf).filter((value) => value !== null).sort((a, b) => a - b);
  const thresholds = parts.map((part) => part.threshold).filter((value) => value !== null);
  const low = Math.min(values[0] ?? 0, ...thresholds);
  const high = Math.max(...thresholds.map((value) => value + 1.2 * (value - low)), values[Math.floor(values.length * 0.8)] ?? 0, low + 1e-9);
  return [low - 0.12 * (high - low), high];
}

function plotter(parts) {
  return (plot) => {
    const { ctx } = plot;
    const size = 3.2 * devicePixelRatio;
    const [low, high] = [plot.scales.y.min, plot.scales.y.max];
    ctx.save();
    ctx.strokeStyle = colour("--ink");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    let former = null;
    parts.current.forEach((part, index) => {
      if (part.threshold === null) { former = null; return; }
      const y = plot.valToPos(Math.min(part.threshold, high), "y", true);
      const [left, right] = [index - 0.5, index + 0.5].map((x) => plot.valToPos(x, "x", true));
      if (former === null) ctx.moveTo(left, y); else ctx.lineTo(left, y);
      ctx.lineTo(right, y);
      former = y;
    });
    ctx.stroke();
    for (const verdict of VERDICTS) {
      ctx.fillStyle = colour(`--chart-${verdict}`);
      parts.current.forEach((part, index) => {
        if (part.verdict !== verdict) return;
        const value = statisticOf(part);
        // Without a score there is still a part, and it stands at the foot.
        shape(ctx, verdict, plot.valToPos(index, "x", true), plot.valToPos(value === null ? low : Math.min(value, high), "y", true), verdict === "OK" ? size : size * 1.35);
      });
    }
    ctx.restore();
  };
}

/** Scores of the newest parts beside their thresholds; a part's verdict is its colour and its shape. */
export function Strip({ parts, height = 150 }) {
  const box = useRef();
  const plot = useRef();
  const drawn = useRef(parts);
  drawn.current = parts;
  useEffect(() => {
    const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--rule"), width: 1 }, ticks: { show: false }, font: "12px sans-serif" };
    const at = (index) => (drawn.current[index] ? clock(drawn.current[index].time) : "");
    plot.current = new uPlot({
      width: box.current.clientWidth || 400,
      height,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, range: () => [-0.5, Math.max(60, drawn.current.length) - 0.5] }, y: { range: () => extent(drawn.current) } },
      axes: [{ ...axis, size: 24, space: 90, values: (_, marks) => marks.map((index) => (Number.isInteger(index) ? at(index) : "")) }, { ...axis, size: 52, space: 30, values: (_, marks) => marks.map((value) => number(value)) }],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { draw: [plotter(drawn)] },
    }, [[], []], box.current);
    const resized = new ResizeObserver(() => plot.current.setSize({ width: box.current.clientWidth, height }));
    resized.observe(box.current);
    const repaint = () => plot.current.redraw();
    window.addEventListener("theme", repaint);
    return () => { resized.disconnect(); window.removeEventListener("theme", repaint); plot.current.destroy(); };
  }, []);
  const newest = stamp(parts.at(-1));
  useEffect(() => { plot.current.setData([parts.map((_, index) => index), parts.map(statisticOf)]); }, [newest, parts.length]);
  const above = parts.filter((part) => part.verdict === "NG").length;
  return html`<div class="strip" ref=${box} role="img" aria-label=${t("strip.summary", { n: parts.length, ng: above, threshold: parts.at(-1)?.threshold ?? null })}></div>`;
}

const H = 300, FOOT = 34, LEFT = 56; // of the drawing; H is 18.75rem high in the style sheet, and as wide as there is room

function useWidth(svg) {
  const [width, take] = useState(1000);
  useEffect(() => {
    const look = () => {
      const box = svg.current.getBoundingClientRect();
      if (box.height > 0) take((H * box.width) / box.height);
    };
    const resized = new ResizeObserver(look);
    resized.observe(svg.current);
    return () => resized.disconnect();
  }, []);
  return width;
}

/**
 * Counts by score, and a threshold that is dragged, or moved by arrow keys (page keys: ten steps).
 * found: the answer of /api/scores; `onMove` is called with each new value.
 */
export function Histogram({ found, threshold, onMove }) {
  const svg = useRef();
  const W = useWidth(svg);
  const { edges } = found;
  const [low, high] = [Math.min(edges[0], threshold, found.threshold ?? threshold), Math.max(edges.at(-1), threshold, found.threshold ?? threshold)];
  const span = high - low || 1;
  const x = (value) => LEFT + ((value - low) / span) * (W - LEFT);
  const most = Math.max(1, ...edges.slice(1).map((_, i) => VERDICTS.reduce((sum, verdict) => sum + (found[verdict]?.[i] || 0), 0)));
  // By the logarithm: a single defect beside ten thousand good parts must be seen.
  const y = (count) => H - FOOT - (Math.log1p(count) / Math.log1p(most)) * (H - FOOT - 16);
  const step = span / 200;
  const move = (value) => onMove(Math.min(high, Math.max(low, value)));
  const dragged = (event) => {
    const { left, width } = svg.current.getBoundingClientRect();
    move(low + (((event.clientX - left) / width) * W - LEFT) / (W - LEFT) * span);
  };
  const pressed = (event) => {
    const moves = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step, PageDown: -10 * step, PageUp: 10 * step, Home: low - threshold, End: high - threshold };
    if (!(event.key in moves)) return;
    event.preventDefault();
    move(threshold + moves[event.key]);
  };
  const ticks = [1, 10, 100, 1000, 10000, 100000, 1000000].filter((count) => count <= most);
  const marks = [0, 1, 2, 3, 4, 5].map((i) => low + (span * i) / 5);
  return html`
    <svg ref=${svg} class="histogram" viewBox=${`0 0 ${W} ${H}`} role="group" aria-label=${t("histogram")}
      onPointerDown=${(event) => { svg.current.setPointerCapture(event.pointerId); dragged(event); }}
      onPointerMove=${(event) => { if (event.buttons) dragged(event); }}>
      ${ticks.map((count) => html`<g key=${count}><line class="grid" x1=${LEFT} x2=${W} y1=${y(count)} y2=${y(count)} />
        <text class="tick" x=${LEFT - 8} y=${y(count) + 4} text-anchor="end">${number(count)}</text></g>`)}
      ${edges.slice(1).map((right, i) => {
        let under = 0;
        return VERDICTS.map((verdict) => {
          const count = found[verdict]?.[i] || 0;
          if (!count) return null;
          const [bottom, top] = [y(under), y(under + count)];
          under += count;
          return html`<rect key=${verdict + i} class=${`bar bar-${verdict}`} x=${x(edges[i]) + 0.5} width=${Math.max(1, x(right) - x(edges[i]) - 1)} y=${top} height=${Math.max(2, bottom - top)} />`;
        });
      })}
      ${["false_reject", "missed_defect"].map((label) => (found.labelled?.[label] || []).map((count, i) => count > 0 && html`
        <path key=${label + i} class=${`label label-${label}`} d=${label === "false_reject" ? "M-7 -6h14v12h-14z" : "M0 -9L9 0 0 9-9 0z"}
          transform=${`translate(${x((edges[i] + edges[i + 1]) / 2)} ${label === "false_reject" ? 12 : 30})`}><title>${t(`label.${label}`)}: ${number(count)}</title></path>`))}
      <line class="axis" x1=${LEFT} x2=${W} y1=${H - FOOT} y2=${H - FOOT} />
      ${marks.map((value, i) => html`<text key=${i} class="tick" x=${x(value)} y=${H - 12} text-anchor=${i === 0 ? "start" : i === 5 ? "end" : "middle"}>${number(value)}</text>`)}
      ${found.threshold !== null && html`<line class="in-force" x1=${x(found.threshold)} x2=${x(found.threshold)} y1="0" y2=${H - FOOT} />`}
      <g class="handle" role="slider" tabindex="0" aria-label=${t("threshold")} aria-valuemin=${low} aria-valuemax=${high} aria-valuenow=${threshold}
        aria-valuetext=${number(threshold)} onKeyDown=${pressed}>
        <rect class="grip-room" x=${x(threshold) - 22} y="0" width="44" height=${H} />
        <line x1=${x(threshold)} x2=${x(threshold)} y1="0" y2=${H - FOOT} />
        <path class="grip" d="M-13 0h26v20l-13 14-13-14z" transform=${`translate(${x(threshold)} 0)`} />
      </g>
    </svg>`;
}
