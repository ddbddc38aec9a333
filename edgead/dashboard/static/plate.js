// The verdict as it is read from three metres: word, colour and shape. What is old or unheard of never looks like a verdict.

import { serverNow } from "./api.js";
import { Shape, causeWords } from "./bits.js";
import { ago, number, t } from "./i18n.js";
import * as live from "./live.js";
import { html } from "./vendor/htm-preact.js";

const QUIET_S = 60; // no part for longer: the last verdict is history, not the state of the line

/** What a camera's plate says: {kind, word, line}; kind is OK, NG, UNKNOWN, quiet (nothing new) or gone (do not trust). */
export function plateOf(camera) {
  const age = ago(live.contactAge() / 1000);
  if (live.isStale()) return { kind: "gone", word: t("plate.stale"), line: Number.isFinite(live.contactAge()) ? t("plate.stale.since", { age }) : t("plate.stale.never") };
  if (camera.state === "unreachable" || camera.state === "stopped") return { kind: "gone", word: t(`plate.${camera.state}`), line: camera.fault || t(`plate.${camera.state}.hint`) };
  if (camera.state === "faulted") return { kind: "gone", word: t("plate.faulted"), line: camera.fault };
  if (camera.camera === "lost") return { kind: "gone", word: t("plate.lost"), line: t("plate.lost.hint") };
  if (camera.state === "starting") return { kind: "quiet", word: t("plate.starting"), line: "" };
  const part = camera.last;
  if (!part) return { kind: "quiet", word: t("plate.waiting"), line: camera.camera === "ended" ? t("plate.ended") : "" };
  const seconds = (serverNow() - Date.parse(part.time)) / 1000;
  const line = part.verdict === "OK" ? "" : causeWords(part.cause) || t("plate.score", { score: number(part.statistic ?? part.score), threshold: number(part.threshold) });
  if (Math.abs(seconds) > QUIET_S) // also of a time to come: the box's clock was set back
    return { kind: "quiet", verdict: part.verdict, word: t(`verdict.${part.verdict}`), line: camera.camera === "ended" ? t("plate.ended") : t("plate.no_part", { age: ago(seconds) }) };
  return { kind: part.verdict, verdict: part.verdict, word: t(`verdict.${part.verdict}`), line };
}

export function Plate({ camera }) {
  const { kind, verdict, word, line } = plateOf(camera);
  const part = camera.last;
  return html`
    <div class=${`plate plate-${kind}`} data-kind=${kind} data-part=${part?.part_id ?? ""}>
      ${part && kind !== "gone" && html`<span key=${live.stamp(part)} class="plate-tick"></span>`}
      <${Shape} verdict=${verdict || (kind === "gone" ? "NONE" : "")} />
      <strong class=${word.length > 4 ? "plate-word long" : "plate-word"}>${word}</strong>
      <span class=${line.length > 42 ? "plate-line long" : "plate-line"}>${line}</span>
      <span class="plate-part">${part && t("plate.part", { id: String(part.part_id) })}</span>
    </div>`;
}
