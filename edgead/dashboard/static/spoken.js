// What a screen reader is told while nobody looks: a camera that changes its mind, not every part of the belt.

import { t } from "./i18n.js";
import * as live from "./live.js";
import { plateOf } from "./plate.js";
import { html, useRef } from "./vendor/htm-preact.js";

const PAUSE_MS = 5000; // between two announcements; what changed back meanwhile is not said

export function Announcer() {
  live.useLive();
  const said = useRef({ kinds: new Map(), at: -Infinity, text: "" });
  const { kinds, at } = said.current;
  if (performance.now() - at > PAUSE_MS) {
    const changed = live.all().map((camera) => ({ camera, plate: plateOf(camera) })).filter(({ camera, plate }) => kinds.get(camera.id) !== plate.kind + plate.word);
    if (changed.length) {
      const text = changed.map(({ camera, plate }) => t("spoken", { camera: camera.name, word: plate.word, line: plate.line })).join(" ");
      for (const { camera, plate } of changed) kinds.set(camera.id, plate.kind + plate.word);
      said.current = { kinds, at: performance.now(), text };
    }
  }
  return html`<p class="hidden" role="status" aria-live="polite" data-spoken>${said.current.text}</p>`;
}
