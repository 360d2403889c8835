// Kinds of events and of spans: a shape, a word and a colour each.
import { text } from "../lib/fmt.js";

/** The gravest first: where several fall together, the first one's shape stands for all. */
export const KINDS = {
  stop: { word: "stop", cls: "failed", path: "M0 4.5 4.5-3.5H-4.5Z" },
  refusal: { word: "refusal", cls: "failed", path: "M-4-2.4-2.4-4 0-1.6 2.4-4 4-2.4 1.6 0 4 2.4 2.4 4 0 1.6-2.4 4-4 2.4-1.6 0Z" },
  stall: { word: "stall", cls: "disk", path: "M-4-4h3v8h-3zM1-4h3v8h-3z" },
  quorum: { word: "quorum", cls: "failed", path: "M-4.5-1.6h9v3.2h-9z" },
  verdict: { word: "verdict on a node", cls: "net", path: "M0-5 5 0 0 5-5 0Z" },
  election: { word: "election", cls: "fire", path: "M0-5 5 0 0 5-5 0ZM0-2.2-2.2 0 0 2.2 2.2 0Z" },
  steps_down: { word: "steps down", cls: "story", path: "M-4 0a4 4 0 1 1 8 0 4 4 0 1 1-8 0ZM-2.2 0a2.2 2.2 0 1 0 4.4 0 2.2 2.2 0 1 0-4.4 0Z" },
  leads: { word: "leads", cls: "story", path: "M-4 0a4 4 0 1 1 8 0 4 4 0 1 1-8 0Z" },
  hand_over: { word: "hand-over", cls: "story", path: "M-5.5 0-1-4V4ZM5.5 0 1-4V4Z" },
  move: { word: "move", cls: "net", path: "M-5-2H0V-4.5L5 0 0 4.5V2H-5Z" },
  replica: { word: "replica", cls: "story", path: "M-3.5-3.5h7v7h-7zM-1.5-1.5v3h3v-3z" },
  snapshot: { word: "snapshot", cls: "time", path: "M-3.5-3.5h7v7h-7z" },
  drain: { word: "drain", cls: "story", path: "M-4 0a4 4 0 0 1 8 0ZM-4 1.5h8v1.5h-8z" },
  clock: { word: "clock", cls: "fire", path: "M-4-4.5h8L1 0 4 4.5h-8L-1 0Z" },
  start: { word: "start", cls: "heldfill", path: "M0-4.5 4.5 3.5H-4.5Z" },
  config: { word: "configuration", cls: "time", path: "M-1.4-4.5h2.8v3.1h3.1v2.8h-3.1v3.1h-2.8v-3.1h-3.1v-2.8h3.1z" },
};
const ORDER = Object.keys(KINDS);
const OTHER = { word: "other", cls: "story", path: "M-2-2h4v4h-4z" };

export const kindOf = (event) => KINDS[event?.kind] ?? { ...OTHER, word: text(event?.kind, "other").replaceAll("_", " ") };

export function gravest(events) {
  const rank = (event) => {
    const at = ORDER.indexOf(event.kind);
    return at < 0 ? ORDER.length : at;
  };
  return events.reduce((worst, event) => (rank(event) < rank(worst) ? event : worst));
}

export function Glyph({ kind }) {
  const { cls, path } = kindOf({ kind });
  return (
    <svg class="glyph" width="12" height="12" viewBox="-6 -6 12 12" aria-hidden="true">
      <path class={cls} d={path} fill-rule="evenodd" />
    </svg>
  );
}

export const SPANS = {
  up: { word: "up", cls: "up" },
  draining: { word: "drained", cls: "draining" },
  alone: { word: "alone", cls: "alone" },
  stalled: { word: "stood still", cls: "stalled" },
  down: { word: "down", cls: "nobody" },
  silent: { word: "no answer", cls: "nobody" },
};
