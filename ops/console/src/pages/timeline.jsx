// Timeline: what nodes recorded, on one axis with load and p99.
import { useState } from "preact/hooks";
import { useAnswer } from "../lib/hooks.js";
import { list, moment, num, parseStamp, span, stamp, text } from "../lib/fmt.js";
import { nodeNow } from "../lib/net.js";
import { colour } from "../lib/places.js";
import { go, href, route } from "../lib/route.js";
import { live, whole } from "../lib/tape.js";
import { zone } from "../lib/zone.js";
import { Empty, Letter, Section, Told } from "../parts/bits.jsx";
import { Glyph, KINDS, kindOf } from "../parts/events.jsx";
import { LaneChart } from "../parts/lanes.jsx";
import { Load } from "../parts/load.jsx";

const RANGES = [
  ["15 min", 15],
  ["30 min", 30],
  ["2 h", 120],
  ["6 h", 360],
  ["24 h", 1440],
];
const LIVE_MS = 30 * 60_000;
/** A node tells of no more at once. */
const RANGE_MS_MAX = 24 * 3_600_000;

/** The range that the address asks for; null for the last 30 minutes, which move. */
function asked() {
  const from = Number(route.value.query.get("from") ?? NaN);
  const to = Number(route.value.query.get("to") ?? NaN);
  return Number.isFinite(from) && Number.isFinite(to) ? { from, to } : null;
}

const show = (from, to) => go(href("timeline", [], [["from", Math.round(from)], ["to", Math.round(to)]]));

export function Timeline() {
  const range = asked();
  const path = range ? `/api/timeline?from_ms=${range.from}&to_ms=${range.to}` : "/api/timeline";
  const answer = useAnswer(path, range ? 30_000 : 4000);
  const [picked, setPicked] = useState(null);
  const { body } = answer;
  const tape = body && (range ? whole(body) : live(body));
  return (
    <>
      <Section title="When" cls="when">
        <Range key={`${path} ${zone.value.title}`} range={range} body={body} />
      </Section>
      <Section title="What happened" more={<span class="told drag">drag over the chart to look closer</span>}>
        <Told answer={answer} />
        {body && list(body.missing).length > 0 && (
          <p class="wrong">
            <i aria-hidden="true">▲</i> Without the recordings of {list(body.missing).join(", ")}: no answer. They are on their disks.
          </p>
        )}
        {body && (
          <LaneChart body={tape} onRange={show} onPick={setPicked}>
            {(where) => <Load load={body.load} where={where} />}
          </LaneChart>
        )}
      </Section>
      {body && <Felt gaps={list(body.gaps)} />}
      {body && <Events body={tape} picked={picked} setPicked={setPicked} />}
    </>
  );
}

function Range({ range, body }) {
  const to = range?.to ?? num(body?.to_ms) ?? nodeNow();
  const from = range?.from ?? num(body?.from_ms) ?? to - LIVE_MS;
  const [wrong, setWrong] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const begin = parseStamp(String(form.get("from")), from);
    const end = parseStamp(String(form.get("to")), to);
    if (begin === null || end === null) return setWrong(`A time is written as ${stamp(to)} or 03:10.`);
    if (begin >= end) return setWrong("The begin is not before the end.");
    setWrong("");
    show(begin, end);
  };
  const length = to - from;
  const middle = (from + to) / 2;
  const wider = Math.min(length * 2, RANGE_MS_MAX);
  return (
    <>
      <div class="ranges">
        <a class="button" href="#/timeline" aria-current={range ? undefined : "true"}>
          live
        </a>
        {RANGES.map(([name, minutes]) => (
          <button type="button" key={name} onClick={() => show(nodeNow() - minutes * 60_000, nodeNow())}>
            last {name}
          </button>
        ))}
        <button type="button" onClick={() => show(from - length / 2, to - length / 2)}>
          ← earlier
        </button>
        <button type="button" onClick={() => show(from + length / 2, to + length / 2)}>
          later →
        </button>
        <button type="button" onClick={() => show(middle - wider / 2, middle + wider / 2)} disabled={length >= RANGE_MS_MAX}>
          wider
        </button>
      </div>
      <form class="range" onSubmit={submit}>
        <label>
          from <input name="from" defaultValue={stamp(from)} size={19} autocomplete="off" />
        </label>
        <label>
          to <input name="to" defaultValue={stamp(to)} size={19} autocomplete="off" />
        </label>
        <span class="told">{zone.value.first.name}</span>
        <button type="submit">show</button>
      </form>
      {wrong && (
        <p class="wrong" role="alert">
          <i aria-hidden="true">▲</i> {wrong}
        </p>
      )}
    </>
  );
}

/** A node tells of no more gaps than that. */
const TOLD_MAX = 50;
const LONGEST = 10;

function Felt({ gaps }) {
  if (gaps.length === 0) return null;
  const longest = [...gaps].sort((a, b) => (b.ms ?? 0) - (a.ms ?? 0));
  return (
    <Section title={`Gaps that callers felt: ${gaps.length}${gaps.length >= TOLD_MAX ? " or more" : ""}`} more={gaps.length > LONGEST && <span class="told">the {LONGEST} longest</span>}>
      <div class="wide" tabIndex={0} role="group" aria-label="Gaps">
        <table class="narrow">
          <thead>
            <tr>
              <th scope="col" class="n">lasted</th>
              <th scope="col">began</th>
              <th scope="col">felt by</th>
            </tr>
          </thead>
          <tbody>
            {longest.slice(0, LONGEST).map((gap, at) => (
              <tr key={at}>
                <td class="n">{span(gap.ms)}</td>
                <td>{moment(gap.from_ms)}</td>
                <td>
                  {text(gap.node, "–")}
                  {num(gap.shard) !== null && (
                    <>
                      {", "}
                      <a href={href("shards", [String(gap.shard)])}>{gap.shard === 0 ? "meta" : `shard ${gap.shard}`}</a>
                    </>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  );
}

const SHOWN = 100;
/** Of a longer range each time has its day. */
const DAY_TOLD_MS = 12 * 3_600_000;

function Events({ body, picked, setPicked }) {
  const [kind, setKind] = useState("");
  const [words, setWords] = useState("");
  const [most, setMost] = useState(SHOWN);
  const lanes = list(body.lanes);
  const all = lanes.flatMap((lane) => list(lane.events).map((event) => ({ ...event, node: lane.node, dc: lane.dc })));
  const more = lanes.reduce((sum, lane) => sum + (num(lane.more) ?? 0), 0);
  const wanted = words.trim().toLowerCase();
  const found = all
    .filter((event) => !kind || event.kind === kind)
    .filter((event) => !picked || (event.node === picked.node && event.at_ms >= picked.from && event.at_ms <= picked.to))
    .filter((event) => !wanted || `${event.node} ${event.kind} ${event.text} shard ${event.shard}`.toLowerCase().includes(wanted))
    .sort((a, b) => (b.at_ms ?? 0) - (a.at_ms ?? 0));
  const lines = bundled(found);
  const kinds = [...new Set(all.map((event) => event.kind))].filter(Boolean).sort();
  return (
    <Section title={`Events: ${found.length}${found.length < all.length ? ` of ${all.length}` : ""}`} id="events">
      <div class="filters">
        <label>
          search <input type="search" value={words} onInput={(event) => setWords(event.currentTarget.value)} placeholder="node, shard or word" />
        </label>
        <label>
          kind{" "}
          <select value={kind} onChange={(event) => setKind(event.currentTarget.value)}>
            <option value="">all</option>
            {kinds.map((one) => (
              <option key={one} value={one}>
                {KINDS[one]?.word ?? one}
              </option>
            ))}
          </select>
        </label>
        {picked && (
          <button type="button" onClick={() => setPicked(null)}>
            only {picked.node}, marked moment ✕
          </button>
        )}
      </div>
      {found.length === 0 ? (
        <Empty>{all.length === 0 ? "Nothing happened in this time." : "No event is like that."}</Empty>
      ) : (
        <ol class="events">
          {lines.slice(0, most).map((event, at) => (
            <Event key={`${event.at_ms} ${event.node} ${at}`} event={event} withDay={body.to_ms - body.from_ms > DAY_TOLD_MS} />
          ))}
        </ol>
      )}
      {more > 0 && <p class="told">Of the oldest {more} are not told: choose a shorter range.</p>}
      {lines.length > most && (
        <button type="button" onClick={() => setMost(most + 400)}>
          show more of {lines.length} lines
        </button>
      )}
    </Section>
  );
}

const NAMED = 12;

/** Events of one node and second that differ in their shard alone are one line. */
function bundled(events) {
  const lines = new Map();
  for (const event of events) {
    const name = num(event.shard) === null ? null : shardWords(event.shard);
    const [before, ...after] = name === null ? [] : text(event.text).split(new RegExp(`\\b${name}\\b`));
    const key = after.length === 1 ? [Math.floor(event.at_ms / 1000), event.node, event.kind, before, after[0]].join("\n") : Symbol("alone");
    const line = lines.get(key);
    if (line) line.shards.push(event.shard);
    else lines.set(key, after.length === 1 ? { ...event, before, after: after[0], shards: [event.shard] } : event);
  }
  return [...lines.values()];
}

const shardWords = (shard) => (shard === 0 ? "meta" : `shard ${shard}`);

/** The words of an event, with a link to its shard where they name it, or behind them. */
function Said({ event }) {
  if (event.shards?.length > 1) {
    const shards = [...new Set(event.shards)].sort((a, b) => a - b);
    return (
      <>
        {event.before}
        {shards.slice(0, NAMED).map((shard, at) => (
          <span key={shard}>
            {at > 0 && ", "}
            <a href={href("shards", [String(shard)])}>{at === 0 ? shardWords(shard) : shard}</a>
          </span>
        ))}
        {shards.length > NAMED && ` and ${shards.length - NAMED} more`}
        {event.after}
      </>
    );
  }
  const words = text(event.text);
  if (num(event.shard) === null) return words;
  const name = shardWords(event.shard);
  const [before, ...rest] = words.split(new RegExp(`\\b${name}\\b`));
  return (
    <>
      {before}
      {rest.length === 0 && " "}
      <a href={href("shards", [String(event.shard)])}>{name}</a>
      {rest.join(name)}
    </>
  );
}

function Event({ event, withDay }) {
  return (
    <li>
      <time>{moment(event.at_ms, withDay)}</time>
      <span class={`who ${colour(event.dc)}-ink`}>
        <Letter dc={event.dc} /> {event.node}
      </span>
      <span class="kind">
        <Glyph kind={event.kind} /> {kindOf(event).word}
      </span>
      <span class="said">
        <Said event={event} />
      </span>
    </li>
  );
}
