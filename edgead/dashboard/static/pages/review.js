// Review: the parts that were rejected, one look each.

import { get, inPath, serverNow } from "../api.js";
import { Choice, Empty, Failed, Mark, NumberField, causeWords } from "../bits.js";
import { Calendar } from "../calendar.js";
import { clock, named, number, t } from "../i18n.js";
import * as live from "../live.js";
import { Part } from "../part.js";
import { set } from "../route.js";
import { html, useCallback, useEffect, useRef, useState } from "../vendor/htm-preact.js";

const PAGE = 60;
const DAY_MS = 86400000;

/** What the address asks for. */
function asked(query) {
  const one = (name, otherwise = "") => query.get(name) ?? otherwise;
  return { camera: one("camera"), verdict: one("verdict", "NG,UNKNOWN"), cause: one("cause"), recipe: one("recipe"), day: one("day"), score_min: one("score_min"), score_max: one("score_max"), reviewed: one("reviewed") };
}

function toAsk({ camera, day, ...filters }) {
  const from = day && `${day}T00:00:00Z`;
  return { ...filters, from, to: day && new Date(Date.parse(from) + DAY_MS).toISOString().replace(".000", "") };
}

/** Each camera numbers its own parts, so each is asked for what comes before its own last one. */
async function fetchPage(cameras, filters, before, signal) {
  const answers = await Promise.all(cameras.map((id) => (before[id] === null ? { parts: [], more: false }
    : get("/api/parts", { camera: id, ...toAsk(filters), limit: PAGE, before: before[id] }, { signal }))));
  const next = Object.fromEntries(answers.map(({ parts, more }, i) => [cameras[i], more && parts.length ? Math.min(...parts.map((part) => part.seq)) : null]));
  return { parts: answers.flatMap((answer) => answer.parts).sort((a, b) => (a.time < b.time ? 1 : -1)), next };
}

function useParts(cameras, filters) {
  const [state, become] = useState({ parts: null, next: {}, error: null });
  const [turn, again] = useState(0);
  const key = JSON.stringify([cameras, filters]);
  useEffect(() => {
    const stop = new AbortController();
    if (cameras.length) {
      fetchPage(cameras, filters, {}, stop.signal).then(
        (found) => stop.signal.aborted || become({ ...found, error: null }),
        (error) => stop.signal.aborted || become((former) => ({ ...former, error })));
    }
    return () => stop.abort();
  }, [key, turn]);
  const more = async () => {
    try {
      const found = await fetchPage(cameras, filters, state.next);
      become((former) => ({ parts: [...former.parts, ...found.parts], next: found.next, error: null }));
    } catch (error) {
      become((former) => ({ ...former, error }));
    }
  };
  const changed = (part) => become((former) => ({ ...former, parts: former.parts?.map((one) => (keyOf(one) === keyOf(part)
    ? { ...one, reviewed: part.reviewed, picture: part.picture, overlay: part.overlay } : one)) }));
  return { ...state, hasMore: Object.values(state.next).some((before) => before !== null), more, changed, again: () => again((n) => n + 1) };
}

function Filters({ filters, cameras, causes, recipes }) {
  const verdicts = filters.verdict.split(",").filter(Boolean);
  const toggle = (verdict) => set({ verdict: ["NG", "UNKNOWN", "OK"].filter((one) => (one === verdict) !== verdicts.includes(one)).join(",") || verdict });
  const input = (name) => html`<${NumberField} label=${t(name)} value=${filters[name]} onPick=${(text) => set({ [name]: text })} />`;
  return html`
    <fieldset class="marks"><legend>${t("verdict")}</legend>
      ${["NG", "UNKNOWN", "OK"].map((verdict) => html`<label key=${verdict} class="pick"><input type="checkbox" checked=${verdicts.includes(verdict)} onChange=${() => toggle(verdict)} /><${Mark} verdict=${verdict} /></label>`)}
    </fieldset>
    <${Choice} label=${t("camera")} value=${filters.camera} onPick=${(camera) => set({ camera })} options=${[["", t("all")], ...cameras.map((id) => [id, id])]} />
    <${Choice} label=${t("cause")} value=${filters.cause} onPick=${(cause) => set({ cause })} options=${[["", t("all")], ...causes.map((cause) => [cause, causeWords(cause)])]} />
    ${recipes.length > 0 && html`<${Choice} label=${t("recipe")} value=${filters.recipe} onPick=${(recipe) => set({ recipe })} options=${[["", t("all")], ...recipes.map((n) => [String(n), String(n)])]} />`}
    <${Choice} label=${t("reviewed")} value=${filters.reviewed} onPick=${(reviewed) => set({ reviewed })} options=${[["", t("all")], ["no", t("reviewed.no")], ["yes", t("reviewed.yes")]]} />
    <div class="two">${input("score_min")}${input("score_max")}</div>
    <a class="button quiet" href="#/review">${t("filters.clear")}</a>`;
}

function Thumb({ part, focus, onOpen, reference }) {
  const path = `/api/part/${inPath(part.id)}/${part.seq}`;
  return html`<li><button type="button" class="thumb" ref=${reference} tabindex=${focus ? 0 : -1} onClick=${onOpen} data-seq=${part.seq} data-verdict=${part.verdict}>
    ${part.overlay || part.picture ? html`<img loading="lazy" src=${`${path}/${part.overlay ? "overlay" : "picture"}`} alt="" />` : html`<span class="no-picture">${t("picture.none")}</span>`}
    <span class="thumb-text"><span class="hidden">${t("part", { id: String(part.part_id) })}</span><${Mark} verdict=${part.verdict} />${part.reviewed && html`<span class="tag">${t(`label.${part.reviewed.label}`)}</span>`}
      <span class="fine">${part.cause ? causeWords(part.cause) : number(part.statistic ?? part.score)}</span>
      <span class="fine">${part.id} · ${clock(part.time)}</span></span>
  </button></li>`;
}

/** Arrow keys walk over the grid, one Tab stop for all of it. */
function Grid({ parts, at, onAt, onOpen }) {
  const buttons = useRef([]);
  const pressed = (event) => {
    const tops = buttons.current.slice(0, parts.length).map((button) => button.offsetParent && button.getBoundingClientRect().top);
    const columns = Math.max(1, tops.filter((top) => top === tops[0]).length);
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: parts.length - 1 - at };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const next = at + moves[event.key];
    if (next < 0 || next >= parts.length) return;
    onAt(next);
    buttons.current[next].focus();
  };
  return html`<ul class="thumbs" role="list" aria-label=${t("parts")} onKeyDown=${pressed}>
    ${parts.map((part, i) => html`<${Thumb} key=${`${part.id} ${part.seq}`} part=${part} focus=${i === at} reference=${(button) => { buttons.current[i] = button; }}
      onOpen=${() => { onAt(i); onOpen(part); }} />`)}
  </ul>`;
}

/** Would a part that has just come stand in this list? */
function wouldShow(part, { verdict, cause, recipe, day, score_min: least, score_max: most, reviewed }) {
  return verdict.split(",").includes(part.verdict) && reviewed !== "yes" && (!day || part.time.startsWith(day))
    && (!cause || part.cause.split(":")[0] === cause.split(":")[0]) && (!recipe || String(part.recipe) === recipe)
    && (!least || part.score >= Number(least)) && (!most || part.score <= Number(most));
}

const keyOf = (part) => `${part.id}/${part.seq}`;

export function Review({ query }) {
  live.useLive();
  const ids = live.all().map((camera) => camera.id);
  const filters = asked(query);
  const cameras = filters.camera ? [filters.camera] : ids;
  const found = useParts(cameras, filters);
  const [at, goTo] = useState(0);
  const [fresh, note] = useState([]); // keys of parts that came since the list was fetched
  const seen = useCallback((part) => {
    if (!cameras.includes(part.id) || !wouldShow(part, filters)) return;
    const known = listed.current.get(keyOf(part));
    if (known) found.changed({ ...part, reviewed: known.reviewed }); // told again, with its pictures
    else note((keys) => (keys.includes(keyOf(part)) ? keys : [...keys, keyOf(part)]));
  }, [JSON.stringify([cameras, filters])]);
  const listed = useRef(new Map());
  listed.current = new Map((found.parts || []).map((part) => [keyOf(part), part]));
  live.usePart(seen);
  const renew = () => { note([]); goTo(0); found.again(); };
  const parts = found.parts || [];
  // Nothing that a hand may be on its way to is moved: only an empty list fills by itself.
  useEffect(() => { if (fresh.length && found.parts && !parts.length) renew(); }, [fresh, found.parts]);
  const open = query.get("part");
  const index = parts.findIndex((part) => keyOf(part) === open);
  const turn = (by) => { const next = parts[index + by]; if (next) { goTo(index + by); set({ part: keyOf(next) }); } };
  const causes = [...new Set([...live.all().flatMap((camera) => Object.keys(camera.causes || {})), ...(filters.cause ? [filters.cause] : [])])].sort();
  const recipes = [...new Set(live.all().flatMap((camera) => (camera.shifts || []).map((row) => row.recipe)).filter((n) => n !== null))].sort((a, b) => a - b);
  const month = query.get("month") || filters.day.slice(0, 7) || new Date(serverNow()).toISOString().slice(0, 7);
  return html`
    <div class="review">
      <aside class="filters panel" aria-label=${t("filters")}>
        <${Calendar} cameras=${cameras} month=${month} day=${filters.day} onMonth=${(next) => set({ month: next })} onDay=${(day) => set({ day: day === filters.day ? "" : day })} />
        <${Filters} filters=${filters} cameras=${ids} causes=${causes} recipes=${recipes} />
        <${Export} cameras=${cameras} />
      </aside>
      <div class="found">
        <div class="fresh" role="status">${fresh.length > 0 && html`<button type="button" class="main" onClick=${renew}>${t("review.fresh", { n: fresh.length })}</button>`}</div>
        <${Failed} error=${found.error} />
        ${found.parts && !parts.length && html`<${Empty}>${t("review.none")}<//>`}
        ${parts.length > 0 && html`<${Grid} parts=${parts} at=${Math.min(at, parts.length - 1)} onAt=${goTo} onOpen=${(part) => set({ part: keyOf(part) })} />`}
        ${found.hasMore && html`<button type="button" onClick=${found.more}>${t("more")}</button>`}
        <p class="fine keys">${t("review.keys")}</p>
      </div>
    </div>
    ${open && html`<${Part} key=${open} of=${open} onClose=${() => set({ part: "" })} onTurn=${index >= 0 ? turn : null} onReviewed=${found.changed} />`}`;
}

function Export({ cameras }) {
  const [format, choose] = useState("mvtec");
  const query = new URLSearchParams([...cameras.map((id) => ["camera", id]), ["format", format]]);
  return html`<div class="export"><${Choice} label=${t("export")} value=${format} onPick=${choose} options=${["mvtec", "coco", "labelstudio"].map((name) => [name, named("format", name)])} />
    <a class="button quiet" href=${`/api/export?${query}`} download>${t("export.fetch")}</a></div>`;
}
