// Texts of one language, lang/LANGUAGE.json; numbers and times as that language writes them. The page that shows them is app.js.

export const LANGUAGES = { en: "English", de: "Deutsch" };

let texts = {};
export let language = "en";

/** The language that was chosen here before, else the browser's, else English. */
export function preferred() {
  const chosen = localStorage.getItem("language") || navigator.language.slice(0, 2);
  return chosen in LANGUAGES ? chosen : "en";
}

/** Fetch a language's texts; from then on `t` answers in it. */
export async function speak(name) {
  const answer = await fetch(new URL(`lang/${name}.json`, import.meta.url));
  if (!answer.ok) throw new Error(`lang/${name}.json: ${answer.status}`);
  texts = await answer.json();
  language = name;
  document.documentElement.lang = name;
}

/** The text of a key, `{name}` filled in; for n = 1 that of `KEY.one` where there is one. A key without a text is shown as it is. */
export function t(key, values = {}) {
  const text = (values.n === 1 && texts[`${key}.one`]) || texts[key] || key;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : String(value ?? "");
  });
}

/** The text of `PREFIX.NAME` where this language has one, else the name itself: causes and states that are newer than this page. */
export const named = (prefix, name) => texts[`${prefix}.${name}`] || name;

/** A whole or small number; a dash for none. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const format = Number.isInteger(value) ? {} : Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits + 1 };
  return new Intl.NumberFormat(language, format).format(value);
}

/** A share 0..1 as per cent. */
export function share(value) {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: value > 0.99 && value < 1 ? 2 : 1 }).format(value);
}

/** Time of day of an ISO 8601 text or a Date, in the browser's time zone. */
export const clock = (when) => new Date(when).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** Day and time of an ISO 8601 text. */
export const moment = (when) => new Date(when).toLocaleString(language, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

/** "12 s", "3 min", "2 h", "4 d": how long ago. */
export function ago(seconds) {
  if (seconds < 90) return t("age.seconds", { n: Math.max(0, Math.round(seconds)) });
  if (seconds < 5400) return t("age.minutes", { n: Math.round(seconds / 60) });
  if (seconds < 129600) return t("age.hours", { n: Math.round(seconds / 3600) });
  return t("age.days", { n: Math.round(seconds / 86400) });
}
