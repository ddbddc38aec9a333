// Small pieces that several pages are made of.

import { Refused, may } from "./api.js";
import * as live from "./live.js";
import { named, t } from "./i18n.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";

const SHAPES = {
  OK: html`<circle cx="50" cy="50" r="44" class="shape" /><path d="M28 52l15 16 29-34" class="sign" />`,
  NG: html`<path d="M31 6h38l25 25v38L69 94H31L6 69V31z" class="shape" /><path d="M33 33l34 34M67 33L33 67" class="sign" />`,
  UNKNOWN: html`<path d="M50 6L96 92H4z" class="shape" /><path d="M39 46c0-16 23-15 23-2 0 10-12 9-12 20M50 76v4" class="sign" />`,
  NONE: html`<path d="M8 8h84v84H8z" class="shape" /><path d="M28 50h44" class="sign" />`,
};

/** The shape of a verdict: circle, octagon, triangle; a square when there is none. */
export const Shape = ({ verdict }) => html`
  <svg class="verdict-shape" viewBox="0 0 100 100" aria-hidden="true">${SHAPES[verdict] || SHAPES.NONE}</svg>`;

/** Shape and word, small. */
export const Mark = ({ verdict }) => html`
  <span class=${`mark mark-${verdict}`}><${Shape} verdict=${verdict} />${t(`verdict.${verdict}`)}</span>`;

/** "late: inference" in words; what follows a colon is the station's own. */
export function causeWords(cause) {
  if (!cause) return "";
  const [name, ...rest] = cause.split(":");
  const detail = rest.join(":").trim();
  return detail ? `${named("cause", name)}: ${named("stage", detail)}` : named("cause", name);
}

export const Panel = ({ title, children, tools, kind = "" }) => html`
  <section class=${`panel ${kind}`} aria-label=${title}>
    <header class="panel-head"><h2>${title}</h2>${tools}</header>
    ${children}
  </section>`;

export const Figure = ({ name, value, unit, kind = "" }) => html`
  <div class=${`figure ${kind}`}><dt>${name}</dt><dd>${value}${unit && html`<small>${unit}</small>`}</dd></div>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

/** A column of a table that is numbers. */
export const Num = ({ children }) => html`<td class="num">${children}</td>`;

/** Choose one of few. `options`: [value, text]. */
export const Choice = ({ label, value, options, onPick }) => html`
  <label class="field"><span>${label}</span>
    <select value=${value} onChange=${(event) => onPick(event.target.value)}>
      ${options.map(([key, text]) => html`<option key=${key} value=${key} selected=${key === value}>${text}</option>`)}
    </select>
  </label>`;

/** A number that is typed. What paints the page meanwhile does not take away what was typed so far. */
export function NumberField({ label, value, onPick, kind = "" }) {
  const [typed, type] = useState(null);
  const seen = (event) => {
    type(event.target.value);
    if (!event.target.validity.badInput) onPick(event.target.value);
  };
  return html`<label class=${`field ${kind}`}><span>${label}</span>
    <input type="number" step="any" value=${typed ?? value} onInput=${seen} onBlur=${() => type(null)} /></label>`;
}

/** Which camera a page is about; the first when the address names none. */
export function useCamera(query) {
  live.useLive();
  const wanted = query.get("camera");
  const cameras = live.all();
  return cameras.find((one) => one.id === wanted) || cameras[0] || null;
}

export const CameraChoice = ({ camera, onPick }) => html`
  <${Choice} label=${t("camera")} value=${camera.id} onPick=${onPick} options=${live.all().map((one) => [one.id, one.id])} />`;

export const spans = () => ["8h", "1d", "7d", "30d"].map((span) => [span, t(`span.${span}`)]);

/** A modal dialog: the browser keeps the focus inside, and Escape closes it. */
export function Dialog({ title, onClose, children, kind = "" }) {
  const box = useRef();
  useEffect(() => {
    const back = document.activeElement;
    const dialog = box.current;
    dialog.showModal();
    dialog.focus(); // not its first button: keys of the page below would press it
    return () => { dialog.close(); back?.focus?.({ preventScroll: true }); };
  }, []);
  return html`
    <dialog ref=${box} class=${kind} tabindex="-1" aria-label=${title} onCancel=${(event) => { event.preventDefault(); onClose(); }}>
      <header class="panel-head"><h2>${title}</h2>
        <button type="button" class="quiet" aria-label=${t("close")} onClick=${onClose}>${"✕"}</button></header>
      ${children}
    </dialog>`;
}

const told = new Set(); // listeners of what Told shows

/** Say in one line what was done, or what went wrong. */
export function tell(text, hint = "", bad = false) {
  for (const listener of told) listener({ text, hint, bad, at: Date.now() });
}

/** Do something that may be refused; what went wrong is said. Returns whether it was done. */
export async function attempt(action) {
  try {
    await action();
    return true;
  } catch (error) {
    if (error instanceof Refused) tell(error.message, error.hint, true);
    else tell(t("error.contact"), t("error.contact.hint"), true);
    return false;
  }
}

export function Told() {
  const [line, show] = useState(null);
  useEffect(() => { told.add(show); return () => told.delete(show); }, []);
  useEffect(() => {
    if (!line || line.bad) return undefined;
    const timer = setTimeout(() => show(null), 6000);
    return () => clearTimeout(timer);
  }, [line]);
  return html`
    <div class="told" role=${line?.bad ? "alert" : "status"}>
      ${line && html`<div class=${line.bad ? "told-line bad" : "told-line"}>
        <span><strong>${line.text}</strong>${line.hint && html` <span>${line.hint}</span>`}</span>
        <button type="button" class="quiet" aria-label=${t("close")} onClick=${() => show(null)}>${"✕"}</button>
      </div>`}
    </div>`;
}

/**
 * What `load` fetches, again whenever `key` changes; an older answer never replaces a newer one.
 * Returns [value or null, error or null, fetch again].
 */
export function useFetched(key, load) {
  const [state, become] = useState({ value: null, error: null });
  const [turn, again] = useState(0);
  useEffect(() => {
    if (key === null) return undefined;
    const stop = new AbortController();
    load(stop.signal).then(
      (value) => stop.signal.aborted || become({ value, error: null }),
      (error) => stop.signal.aborted || become((former) => ({ value: former.value, error })),
    );
    return () => stop.abort();
  }, [key, turn]);
  return [state.value, state.error, () => again((n) => n + 1)];
}

/** What could not be fetched, in words; what is shown beside it is old then. */
export const Failed = ({ error }) => error && html`
  <p class="failed" role="alert"><strong>${error instanceof Refused ? error.message : t("error.contact")}</strong>${" "}
    ${error instanceof Refused ? error.hint : t("error.contact.hint")}</p>`;

/** Why somebody of a lower role sees no button here. */
export const Needs = ({ role }) => !may(role) && html`<p class="needs">${t(`needs.${role}`)}</p>`;
