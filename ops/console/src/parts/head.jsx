// What stands first on every page: how things are, who says so, and how old that is.
import { age, forget, here, known, lookFrom, nodeNow, notices, now, silence, tick } from "../lib/net.js";
import { counted, list, moment, num, span, text } from "../lib/fmt.js";
import { recall } from "../lib/memory.js";
import { choose, zone, zones } from "../lib/zone.js";

const STANDS = {
  whole: { cls: "held", sign: "✓", word: "Serving" },
  degraded: { cls: "missed", sign: "▲", word: "Degraded, but serving" },
  not_serving: { cls: "failed", sign: "✗", word: "Not serving" },
};

/** Class, shape and word of how things are. */
export function verdictOf(body, silent) {
  if (silent) return { cls: "failed", sign: "?", word: "Nobody answers" };
  if (!body) return { cls: "asking", sign: "…", word: "Asking" };
  if (body.forming) return { cls: "missed", sign: "◌", word: "Forming" };
  const key = text(body.verdict).replaceAll("-", "_");
  return STANDS[key] ?? { cls: "missed", sign: "?", word: "Not known" };
}

/** Below this what is shown is as new as it gets. */
const OLD_MS = 6000;

export function Verdict() {
  const body = now.value;
  const { cls, sign, word } = verdictOf(body, silence.value);
  const sentence = withoutWord(text(body?.sentence));
  return (
    <header class={`top ${cls}`}>
      <div class="verdict">
        <div class="words" role="status">
          <b>
            <i aria-hidden="true">{sign}</i> {word}
          </b>{" "}
          <span>{silence.value ? <Unanswered sentence={text(body?.sentence)} /> : sentence}</span>
        </div>
        <View />
      </div>
    </header>
  );
}

/** The sentence without a first word that stands beside the shape already. */
function withoutWord(sentence) {
  const rest = sentence.replace(/^(serving|whole|degraded(, but serving)?|not serving)[:.]\s*/i, "");
  return rest.charAt(0).toUpperCase() + rest.slice(1);
}

function Unanswered({ sentence }) {
  const asked = silence.value.asked;
  return (
    <>
      {asked > 1 ? `None of ${asked} nodes answers` : "This node does not answer"} this page. It keeps asking.
      {sentence ? " What you see below is the last word:" : ""} {sentence && <q>{sentence}</q>}
    </>
  );
}

function View() {
  const seen = now.value?.seen_by;
  if (!seen) return <p class="view">{silence.value ? text(silence.value.why) : "Nobody has told anything yet."}</p>;
  const [answered, all] = [num(seen.answered), num(seen.nodes)];
  const old = silence.value || age.value > OLD_MS;
  const few = answered !== null && answered < all;
  return (
    <p class="view">
      As seen by <b>{text(seen.node, "an unnamed node")}</b>,{" "}
      <b class={old ? "old" : ""}>
        {old && "▲ "}
        {Math.abs(age.value) < 1000 ? `${(age.value / 1000).toFixed(1)} s` : span(age.value)} ago
      </b>
      {all !== null && (
        <>
          ; <span class={few ? "few" : ""}>{silence.value ? `${answered ?? "–"} of ${all} answered then` : `${answered ?? "–"} of ${all} answer`}</span>
        </>
      )}
      <Clock />
    </p>
  );
}

/** The time by the node's clock: the one that events below carry. */
function Clock() {
  return tick.value && nodeNow() !== null ? <span class="clock"> · {moment(nodeNow())}</span> : null;
}

export function Nav({ pages, current }) {
  return (
    <nav class="pages" aria-label="Pages">
      {pages.map(({ key, name }) => (
        <a key={key} href={`#/${key}`} aria-current={key === current ? "page" : undefined}>
          {name}
        </a>
      ))}
    </nav>
  );
}

export function Notices() {
  return (
    <div class="notices" role="status">
      {notices.value.map(({ key, words, at_ms }) => (
        <p class="notice" key={key}>
          <i aria-hidden="true">⇄</i> <span>{words}</span> <small>{moment(at_ms)}</small>
          <button type="button" onClick={() => forget(key)}>
            dismiss
          </button>
        </p>
      ))}
    </div>
  );
}

export function Foot() {
  const chosen = zones[recall("zone")] ? recall("zone") : "utc";
  const body = now.value;
  return (
    <footer>
      <label>
        Look from{" "}
        <select value={here.value.name ?? ""} onChange={(event) => lookFrom(event.currentTarget.value)}>
          {!known.value.some(({ name }) => name === here.value.name) && (
            <option value={here.value.name ?? ""}>{here.value.name ?? "this node"}</option>
          )}
          {known.value.map(({ name, reachable }) => (
            <option key={name} value={name}>
              {name}
              {reachable === false ? " (silent)" : ""}
            </option>
          ))}
        </select>
      </label>
      <label>
        Times in{" "}
        <select key={zone.value.title} value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
          {Object.entries(zones).map(([key, { title }]) => (
            <option key={key} value={key}>
              {title}
            </option>
          ))}
        </select>
      </label>
      <span>
        Firebreak {text(body?.version)}
        {body?.cluster_id ? ` · cluster ${body.cluster_id}` : ""}
        {num(body?.map_epoch) !== null ? ` · map ${body.map_epoch}` : ""}
        {body ? ` · ${counted(list(body.nodes).length, "node")}` : ""}
      </span>
    </footer>
  );
}
