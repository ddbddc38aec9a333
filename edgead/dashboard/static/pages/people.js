// Who is there: logging in, what each role may, and what was changed by whom.

import { get, login, logout, may, who } from "../api.js";
import { Empty, Failed, Panel, attempt, useFetched } from "../bits.js";
import { moment, named, number, t } from "../i18n.js";
import { html, useState } from "../vendor/htm-preact.js";

export function Login() {
  const [way, choose] = useState("password");
  const [wrong, say] = useState(null);
  const [busy, work] = useState(false);
  const enter = async (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    work(true);
    try {
      await login(way === "password" ? { name: given.get("name"), password: given.get("password") } : { token: given.get("token").trim() });
      if (location.hash.startsWith("#/login")) location.hash = "#/line";
    } catch (error) {
      say(error);
    }
    work(false);
  };
  return html`
    <form class="panel login" onSubmit=${enter} aria-label=${t("login")}>
      <header class="panel-head"><h2>${t("login")}</h2></header>
      ${way === "password" ? html`
        <label class="field"><span>${t("login.name")}</span><input name="name" autocomplete="username" required autofocus /></label>
        <label class="field"><span>${t("login.password")}</span><input name="password" type="password" autocomplete="current-password" required /></label>`
      : html`<label class="field"><span>${t("login.token")}</span><input name="token" type="password" autocomplete="off" required autofocus /></label>`}
      <${Failed} error=${wrong} />
      <div class="buttons"><button type="submit" class="main" disabled=${busy}>${t("login")}</button>
        <button type="button" class="quiet" onClick=${() => choose(way === "password" ? "token" : "password")}>${t(way === "password" ? "login.by_token" : "login.by_password")}</button></div>
    </form>`;
}

function Audit() {
  const [rows, error] = useFetched("audit", (signal) => get("/api/audit", { limit: 200 }, { signal }));
  const text = (value) => (typeof value === "number" ? number(value) : value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : named("label", value));
  return html`
    <${Panel} title=${t("audit")} kind="wide">
      <${Failed} error=${error} />
      ${rows && !rows.length && html`<${Empty}>${t("audit.none")}<//>`}
      ${rows?.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label=${t("audit")}><table>
        <thead><tr>${["when", "who", "role", "what", "camera", "old", "new"].map((name) => html`<th key=${name}>${t(`audit.${name}`)}</th>`)}</tr></thead>
        <tbody>${rows.map((row, i) => html`<tr key=${i}><td>${moment(row.when)}</td><td>${row.who}</td><td>${named("role", row.role)}</td>
          <td>${named("what", row.what)}</td><td>${row.camera}</td><td>${text(row.old)}</td><td>${text(row.new)}</td></tr>`)}</tbody>
      </table></div>`}
    <//>`;
}

export function People() {
  const session = who();
  return html`
    <div class="columns">
      <${Panel} title=${t("people.you")}>
        <p class="you"><strong>${session.user || t("people.nobody")}</strong> <span class="tag">${named("role", session.role)}</span></p>
        ${!session.login && html`<p>${t("people.no_users")}</p>`}
        <div class="buttons">${session.login && (session.user
          ? html`<button type="button" onClick=${() => attempt(logout)}>${t("logout")}</button>`
          : html`<a class="button main" href="#/login">${t("login")}</a>`)}</div>
        <p class="fine">${t("version", { version: session.version })}</p>
      <//>
      <${Panel} title=${t("people.roles")}>
        <table class="roles"><tbody>${["viewer", "operator", "engineer"].map((role) => html`<tr key=${role} class=${role === session.role ? "is-you" : ""}>
          <th scope="row">${named("role", role)}</th><td>${t(`people.${role}`)}</td></tr>`)}</tbody></table>
        <p class="fine">${t("people.how")}</p>
      <//>
      ${may("engineer") && html`<${Audit} />`}
    </div>`;
}
