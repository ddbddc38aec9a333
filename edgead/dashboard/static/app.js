// The frame around the pages: where to go, who is there, whether what is shown is still true.

import { fetchSession, logout, may, serverNow, watchSession, who } from "./api.js";
import { Told, attempt } from "./bits.js";
import { LANGUAGES, ago, clock, language, preferred, speak, t } from "./i18n.js";
import * as live from "./live.js";
import { Health } from "./pages/health.js";
import { Line } from "./pages/line.js";
import { Login, People } from "./pages/people.js";
import { Recipes } from "./pages/recipes.js";
import { Review } from "./pages/review.js";
import { Threshold } from "./pages/threshold.js";
import { link, useRoute } from "./route.js";
import { Announcer } from "./spoken.js";
import { html, render, useEffect, useRef, useState } from "./vendor/htm-preact.js";

const PAGES = { line: Line, review: Review, threshold: Threshold, recipes: Recipes, health: Health, people: People };
const THEMES = ["auto", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");

const theme = () => (THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto");

function dress() {
  const chosen = theme();
  document.documentElement.dataset.theme = chosen === "auto" ? (dark.matches ? "dark" : "light") : chosen;
  window.dispatchEvent(new Event("theme"));
}

function Contact() {
  live.useLive();
  const stale = live.isStale();
  return html`
    <span class=${stale ? "contact lost" : "contact"} data-stale=${String(stale)}>
      <svg viewBox="0 0 12 12" aria-hidden="true">${stale ? html`<path d="M2 2l8 8M10 2l-8 8" />` : html`<circle cx="6" cy="6" r="5" />`}</svg>
      ${stale ? (Number.isFinite(live.contactAge()) ? t("contact.lost", { age: ago(live.contactAge() / 1000) }) : t("contact.none")) : t("contact.live")}
      <time>${clock(serverNow())}</time>
    </span>`;
}

function Header({ page, kiosk, repaint }) {
  const session = who();
  const pick = (event) => { localStorage.setItem("language", event.target.value); speak(event.target.value).then(repaint); };
  const nextTheme = () => { localStorage.setItem("theme", THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]); dress(); repaint(); };
  return html`
    <header class="top">
      <a class="brand" href="#/line"><img src="/static/icon.svg" alt="" width="32" height="32" />edgead</a>
      ${session.role && !kiosk && html`<nav aria-label=${t("nav")}>
        ${Object.keys(PAGES).map((name) => html`<a key=${name} href=${link(name)} aria-current=${name === page ? "page" : null}>${t(`page.${name}`)}</a>`)}
      </nav>`}
      <div class="top-end">
        ${session.role && html`<${Contact} />`}
        <label class="bare"><span class="hidden">${t("language")}</span>
          <select onChange=${pick}>${Object.entries(LANGUAGES).map(([key, name]) => html`<option key=${key} value=${key} lang=${key} selected=${key === language}>${name}</option>`)}</select></label>
        <button type="button" class="on-dark" onClick=${nextTheme}>${t(`theme.${theme()}`)}</button>
        ${session.login && (session.user
          ? html`<button type="button" class="on-dark" onClick=${() => attempt(logout)}>${t("logout")}</button>`
          : session.role && html`<a class="button on-dark" href="#/login">${t("login")}</a>`)}
      </div>
    </header>`;
}

function App() {
  const [, again] = useState(0);
  const repaint = () => again((n) => n + 1);
  const { page, query } = useRoute();
  const main = useRef();
  const session = who();
  useEffect(() => watchSession(repaint), []);
  useEffect(() => { live.start(); }, [session.role, session.user]);
  const kiosk = query.get("kiosk") === "1" || (session.kiosk && !session.user);
  const name = page in PAGES ? page : "line";
  const wantsLogin = !session.role || (page === "login" && session.login && !session.user);
  const Page = wantsLogin ? Login : kiosk ? Line : PAGES[name];
  const title = wantsLogin ? t("login") : t(`page.${kiosk ? "line" : name}`);
  document.title = `${title} · edgead`;
  const first = useRef(true);
  useEffect(() => {
    // A screen reader is told of the new page, as it would be by a link to another document.
    if (!first.current) main.current.focus({ preventScroll: true });
    first.current = false;
    scrollTo(0, 0);
  }, [title]);
  return html`
    <div class=${kiosk ? "app kiosk" : "app"}>
      <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>${t("skip")}</a>
      <${Header} page=${name} kiosk=${kiosk} repaint=${repaint} />
      <${Told} />
      <main ref=${main} id="main" tabindex="-1" class=${`page page-${wantsLogin ? "login" : name}`}>
        <h1 class="hidden">${title}</h1>
        <${Page} key=${`${name}${session.role}${language}`} query=${query} kiosk=${kiosk} role=${session.role} />
      </main>
      ${may("viewer") && html`<${Announcer} />`}
    </div>`;
}

async function begin() {
  dress();
  dark.addEventListener("change", dress);
  await speak(preferred());
  for (;;) {
    try {
      await fetchSession();
      break;
    } catch {
      const root = document.getElementById("app");
      render(html`<main class="page"><p class="failed" role="alert">${t("error.contact")} ${t("error.contact.hint")}</p></main>`, root);
      await new Promise((later) => setTimeout(later, 3000));
    }
  }
  render(html`<${App} />`, document.getElementById("app"));
}

begin();
