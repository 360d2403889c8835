// Small things that every page is made of.
import { useRef, useState } from "preact/hooks";
import { colour, letter, pattern } from "../lib/places.js";
import { DASH, num, span, text } from "../lib/fmt.js";
import { nodeNow, now, tick } from "../lib/net.js";

export function Section({ title, more, children, cls = "", id }) {
  return (
    <section class={cls} id={id} aria-label={typeof title === "string" ? title : undefined}>
      <div class="title">
        <h2>{title}</h2>
        {more}
      </div>
      {children}
    </section>
  );
}

export const Empty = ({ children }) => <p class="empty">{children}</p>;

/** What an answer could not tell, and its age where it is not of now. */
export function Told({ answer, freshMs = 15_000 }) {
  const { body, error, perf } = answer;
  const old = perf === undefined ? 0 : Math.max(0, tick.value - perf);
  const by = text(body?.seen_by?.node);
  return (
    <>
      {error && (
        <p class="wrong">
          <i aria-hidden="true">▲</i> {error}
        </p>
      )}
      {body && (old > freshMs || (by && by !== now.value?.seen_by?.node)) && (
        <p class="told">
          Below: as told by {by || "a node"}, {span(old + (num(body.seen_by?.age_ms) ?? 0))} ago.
        </p>
      )}
      {!body && !error && <p class="empty">Asking…</p>}
    </>
  );
}

/** A data center's letter on its colour. */
export function Letter({ dc }) {
  return (
    <i class={`letter ${colour(dc)} on-${colour(dc)} pat${pattern(dc)}`} aria-hidden="true">
      {letter(dc)}
    </i>
  );
}

export const Dc = ({ dc }) => (
  <span class="dc">
    <Letter dc={dc} /> {text(dc, "no data center")}
  </span>
);

/** A figure of the first row. `cls` is held, pending or failed, with its sign. */
const SIGNS = { held: "✓", pending: "▲", failed: "✗" };

export function Figure({ name, value, below, cls = "", children }) {
  return (
    <div class={`figure ${cls}`}>
      <h2>{name}</h2>
      <p>
        {SIGNS[cls] && cls !== "held" && <i aria-hidden="true">{SIGNS[cls]}</i>}
        {value}
      </p>
      <small>{below}</small>
      {children}
    </div>
  );
}

/** A line of the newest values, drawn without an axis: whether now is as before. */
export function Spark({ values: told, cls, label, log = false }) {
  const values = log ? told.map((value) => (value > 0 ? Math.log10(1 + value) : null)) : told;
  const known = values.filter((value) => num(value) !== null);
  if (known.length < 2) return null;
  const most = Math.max(...known, 1e-9);
  const step = 100 / (values.length - 1);
  let pen = "M";
  const path = values.map((value, at) => {
    if (num(value) === null) {
      pen = "M";
      return "";
    }
    const part = `${pen}${(at * step).toFixed(2)} ${(20 - (value / most) * 18).toFixed(1)}`;
    pen = "L";
    return part;
  });
  return (
    <svg class={`spark ${cls}`} viewBox="0 0 100 20" preserveAspectRatio="none" role="img" aria-label={label}>
      <path d={path.join("")} />
    </svg>
  );
}

/** Copies without the clipboard of secure pages too: nodes speak plain HTTP. */
async function copied(words, element) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}

export function Command({ words }) {
  const code = useRef(null);
  const [said, setSaid] = useState("copy");
  const copy = async () => {
    setSaid((await copied(words, code.current)) ? "copied" : "marked: Ctrl+C");
    setTimeout(() => setSaid("copy"), 1500);
  };
  return (
    <span class="command">
      <code ref={code}>{words}</code>
      <button type="button" onClick={copy} aria-label={`Copy the command ${words}`}>
        {said}
      </button>
    </span>
  );
}

/** A share of 100, drawn and in words. */
export function Share({ value, cls = "", label }) {
  const n = num(value);
  return (
    <span class={`share ${cls}`}>
      <span class="track" aria-hidden="true">
        <span style={{ width: `${Math.min(100, Math.max(0, n ?? 0))}%` }} />
      </span>
      <span class="n">{label ?? (n === null ? DASH : `${Math.round(n)} %`)}</span>
    </span>
  );
}

/** How a node stands: a shape and a word. */
export function nodeState(node) {
  if (node.silent || node.reachable === false) {
    const since = num(node.gone_ms) ?? (num(node.last_seen_ms) && nodeNow() ? nodeNow() - node.last_seen_ms : null);
    return { cls: "failed", sign: "✗", word: since === null ? "silent" : `silent for ${span(since)}`, short: "silent" };
  }
  // A drained node sends its clients elsewhere, as it was told to.
  if (node.draining && !node.leaving && !text(node.problem)) return { cls: "pending", sign: "◐", word: "drained" };
  if (node.health && node.health.ok === false) return { cls: "failed", sign: "✗", word: "cannot append" };
  if (text(node.problem)) return { cls: "pending", sign: "▲", word: "has a problem" };
  if (node.leaving) return { cls: "pending", sign: "◐", word: "leaving" };
  if (node.reachable !== true) return { cls: "pending", sign: "?", word: "not known" };
  return { cls: "held", sign: "●", word: "alive" };
}

export function NodeState({ node }) {
  const { cls, sign, word } = nodeState(node);
  return (
    <span class={`mark ${cls}`}>
      <i aria-hidden="true">{sign}</i> {word}
    </span>
  );
}

export function Mark({ cls, sign, children }) {
  return (
    <span class={`mark ${cls}`}>
      <i aria-hidden="true">{sign}</i> {children}
    </span>
  );
}
