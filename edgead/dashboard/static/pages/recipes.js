// Recipes: what runs, changing it, and what a shadow would have said.

import { get, may, post } from "../api.js";
import { CameraChoice, Dialog, Empty, Failed, Figure, Mark, Needs, Panel, attempt, tell, useCamera, useFetched } from "../bits.js";
import { number, t } from "../i18n.js";
import { set } from "../route.js";
import { html, useState } from "../vendor/htm-preact.js";

function Shadow({ shadow }) {
  if (!shadow) return html`<${Panel} title=${t("shadow")}><${Empty}>${t("shadow.none")}<//><//>`;
  const flips = Object.entries(shadow.flips || {}).filter(([flip]) => new Set(flip.split(">")).size > 1);
  return html`
    <${Panel} title=${t("shadow")}>
      <p>${t("shadow.what", { bundle: shadow.bundle })}</p>
      <dl class="figures">
        <${Figure} name=${t("shadow.parts")} value=${number(shadow.parts)} />
        ${Object.entries(shadow.then || {}).map(([verdict, n]) => html`<${Figure} key=${verdict} name=${t("shadow.then", { verdict: t(`verdict.${verdict}`) })} value=${number(n)} kind=${`is-${verdict}`} />`)}
        ${Object.entries(shadow.latency_ms || {}).map(([name, ms]) => html`<${Figure} key=${name} name=${name} value=${number(ms, 2)} unit="ms" />`)}
      </dl>
      <h3>${t("shadow.flips")}</h3>
      ${flips.length ? html`<table class="flips"><thead class="hidden"><tr><th>${t("shadow.line")}</th><th>${t("shadow")}</th><th>${t("parts")}</th></tr></thead>
        <tbody>${flips.map(([flip, n]) => html`<tr key=${flip}>
          ${flip.split(">").map((verdict, i) => html`<td key=${i}>${i === 1 && html`<span aria-hidden="true">${"→ "}</span>`}<${Mark} verdict=${verdict} /></td>`)}
          <td class="num">${number(n)}</td></tr>`)}</tbody></table>`
      : html`<p>${t("shadow.agree")}</p>`}
    <//>`;
}

function RecipesOf({ camera }) {
  const [asked, ask] = useState(null);
  const [found, error, again] = useFetched(`${camera.recipe} ${camera.digest}`, (signal) => get("/api/recipes", { camera: camera.id }, { signal }));
  const change = async () => {
    const done = await attempt(() => post("/api/recipe", { camera: camera.id, recipe: asked.number }));
    if (done) tell(t("recipe.asked", { n: asked.number }));
    ask(null);
    again();
  };
  return html`
    <${Failed} error=${error} />
    <div class="columns">
      <${Panel} title=${t("recipe.runs")}>
        <dl class="pairs">
          <dt>${t("bundle")}</dt><dd>${camera.bundle}</dd>
          <dt>${t("digest")}</dt><dd class="mono">${camera.digest}</dd>
          <dt>${t("engine")}</dt><dd>${camera.engine}</dd>
          <dt>${t("rule")}</dt><dd>${camera.rule}</dd>
          <dt>${t("recipe")}</dt><dd>${camera.recipe ?? t("recipe.one")}</dd>
        </dl>
      <//>
      ${found && html`
        <${Panel} title=${t("page.recipes")}>
          ${found.recipes.length ? html`
            <table><thead><tr><th>${t("recipe")}</th><th>${t("recipe.name")}</th><th>${t("bundle")}</th><th><span class="hidden">${t("recipe.change")}</span></th></tr></thead>
              <tbody>${found.recipes.map((one) => html`<tr key=${one.number} class=${one.number === found.current ? "is-current" : ""}>
                <th scope="row">${one.number}</th><td>${one.name}</td><td>${one.bundle}<br /><span class="mono fine">${(one.digest || "").slice(0, 12)}</span></td>
                <td>${one.number === found.current ? html`<span class="tag">${t("recipe.current")}</span>`
                  : may("operator") && found.changeable && html`<button type="button" onClick=${() => ask(one)}>${t("recipe.change")}</button>`}</td></tr>`)}</tbody></table>`
          : html`<${Empty}>${t("recipe.one.long")}<//>`}
          ${!found.changeable && found.why_not && html`<p class="needs">${found.why_not}</p>`}
          ${found.changeable && html`<${Needs} role="operator" />`}
        <//>
        <${Shadow} shadow=${found.shadow} />`}
    </div>
    ${asked && html`<${Dialog} title=${t("recipe.change")} onClose=${() => ask(null)}>
      <p>${t("recipe.confirm", { camera: camera.id, n: asked.number, name: asked.name || asked.bundle })}</p>
      <div class="buttons"><button type="button" class="main" onClick=${change}>${t("recipe.change")}</button><button type="button" onClick=${() => ask(null)}>${t("cancel")}</button></div>
    <//>`}`;
}

export function Recipes({ query }) {
  const camera = useCamera(query);
  if (!camera) return html`<${Empty}>${t("line.none")}<//>`;
  return html`
    <div class="bar-of-tools"><${CameraChoice} camera=${camera} onPick=${(id) => set({ camera: id })} /></div>
    <${RecipesOf} key=${camera.id} camera=${camera} />`;
}
