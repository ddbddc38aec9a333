// Line: what each camera sees and says now.

import { inPath, picture } from "../api.js";
import { Empty, Figure, Mark, causeWords } from "../bits.js";
import { Strip } from "../charts.js";
import { number, named, share, t } from "../i18n.js";
import * as live from "../live.js";
import { Plate } from "../plate.js";
import { link, set } from "../route.js";
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";

const WAITING = 1000; // records that wait: the disk does not take them
const FRAME_MS = 400; // a camera's picture is fetched no oftener

/** The newest picture; the former one stays until the next is there. */
function Live({ camera, overlay }) {
  const [shown, show] = useState(null);
  const wanted = useRef();
  wanted.current = { id: camera.id, stamp: live.stamp(camera.last), overlay };
  useEffect(() => {
    let url = null, done = "", busy = false, stopped = false;
    const look = async () => {
      const { id, stamp, overlay: drawn } = wanted.current;
      const key = `${stamp} ${drawn}`;
      if (busy || document.hidden || key === done) return;
      busy = true;
      try {
        const found = await picture(`/api/live/${inPath(id)}.jpg`, { overlay: drawn ? 1 : 0 });
        if (stopped) return;
        const former = url;
        url = found && URL.createObjectURL(found.blob);
        show(found && { url, part: found.part });
        if (former) setTimeout(() => URL.revokeObjectURL(former), 1000);
        // A picture comes a moment after its verdict, and not of every part: asked for until it is the newest part's.
        done = found?.part === stamp ? key : "";
      } catch {
        // the contact line of the header says so; tried again
      } finally {
        busy = false;
      }
    };
    look();
    const timer = setInterval(look, FRAME_MS);
    return () => { stopped = true; clearInterval(timer); if (url) URL.revokeObjectURL(url); };
  }, [camera.id]);
  if (!shown) return html`<div class="live"><${Empty}>${t("live.none")}<//></div>`;
  const part = live.strip(camera.id).filter((one) => String(one.part_id) === shown.part).at(-1); // a station that began anew counts parts anew
  return html`
    <figure class="live"><img src=${shown.url} alt=${t("live.alt", { camera: camera.id })} />
      ${shown.part && html`<figcaption>${t("plate.part", { id: shown.part })}${part && html` <${Mark} verdict=${part.verdict} />`}</figcaption>`}</figure>`;
}

/** p50, p95 and p99 against the budget: a full track is the budget. */
function Latency({ latency, budget }) {
  if (!latency) return null;
  const most = Math.max(budget || 0, latency.p99 || 0) * (budget ? 1.1 : 1) || 1;
  const at = (ms) => `${Math.min(100, (100 * (ms || 0)) / most)}%`;
  const misses = Object.entries(latency.misses || {});
  const lost = misses.reduce((sum, [, n]) => sum + n, 0);
  return html`
    <div class="latency">
      <h3>${t("latency")}</h3>
      <div class="track" aria-hidden="true">
        <span class="bar-p99" style=${{ width: at(latency.p99) }}></span><span class="bar-p50" style=${{ width: at(latency.p50) }}></span>
        ${budget && html`<span class="budget" style=${{ left: at(budget) }}></span>`}
      </div>
      <dl class="figures tight">
        ${["p50", "p95", "p99"].map((name) => html`<${Figure} key=${name} name=${name} value=${number(latency[name], 2)} unit="ms"
          kind=${budget && latency[name] > budget ? "bad" : ""} />`)}
        <${Figure} name=${t("budget")} value=${number(budget)} unit="ms" />
        <${Figure} name=${t("latency.misses")} value=${number(lost)} kind=${lost ? "bad" : ""} />
      </dl>
      ${misses.length > 0 && html`<p class="fine">${misses.map(([cause, n]) => `${causeWords(cause)}: ${number(n)}`).join(" · ")}</p>`}
    </div>`;
}

function Causes({ causes }) {
  const rows = Object.entries(causes || {}).sort((a, b) => b[1] - a[1]);
  if (!rows.length) return null;
  const most = rows[0][1] || 1;
  return html`
    <div><h3>${t("causes")}</h3>
      <table class="bars"><thead class="hidden"><tr><th>${t("cause")}</th><th>${t("parts")}</th></tr></thead><tbody>
      ${rows.slice(0, 6).map(([cause, n]) => html`<tr key=${cause}><th scope="row">${causeWords(cause)}</th>
        <td><span class="bar-of" style=${{ width: `${Math.max(2, (60 * n) / most)}%` }}></span>${number(n)}</td></tr>`)}
      </tbody></table></div>`;
}

function Shifts({ shifts }) {
  if (!shifts?.length) return null;
  const ok = (row) => share(row.OK + row.NG + row.UNKNOWN ? row.OK / (row.OK + row.NG + row.UNKNOWN) : null);
  const head = ["shift", "recipe", "OK", "NG", "UNKNOWN", "yield"];
  return html`
    <div><h3>${t("shifts")}</h3>
      <div class="scroll" tabindex="0" role="region" aria-label=${t("shifts")}><table>
        <thead><tr>${head.map((name, i) => html`<th key=${name} class=${i > 0 ? "num" : ""}>${i > 1 && i < 5 ? t(`verdict.${name}`) : t(name)}</th>`)}</tr></thead>
        <tbody>${shifts.slice(0, 6).map((row) => html`<tr key=${row.shift + row.recipe}><th scope="row">${row.shift}</th>
          <td class="num">${row.recipe ?? "–"}</td><td class="num">${number(row.OK)}</td><td class="num">${number(row.NG)}</td>
          <td class="num">${number(row.UNKNOWN)}</td><td class="num">${ok(row)}</td></tr>`)}</tbody>
      </table></div></div>`;
}

function diskWords({ free_mb: free, records_waiting: waiting, records_lost: lost }) {
  const words = lost > 0 ? t("state.disk.lost", { n: lost })
    : waiting > WAITING ? t("state.disk.waiting", { n: waiting })
      : free === null ? t("state.disk.unknown") : t("state.disk.free", { size: number(Math.round(free / 102.4) / 10) });
  return [!lost && waiting <= WAITING, t("state.disk"), words];
}

/** Each device in a word: does it do what it should? Counters of trouble are shown where there are any. */
function States({ camera }) {
  const troubled = (counters) => Object.entries(counters || {}).filter(([name, n]) => /error|lost|dropped|fail|reconnect|timeout/.test(name) && n > 0);
  const chips = [
    [camera.camera === "ok", t("state.camera"), named("camera", camera.camera)],
    ...Object.entries(camera.devices || {}).map(([name, counters]) => {
      const bad = troubled(counters);
      return [!bad.length, name, bad.length ? bad.map(([what, n]) => `${what} ${number(n)}`).join(", ") : t("state.ok")];
    }),
    ...(camera.disk ? [diskWords(camera.disk)] : []),
  ];
  return html`<ul class="chips" aria-label=${t("states")}>${chips.map(([good, name, words]) => html`
    <li key=${name} class=${good ? "chip" : "chip bad"}><svg viewBox="0 0 12 12" aria-hidden="true">${good ? html`<path d="M2 6l3 3 5-6" />` : html`<path d="M6 1v6M6 10v1" />`}</svg>
      <b>${name}</b> ${words}</li>`)}</ul>`;
}

function Card({ camera, overlay, kiosk, alone }) {
  const { counters } = camera;
  const notices = Object.entries(camera.notices || {});
  const stale = live.isStale() || camera.state === "unreachable";
  return html`
    <article class=${`card ${alone ? "alone" : ""} ${stale ? "stale" : ""}`} aria-label=${camera.id} data-camera=${camera.id}>
      <header class="card-head">
        <h2>${camera.name}</h2><span class="of">${camera.station}</span>
        <span class="meta">${camera.recipe !== null && t("recipe.number", { n: camera.recipe })}${" "}${camera.engine}</span>
      </header>
      <div class="look"><${Live} camera=${camera} overlay=${overlay} /><${Plate} camera=${camera} /></div>
      ${notices.length > 0 && html`<ul class="notices" aria-label=${t("notices")}>${notices.map(([what, words]) => html`<li key=${what}><b>${what}</b> ${words}</li>`)}</ul>`}
      <dl class="figures">
        ${["OK", "NG", "UNKNOWN"].map((name) => html`<${Figure} key=${name} name=${t(`verdict.${name}`)} value=${number(counters?.[name])} kind=${`is-${name}`} />`)}
        <${Figure} name=${t("yield")} value=${share(camera.yield)} />
        <${Figure} name=${t("ppm")} value=${number(camera.ppm === null ? null : Math.round(camera.ppm))} />
      </dl>
      ${!kiosk && html`
        <div class="strip-room"><h3>${t("strip")} <a class="fine" href=${link("threshold", { camera: camera.id })}>${t("threshold")} ${number(camera.threshold)}</a></h3>
          <${Strip} parts=${live.strip(camera.id)} /></div>
        <div class="pair"><${Latency} latency=${camera.latency} budget=${camera.budget_ms} /><${Causes} causes=${camera.causes} /></div>
        <${Shifts} shifts=${camera.shifts} />
        <${States} camera=${camera} />`}
    </article>`;
}

export function Line({ query, kiosk }) {
  live.useLive();
  const overlay = query.get("overlay") === "1";
  const cameras = live.all();
  if (!cameras.length) return html`<${Empty}>${live.isStale() ? t("contact.none") : t("line.none")}<//>`;
  return html`
    <div class="bar-of-tools">
      <label class="switch"><input type="checkbox" role="switch" checked=${overlay} onChange=${() => set({ overlay: overlay ? "" : "1" })} /> ${t("overlay")}</label>
      <a class="button" href=${link("line", kiosk ? {} : { kiosk: 1, overlay: overlay ? 1 : "" })}>${t(kiosk ? "kiosk.leave" : "kiosk.enter")}</a>
    </div>
    <div class=${`cards cards-${Math.min(cameras.length, 4)}`}>
      ${cameras.map((camera) => html`<${Card} key=${camera.id} camera=${camera} overlay=${overlay} kiosk=${kiosk} alone=${cameras.length === 1} />`)}
    </div>`;
}
