// Threshold: what another one would have meant, before it is applied.

import { get, inPath, may, post } from "../api.js";
import { CameraChoice, Choice, Dialog, Empty, Failed, Mark, Needs, NumberField, Panel, attempt, spans, tell, useCamera, useFetched } from "../bits.js";
import { Histogram } from "../charts.js";
import { moment, number, t } from "../i18n.js";
import { link, set } from "../route.js";
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";

const PAUSE_MS = 250; // after the last move, before the server is asked
const VERDICTS = ["OK", "NG", "UNKNOWN"];

function useSettled(value) {
  const [settled, settle] = useState(value);
  useEffect(() => { const timer = setTimeout(() => settle(value), PAUSE_MS); return () => clearTimeout(timer); }, [value]);
  return settled;
}

/** What is shown is what is applied: no more digits than a step of the line is worth. */
function rounded(value, edges) {
  const unit = 10 ** Math.floor(Math.log10(((edges.at(-1) - edges[0]) || 1) / 200));
  return Number((Math.round(value / unit) * unit).toPrecision(12));
}

function Replay({ replay, changing }) {
  const { now, then } = replay;
  return html`
    <div class=${changing ? "replay changing" : "replay"} role="status">
      <p class="verdict-line"><strong>${now.NG === then.NG ? t("replay.same", { n: now.NG }) : t("replay.sum", { now: now.NG, then: then.NG })}</strong></p>
      <table class="now-then"><thead><tr><th><span class="hidden">${t("verdict")}</span></th><th class="num">${t("replay.now")}</th><th class="num">${t("replay.then")}</th><th class="num">${t("replay.change")}</th></tr></thead>
        <tbody>${VERDICTS.map((verdict) => html`<tr key=${verdict}><th scope="row"><${Mark} verdict=${verdict} /></th><td class="num">${number(now[verdict] || 0)}</td><td class="num">${number(then[verdict] || 0)}</td>
          <td class="num">${(then[verdict] || 0) > (now[verdict] || 0) ? "+" : ""}${number((then[verdict] || 0) - (now[verdict] || 0))}</td></tr>`)}</tbody></table>
      <p class="fine">${replay.parts > 0 ? t("replay.span", { n: replay.parts, from: moment(replay.from), to: moment(replay.to) }) : t("replay.none")}</p>
      ${Object.entries(replay.skipped || {}).map(([words, n]) => html`<p key=${words} class="fine">${t("replay.skipped", { n, words })}</p>`)}
    </div>`;
}

function Changed({ replay, camera }) {
  if (!replay.changed_n) return html`<${Empty}>${t("changed.none")}<//>`;
  return html`
    <ul class="thumbs small" aria-label=${t("changed")}>${replay.changed.map((part) => html`<li key=${part.seq}>
      <a class="thumb" href=${link("review", { camera: camera.id, verdict: part.verdict, part: `${part.id}/${part.seq}` })}>
        ${part.picture || part.overlay ? html`<img loading="lazy" alt="" src=${`/api/part/${inPath(part.id)}/${part.seq}/${part.overlay ? "overlay" : "picture"}`} />` : html`<span class="no-picture">${t("picture.none")}</span>`}
        <span class="thumb-text"><span><${Mark} verdict=${part.verdict} /><span aria-hidden="true">${" → "}</span><span class="hidden">${t("changed.to")}</span><${Mark} verdict=${part.would} /></span>
          <span class="fine">${number(part.statistic ?? part.score)} · ${moment(part.time)}</span></span></a></li>`)}</ul>
    ${replay.changed_n > replay.changed.length && html`<p class="fine">${t("changed.more", { n: replay.changed_n, shown: replay.changed.length })}</p>`}`;
}

/** Apply or take back, with a reason; what it means is said once more. */
function Confirm({ title, lines, needsWhy, does, onClose }) {
  const why = useRef();
  const [busy, work] = useState(false);
  const go = async (event) => {
    event.preventDefault();
    work(true);
    await attempt(() => does(why.current?.value.trim()));
    onClose();
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form onSubmit=${go}>${lines.map((line, i) => html`<p key=${i}>${line}</p>`)}
      ${needsWhy && html`<label class="field"><span>${t("threshold.why")}</span><textarea ref=${why} rows="3" maxlength="500" required></textarea></label>`}
      <div class="buttons"><button type="submit" class="main" disabled=${busy}>${title}</button><button type="button" onClick=${onClose}>${t("cancel")}</button></div></form>
  <//>`;
}

function History({ rows }) {
  if (!rows.length) return html`<${Empty}>${t("history.none")}<//>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t("history")}><table>
    <thead><tr><th>${t("audit.when")}</th><th>${t("audit.who")}</th><th class="num">${t("audit.old")}</th><th class="num">${t("audit.new")}</th><th>${t("history.why")}</th></tr></thead>
    <tbody>${rows.map((row, i) => html`<tr key=${i}><td>${moment(row.when)}</td><td>${row.who}</td><td class="num">${number(row.old)}</td><td class="num">${number(row.new)}</td><td>${row.why}</td></tr>`)}</tbody></table></div>`;
}

function Legend() {
  return html`<p class="legend fine">
    ${VERDICTS.map((verdict) => html`<span key=${verdict}><i class=${`swatch bar-${verdict}`}></i>${t(`verdict.${verdict}`)}</span>`)}
    ${["false_reject", "missed_defect"].map((label) => html`<span key=${label}><svg viewBox="-10 -10 20 20" class="swatch" aria-hidden="true"><path class=${`label label-${label}`} d=${label === "false_reject" ? "M-7 -6h14v12h-14z" : "M0 -9L9 0 0 9-9 0z"} /></svg>${t(`label.${label}`)}</span>`)}
    <span><i class="swatch dash"></i>${t("threshold.in_force")}</span></p>`;
}

function Workbench({ camera, since }) {
  const [found, error, again] = useFetched(`${camera.id} ${since} ${camera.digest}`, (signal) => get("/api/scores", { camera: camera.id, since }, { signal }));
  const [history, , historyAgain] = useFetched(`${camera.id} ${camera.digest}`, (signal) => get("/api/threshold/history", { camera: camera.id }, { signal }));
  const [chosen, choose] = useState(null);
  const [asking, ask] = useState("");
  const inForce = found?.threshold ?? camera.threshold;
  const value = chosen ?? inForce;
  const settled = useSettled(value);
  const [replay, replayError] = useFetched(settled === null ? null : `${camera.id} ${settled} ${since} ${camera.digest}`,
    async (signal) => ({ at: settled, ...(await get("/api/replay", { camera: camera.id, threshold: settled, since }, { signal })) }));
  if (!found) return html`<${Failed} error=${error} />`;
  if (value === null || found.edges.length < 2) return html`<${Empty}>${t("scores.none")}<//>`;
  const done = (answer) => {
    tell(t("threshold.applied", { old: answer.old, new: answer.new }));
    choose(null);
    again();
    historyAgain();
  };
  const apply = async (why) => done(await post("/api/threshold", { camera: camera.id, threshold: value, why }));
  const undo = async () => done(await post("/api/threshold/undo", { camera: camera.id }));
  const meaning = replay?.at === value ? t("replay.sum", { now: replay.now.NG, then: replay.then.NG }) : "";
  return html`
    <${Failed} error=${error || replayError} />
    <${Panel} title=${t("histogram")} kind="wide">
      <${Histogram} found=${found} threshold=${value} onMove=${(next) => choose(rounded(next, found.edges))} />
      <${Legend} />
      <div class="set-line">
        <${NumberField} label=${t("threshold")} value=${Number(value.toPrecision(6))} onPick=${(text) => { if (text !== "") choose(Number(text)); }} />
        <span class="fine">${t("threshold.now", { value: inForce })}</span>
        ${chosen !== null && chosen !== inForce && html`<button type="button" class="quiet" onClick=${() => choose(null)}>${t("threshold.back")}</button>`}
        ${may("engineer") && html`<button type="button" class="main" disabled=${value === inForce} onClick=${() => ask("apply")}>${t("threshold.apply")}</button>
          <button type="button" disabled=${!history?.length || history[0].old === null} onClick=${() => ask("undo")}>${t("threshold.undo")}</button>`}
      </div>
      <${Needs} role="engineer" />
    <//>
    <div class="halves">
      <${Panel} title=${t("replay")}>${replay && html`<${Replay} replay=${replay} changing=${replay.at !== value} />`}<//>
      <${Panel} title=${t("guarantee")}><p class="lead">${found.guarantee || t("guarantee.none")}</p>${found.more_good && html`<p>${found.more_good}</p>`}
        ${found.good_n > 0 && html`<p class="fine">${t("guarantee.good", { n: found.good_n })}</p>`}<//>
    </div>
    <div class="columns">
      <${Panel} title=${t("changed")} kind="wide">${replay && html`<${Changed} replay=${replay} camera=${camera} />`}<//>
      <${Panel} title=${t("history")} kind="wide">${history && html`<${History} rows=${history} />`}<//>
    </div>
    ${asking === "apply" && html`<${Confirm} title=${t("threshold.apply")} needsWhy=${true} does=${apply} onClose=${() => ask("")}
      lines=${[t("threshold.confirm", { camera: camera.id, old: inForce, new: value }), meaning, t("threshold.confirm.when")].filter(Boolean)} />`}
    ${asking === "undo" && html`<${Confirm} title=${t("threshold.undo")} does=${undo} onClose=${() => ask("")}
      lines=${[t("threshold.undo.confirm", { camera: camera.id, old: history[0].old, new: history[0].new })]} />`}`;
}

export function Threshold({ query }) {
  const camera = useCamera(query);
  const since = query.get("since") || "7d";
  if (!camera) return html`<${Empty}>${t("line.none")}<//>`;
  return html`
    <div class="bar-of-tools"><${CameraChoice} camera=${camera} onPick=${(id) => set({ camera: id })} />
      <${Choice} label=${t("span")} value=${since} onPick=${(span) => set({ since: span })} options=${spans()} /></div>
    <${Workbench} key=${camera.id} camera=${camera} since=${since} />`;
}
