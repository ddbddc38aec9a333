// What the line does now: events as they come, the whole state every few seconds, and when we last heard anything at all.

import { fetchSession, get, who } from "./api.js";
import { useEffect, useState } from "./vendor/htm-preact.js";

const POLL_MS = 4000;
export const STALE_MS = 10000; // no news for longer: what is shown may be wrong
const KEPT = 240; // parts of each camera in the score strip

const cameras = new Map(); // id -> CAMERA
const strips = new Map(); // id -> PARTs, oldest first
const watchers = new Set();
let order = [];
let heard = -Infinity; // performance.now() of the last news
let source = null;
let painting = 0;
let polling = 0;

export const contactAge = () => performance.now() - heard;
export const isStale = () => contactAge() > STALE_MS;
export const all = () => order.map((id) => cameras.get(id));
export const camera = (id) => cameras.get(id);
export const strip = (id) => strips.get(id) || [];

function changed(part) {
  for (const watcher of watchers) if (watcher.part && part) watcher.part(part);
  // Many events in one frame are painted once.
  painting ||= requestAnimationFrame(() => {
    painting = 0;
    for (const watcher of watchers) watcher.paint?.();
  });
}

function watch(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

const AGAIN_MS = 5000; // a smaller number that is so much later: the station began to count again

/** Is this another part, and a later one? Its state and its record tell the same part's time a little differently. */
const isNewer = (part, than) => part.part_id > than.part_id || (part.part_id < than.part_id && Date.parse(part.time) - Date.parse(than.time) > AGAIN_MS);

/** What tells a part from the one before. */
export const stamp = (part) => (part ? String(part.part_id) : "");

function took(part) {
  const parts = strips.get(part.id) || [];
  const newest = parts.at(-1);
  if (newest && !isNewer(part, newest)) { // told again: its pictures are saved by now
    strips.set(part.id, parts.map((one) => (one.part_id === part.part_id ? part : one)));
    changed(part);
    return;
  }
  strips.set(part.id, [...parts, part].slice(-KEPT));
  const known = cameras.get(part.id);
  // Records come a moment after the state that told of the same part, with its number.
  if (known && !(known.last && isNewer(known.last, part))) cameras.set(part.id, { ...known, last: part });
  heard = performance.now();
  changed(part);
}

function takeCamera(told) {
  const known = cameras.get(told.id);
  const next = { ...known, ...told };
  // A state that was written before the newest part does not take that part back.
  if (known?.last && (!next.last || !isNewer(next.last, known.last))) next.last = known.last;
  cameras.set(told.id, next);
  if (!order.includes(told.id)) order = [...order, told.id];
}

async function fill(id) {
  const found = await get("/api/parts", { camera: id, limit: KEPT, verdict: "OK,NG,UNKNOWN" });
  const seen = [...found.parts].sort((a, b) => a.seq - b.seq);
  const newer = strip(id).filter((part) => !seen.length || isNewer(part, seen.at(-1)));
  strips.set(id, [...seen, ...newer].slice(-KEPT));
  changed();
}

async function poll() {
  try {
    const told = await get("/api/line", {}, { signal: AbortSignal.timeout(POLL_MS) });
    order = told.stations.flatMap((station) => station.cameras.map((one) => one.id));
    for (const one of told.stations.flatMap((station) => station.cameras)) {
      takeCamera(one);
      if (!strips.has(one.id)) {
        strips.set(one.id, []);
        fill(one.id).catch(() => strips.delete(one.id)); // asked again with the next poll
      }
    }
    for (const id of cameras.keys()) if (!order.includes(id)) cameras.delete(id);
    heard = performance.now();
    await fetchSession(); // a login may be over, or its role another one
  } catch {
    // No answer: `heard` grows old, and the screen says so.
  }
  changed();
}

function listen() {
  source?.close();
  source = new EventSource("/api/events");
  source.addEventListener("hello", () => { heard = performance.now(); });
  source.addEventListener("part", (event) => took(JSON.parse(event.data)));
  source.addEventListener("line", (event) => {
    takeCamera(JSON.parse(event.data));
    heard = performance.now();
    changed();
  });
}

/** Begin to listen; again after a login. */
export function start() {
  clearInterval(polling);
  if (!who().role) return source?.close();
  listen();
  polling = setInterval(() => {
    if (source.readyState === EventSource.CLOSED) listen(); // refused once: the browser does not try again by itself
    poll();
  }, POLL_MS);
  return poll();
}

/** Paint this component again whenever the line's state changes, and every second as things grow old. */
export function useLive() {
  const [, again] = useState(0);
  useEffect(() => {
    const paint = () => again((n) => n + 1);
    const stop = watch({ paint });
    const timer = setInterval(paint, 1000);
    return () => { stop(); clearInterval(timer); };
  }, []);
}

/** Call `seen` with each new part. */
export function usePart(seen) {
  useEffect(() => watch({ part: seen }), [seen]);
}
