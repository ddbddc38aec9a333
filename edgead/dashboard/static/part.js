// One part: its picture with the heat map over it, why it was judged so, and what a person says of it.

import { get, inPath, may, post } from "./api.js";
import { Dialog, Failed, Figure, Mark, Needs, attempt, causeWords, tell, useFetched } from "./bits.js";
import { statisticOf } from "./charts.js";
import { moment, number, t } from "./i18n.js";
import * as live from "./live.js";
import { html, useCallback, useEffect, useRef, useState } from "./vendor/htm-preact.js";

const MOST = 12; // times as large
const STAGES = ["wait_ms", "resize_ms", "inference_ms", "decision_ms", "total_ms"];

/** Picture and heat map: the wheel, + and - zoom, dragging moves. */
function Look({ path, part, opacity, view, onView }) {
  const held = useRef(null);
  const [ratio, fit] = useState(4 / 3);
  const both = part.picture && part.overlay;
  const loaded = (event) => fit(event.target.naturalWidth / event.target.naturalHeight);
  const zoom = (by) => onView(({ scale, x, y }) => {
    const next = Math.min(MOST, Math.max(1, scale * by));
    return next === 1 ? { scale: 1, x: 0, y: 0 } : { scale: next, x: (x * next) / scale, y: (y * next) / scale };
  });
  // The heat map's picture has a line of words on top: as wide as the camera's picture, and even with its lower edge.
  const style = { transform: `translate(${view.x}px, ${view.y}px) scale(${view.scale})`, "--ratio": ratio };
  if (!part.picture && !part.overlay) return html`<div class="look-at"><p class="no-picture">${t("picture.none")}</p></div>`;
  return html`
    <div class="look-at" onWheel=${(event) => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.25 : 0.8); }}
      onPointerDown=${(event) => { held.current = { x: event.clientX - view.x, y: event.clientY - view.y }; event.currentTarget.setPointerCapture(event.pointerId); }}
      onPointerMove=${(event) => { if (held.current && view.scale > 1) onView({ ...view, x: event.clientX - held.current.x, y: event.clientY - held.current.y }); }}
      onPointerUp=${() => { held.current = null; }}>
      <div class="layers" style=${style}>
        ${part.picture && html`<img draggable=${false} onLoad=${both ? null : loaded} src=${`${path}/picture`} alt=${t("picture.alt", { id: String(part.part_id) })} />`}
        ${part.overlay && html`<img draggable=${false} onLoad=${loaded} class="over" style=${{ opacity: both ? opacity : 1 }} src=${`${path}/overlay`} alt=${part.picture ? "" : t("picture.alt", { id: String(part.part_id) })} />`}
      </div>
    </div>`;
}

/** What was compared with what, in words of this page's language. */
function compared(part) {
  const value = statisticOf(part);
  if (value === null || part.threshold === null) return "";
  if (live.camera(part.id)?.statistic === "area") return t("why.area", { area: value, threshold: part.threshold });
  return t(value >= part.threshold ? "why.above" : "why.below", { score: value, threshold: part.threshold });
}

function Why({ part }) {
  return html`
    <h3>${t("why")}</h3>
    <ul class="why">
      ${part.cause && html`<li><strong>${causeWords(part.cause)}</strong></li>`}
      ${compared(part) && html`<li>${compared(part)}</li>`}
      ${part.rule && html`<li>${t("rule")}: ${part.rule}</li>`}
    </ul>
    <dl class="figures tight">
      <${Figure} name=${t("statistic")} value=${number(statisticOf(part))} />
      <${Figure} name=${t("threshold")} value=${number(part.threshold)} />
      ${STAGES.map((stage) => part[stage] !== undefined && part[stage] !== null && html`<${Figure} key=${stage} name=${t(stage)} value=${number(part[stage], 2)} unit="ms" />`)}
    </dl>
    <p class="fine">${[part.engine, part.recipe !== null && t("recipe.number", { n: part.recipe }), part.source].filter(Boolean).join(" · ")}</p>
    ${part.views?.length > 1 && html`<table><thead><tr><th>${t("camera")}</th><th>${t("verdict")}</th><th>${t("statistic")}</th></tr></thead><tbody>
      ${part.views.map((view, i) => html`<tr key=${i}><th scope="row">${view.camera}</th><td><${Mark} verdict=${view.verdict} /> ${causeWords(view.cause)}</td><td class="num">${number(view.score)}</td></tr>`)}</tbody></table>`}`;
}

/** Which labels make sense: an OK part may have been missed, any other may have been good. */
const labelsOf = (part) => (part.verdict === "OK" ? ["confirmed", "missed_defect"] : ["confirmed", "false_reject"]);

function Verdict({ part, path, onReviewed, keys }) {
  const note = useRef();
  const say = async (label) => {
    const text = note.current?.value ?? part.reviewed?.note ?? "";
    const done = await attempt(() => post(`${path}/review`, { label, note: label ? text : "" }));
    if (!done) return;
    tell(label ? t("review.saved", { label: t(`label.${label}`) }) : t("review.taken_back"));
    onReviewed();
  };
  const labels = labelsOf(part);
  keys.current = may("operator") ? { 1: () => say(labels[0]), 2: () => say(labels[1]), 0: () => part.reviewed && say(null) } : {};
  return html`
    <h3>${t("review.say")}</h3>
    ${part.reviewed && html`<p class="reviewed"><span class="tag">${t(`label.${part.reviewed.label}`)}</span> ${part.reviewed.note}${" "}
      <span class="fine">${part.reviewed.who} · ${moment(part.reviewed.when)}</span></p>`}
    ${may("operator") ? html`
      <label class="field"><span>${t("note")}</span><textarea ref=${note} rows="2" maxlength="500" key=${part.seq}>${part.reviewed?.note || ""}</textarea></label>
      <div class="buttons">
        ${labels.map((label, i) => html`<button key=${label} type="button" class=${part.reviewed?.label === label ? "chosen" : ""} aria-pressed=${part.reviewed?.label === label} onClick=${() => say(label)}>
          ${t(`label.${label}.do`)} <kbd>${i + 1}</kbd></button>`)}
        ${part.reviewed && html`<button type="button" class="quiet" onClick=${() => say(null)}>${t("review.take_back")} <kbd>0</kbd></button>`}
      </div>` : html`<${Needs} role="operator" />`}`;
}

/** A part in a dialog. of: "STATION/CAMERA/SEQ"; onTurn(by), when it stands in a list. */
export function Part({ of, onClose, onTurn, onReviewed }) {
  const [id, seq] = [of.slice(0, of.lastIndexOf("/")), of.slice(of.lastIndexOf("/") + 1)];
  const path = `/api/part/${inPath(id)}/${encodeURIComponent(seq)}`;
  const [part, error, again] = useFetched(of, (signal) => get(path, {}, { signal }));
  const [opacity, blend] = useState(0.6);
  const [view, onView] = useState({ scale: 1, x: 0, y: 0 });
  const keys = useRef({});
  const zoom = (by) => onView(({ scale, x, y }) => { const next = Math.min(MOST, Math.max(1, scale * by)); return { scale: next, x: next === 1 ? 0 : (x * next) / scale, y: next === 1 ? 0 : (y * next) / scale }; });
  useEffect(() => { if (part) onReviewed?.(part); }, [part]);
  live.usePart(useCallback((told) => { if (told.id === id && String(told.seq) === seq) again(); }, [of])); // its pictures are saved by now
  useEffect(() => {
    const pressed = (event) => {
      if (event.target.matches("textarea, input, select") || event.ctrlKey || event.altKey || event.metaKey) return;
      const does = { ArrowLeft: () => onTurn?.(-1), ArrowRight: () => onTurn?.(1), "+": () => zoom(1.25), "-": () => zoom(0.8), h: () => blend((now) => (now > 0 ? 0 : 0.6)), ...keys.current }[event.key];
      if (!does) return;
      event.preventDefault();
      does();
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  });
  return html`
    <${Dialog} title=${t("part", { id: String(part?.part_id ?? seq) })} kind="part" onClose=${onClose}>
      <${Failed} error=${error} />
      ${part && html`<div class="part-body">
        <div class="part-look">
          <${Look} path=${path} part=${part} opacity=${opacity} view=${view} onView=${onView} />
          <div class="part-tools">
            ${part.picture && part.overlay && html`<label class="slide"><span>${t("heat")}</span><input type="range" min="0" max="1" step="0.05" value=${opacity} onInput=${(event) => blend(Number(event.target.value))} /></label>`}
            <button type="button" aria-label=${t("zoom.in")} onClick=${() => zoom(1.5)}>+</button>
            <button type="button" aria-label=${t("zoom.out")} onClick=${() => zoom(1 / 1.5)}>−</button>
            ${onTurn && html`<button type="button" onClick=${() => onTurn(-1)}>${t("part.before")}</button><button type="button" onClick=${() => onTurn(1)}>${t("part.after")}</button>`}
          </div>
        </div>
        <div class="part-words">
          <p class="part-head"><${Mark} verdict=${part.verdict} /> <span>${part.id}</span> <span class="fine">${moment(part.time)}</span></p>
          <${Why} part=${part} />
          <${Verdict} part=${part} path=${path} keys=${keys} onReviewed=${again} />
          <p class="fine keys">${t("part.keys")}</p>
        </div>
      </div>`}
    <//>`;
}
