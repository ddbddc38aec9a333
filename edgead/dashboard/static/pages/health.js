// Health: does everything that watches itself say yes, and the proof on paper.

import { get, inPath } from "../api.js";
import { Empty, Failed, Panel, useFetched } from "../bits.js";
import { named, number, t } from "../i18n.js";
import * as live from "../live.js";
import { html, useEffect } from "../vendor/htm-preact.js";

const AGAIN_MS = 10000;

/** Whatever the server knows of versions, disk, queues: names and values, nested as they come. */
function Facts({ facts }) {
  const rows = Object.entries(facts || {});
  if (!rows.length) return "–";
  const shown = (value) => (typeof value === "number" ? number(value) : value === true ? t("yes") : value === false ? t("no") : value === null ? "–" : String(value));
  return html`<dl class="pairs">${rows.map(([name, value]) => html`
    <dt key=${name}>${named("fact", name)}</dt><dd>${value !== null && typeof value === "object" ? html`<${Facts} facts=${value} />` : shown(value)}</dd>`)}</dl>`;
}

function Checks({ checks }) {
  const bad = checks.filter((check) => !check.ok).length;
  return html`
    <${Panel} title=${t("checks")} kind="wide">
      <p class=${bad ? "sum bad" : "sum"} role="status"><strong>${bad ? t("checks.bad", { n: bad }) : t("checks.good", { n: checks.length })}</strong></p>
      <div class="scroll" tabindex="0" role="region" aria-label=${t("checks")}><table>
        <thead><tr><th>${t("state")}</th><th>${t("camera")}</th><th>${t("check")}</th><th>${t("check.words")}</th></tr></thead>
        <tbody>${[...checks].sort((a, b) => a.ok - b.ok).map((check, i) => html`<tr key=${i} class=${check.ok ? "" : "is-bad"}>
          <td><span class=${check.ok ? "tag good" : "tag bad"}>${check.ok ? t("check.ok") : t("check.bad")}</span></td>
          <td>${check.camera}</td><th scope="row">${named("check", check.name)}</th><td>${check.words}</td></tr>`)}</tbody>
      </table></div>
    <//>`;
}

export function Health() {
  live.useLive();
  const [found, error, again] = useFetched("health", (signal) => get("/api/health", {}, { signal }));
  useEffect(() => { const timer = setInterval(again, AGAIN_MS); return () => clearInterval(timer); }, []);
  const cameras = live.all();
  return html`
    <${Failed} error=${error} />
    ${found && (found.checks.length ? html`<${Checks} checks=${found.checks} />` : html`<${Panel} title=${t("checks")}><${Empty}>${t("checks.none")}<//><//>`)}
    <div class="flow">
      <${Panel} title=${t("proof")}>
        <p>${t("proof.what")}</p>
        <ul class="links">${cameras.map((camera) => html`<li key=${camera.id}><a href=${`/proof/${inPath(camera.id)}`} target="_blank" rel="noopener">${t("proof.of", { camera: camera.id })}</a></li>`)}</ul>
      <//>
      ${cameras.map((camera) => html`<${Panel} key=${camera.id} title=${camera.id}>
        <${Facts} facts=${{ state: named("line", camera.state), fault: camera.fault || "–", camera: named("camera", camera.camera), bundle: camera.bundle, digest: camera.digest,
          engine: camera.engine, queues: camera.queues, devices: camera.devices, disk: camera.disk }} /><//>`)}
      ${found && html`<${Panel} title=${t("versions")}><${Facts} facts=${found.versions} /><//>
        ${found.disk && typeof found.disk === "object" && html`<${Panel} title=${t("state.disk")}><${Facts} facts=${found.disk} /><//>`}`}
    </div>`;
}
