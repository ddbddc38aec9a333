// One way to ask the server. Every refusal has an `error` and a `hint`, both for people.

export class Refused extends Error {
  constructor(status, error, hint) {
    super(error);
    this.status = status;
    this.hint = hint || "";
  }
}

let session = { user: "", role: "", kiosk: false, csrf: "", login: false, version: "" };
let skew = 0; // ms that the server's clock is ahead of this browser's
const watchers = new Set();

export const who = () => session;

/** Call `seen` with each change of the session; returns how to stop. */
export function watchSession(seen) {
  watchers.add(seen);
  return () => watchers.delete(seen);
}

function is(next) {
  if (JSON.stringify(next) === JSON.stringify(session)) return;
  session = next;
  for (const seen of watchers) seen(session);
}

const RANK = ["", "viewer", "operator", "engineer"];

/** May the person at this browser do what this role may? */
export const may = (role) => RANK.indexOf(session.role) >= RANK.indexOf(role);

/** Now, by the server's clock: a tablet's own may be wrong. */
export const serverNow = () => Date.now() + skew;

/** `STATION/CAMERA` as it stands in paths. */
export const inPath = (id) => id.split("/").map(encodeURIComponent).join("/");

function address(path, query) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query || {})) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== "" && one !== null && one !== undefined) search.append(name, one);
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

async function ask(path, options) {
  const answer = await fetch(path, { credentials: "same-origin", ...options });
  const date = Date.parse(answer.headers.get("Date"));
  // The header knows whole seconds only, and a cached answer an old one: small differences are none.
  if (Number.isFinite(date)) skew = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  if (answer.ok) return answer;
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // not from the dashboard (a proxy's page): the status says enough
  }
  if (answer.status === 401 && session.role && path !== "/api/login") is({ ...session, user: "", role: "" });
  throw new Refused(answer.status, told.error || `HTTP ${answer.status}`, told.hint);
}

export async function get(path, query, options) {
  return (await ask(address(path, query), options)).json();
}

/** A picture and the part that it is of, or null when there is none (yet). */
export async function picture(path, query) {
  try {
    const answer = await ask(address(path, query), { cache: "no-store" });
    return { blob: await answer.blob(), part: answer.headers.get("X-Part") };
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-CSRF": session.csrf };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body || {}) })).json();
}

export async function fetchSession() {
  is(await get("/api/session"));
}

export async function login(given) {
  await post("/api/login", given);
  await fetchSession();
}

export async function logout() {
  await post("/api/logout");
  await fetchSession();
}
