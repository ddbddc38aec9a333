// A month, and how many parts of each day were rejected.

import { get } from "./api.js";
import { useFetched } from "./bits.js";
import { language, number, t } from "./i18n.js";
import { html } from "./vendor/htm-preact.js";

const utc = (year, month, day = 1) => new Date(Date.UTC(year, month, day));

async function days(cameras, month, signal) {
  const sum = {};
  for (const answer of await Promise.all(cameras.map((camera) => get("/api/days", { camera, month }, { signal })))) {
    for (const [day, counts] of Object.entries(answer.days)) {
      sum[day] ||= { OK: 0, NG: 0, UNKNOWN: 0 };
      for (const verdict of Object.keys(sum[day])) sum[day][verdict] += counts[verdict] || 0;
    }
  }
  return sum;
}

/** Days are those of the records, UTC. */
export function Calendar({ cameras, month, day, onMonth, onDay }) {
  const [year, index] = [Number(month.slice(0, 4)), Number(month.slice(5)) - 1];
  const [found] = useFetched(cameras.length ? `${cameras} ${month}` : null, (signal) => days(cameras, month, signal));
  const name = utc(year, index).toLocaleDateString(language, { month: "long", year: "numeric", timeZone: "UTC" });
  const other = (by) => onMonth(utc(year, index + by).toISOString().slice(0, 7));
  const before = (utc(year, index).getUTCDay() + 6) % 7; // Monday first
  const length = utc(year, index + 1, 0).getUTCDate();
  const cells = [...Array(before).fill(null), ...Array.from({ length }, (_, i) => i + 1)];
  while (cells.length % 7) cells.push(null);
  const most = Math.max(1, ...Object.values(found || {}).map((counts) => counts.NG + counts.UNKNOWN));
  const weekdays = Array.from({ length: 7 }, (_, i) => utc(2024, 0, 1 + i)); // a Monday
  const cell = (n, i) => {
    if (n === null) return html`<td key=${i}></td>`;
    const key = `${month}-${String(n).padStart(2, "0")}`;
    const counts = found?.[key];
    const bad = counts ? counts.NG + counts.UNKNOWN : 0;
    const level = Math.ceil((3 * bad) / most);
    return html`<td key=${i}><button type="button" class=${`day level-${level}`} aria-pressed=${key === day} disabled=${!counts} onClick=${() => onDay(key)}>
      ${n}${counts && html`<small aria-hidden="true">${bad > 999 ? "1k+" : number(bad)}</small><span class="hidden">${t("calendar.day", { ng: counts.NG, unknown: counts.UNKNOWN, ok: counts.OK })}</span>`}</button></td>`;
  };
  return html`
    <div class="calendar">
      <div class="calendar-head">
        <button type="button" class="quiet" aria-label=${t("calendar.before")} onClick=${() => other(-1)}>${"‹"}</button>
        <h2>${name}</h2>
        <button type="button" class="quiet" aria-label=${t("calendar.after")} onClick=${() => other(1)}>${"›"}</button>
      </div>
      <table><thead><tr>${weekdays.map((date) => html`<th key=${date.getUTCDay()} scope="col"><abbr title=${date.toLocaleDateString(language, { weekday: "long", timeZone: "UTC" })}>
        ${date.toLocaleDateString(language, { weekday: "short", timeZone: "UTC" })}</abbr></th>`)}</tr></thead>
      <tbody>${Array.from({ length: cells.length / 7 }, (_, week) => html`<tr key=${week}>${cells.slice(7 * week, 7 * week + 7).map(cell)}</tr>`)}</tbody></table>
    </div>`;
}
