// `#/review?camera=...`: which page, and what it shows. A link, the back button and a reload keep it.

import { useEffect, useState } from "./vendor/htm-preact.js";

export function here() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { page: path || "line", query: new URLSearchParams(query || "") };
}

export function link(page, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== "" && value !== null && value !== undefined) search.set(name, value);
  const text = search.toString();
  return `#/${page}${text ? `?${text}` : ""}`;
}

/** The same page with some of its settings changed; with `replace` the back button skips the former ones. */
export function set(changes, { replace = true } = {}) {
  const { page, query } = here();
  const next = link(page, { ...Object.fromEntries(query), ...changes });
  if (replace) {
    history.replaceState(null, "", next);
    window.dispatchEvent(new Event("hashchange"));
  } else location.hash = next;
}

export function useRoute() {
  const [route, turn] = useState(here());
  useEffect(() => {
    const seen = () => turn(here());
    window.addEventListener("hashchange", seen);
    return () => window.removeEventListener("hashchange", seen);
  }, []);
  return route;
}
