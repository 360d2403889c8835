// Lanes of nodes on one time axis, with the gaps that clients felt across all of them.
import { useSignal } from "@preact/signals";
import { Axis } from "../lib/axis.js";
import { clock, list, num, span, text } from "../lib/fmt.js";
import { useWidth } from "../lib/hooks.js";
import { nodes } from "../lib/net.js";
import { colour, dcOf } from "../lib/places.js";
import { zone } from "../lib/zone.js";
import { Dc } from "./bits.jsx";
import { Glyph, KINDS, SPANS, gravest, kindOf } from "./events.jsx";

const ROW_PX = 27;
/** Events nearer than that are one mark. */
const NEAR_PX = 20;

/** Lanes by data center, also of those that did not answer. */
function grouped(body) {
  const lanes = list(body.lanes).filter((lane) => text(lane?.node));
  const named = new Set(lanes.map((lane) => lane.node));
  const missing = list(body.missing).filter((name) => !named.has(name));
  const silent = new Set(list(body.missing));
  const all = [
    ...lanes.map((lane) => ({ ...lane, missing: silent.has(lane.node) })),
    ...missing.map((node) => ({ node, dc: dcOf(node), spans: [], events: [], missing: true })),
  ];
  const groups = new Map();
  for (const lane of all) {
    const dc = text(lane.dc) || dcOf(lane.node);
    groups.set(dc, [...(groups.get(dc) ?? []), lane]);
  }
  for (const group of groups.values()) group.sort((a, b) => a.node.localeCompare(b.node, "en", { numeric: true }));
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
}

export function LaneChart({ body, children, onRange, onPick }) {
  const [ref, width] = useWidth();
  const hover = useSignal(null);
  const axis = new Axis(num(body.from_ms) ?? 0, num(body.to_ms) ?? 1);
  const gut = width < 620 ? 78 : 128;
  const plot = Math.max(120, width - gut);
  const groups = grouped(body);
  const gaps = list(body.gaps).filter((gap) => num(gap.from_ms) !== null && num(gap.to_ms) !== null);
  const ticks = axis.ticks(plot);
  if (num(body.from_ms) === null || groups.length === 0) return <p class="empty" ref={ref}>Of this time nothing was told.</p>;
  return (
    <div class="chart" ref={ref} style={{ "--gut": `${gut}px` }} {...pointer(hover, axis, gut, onRange)}>
      <Legend groups={groups} />
      <div class="drawn">
        <Layer axis={axis} ticks={ticks} gaps={gaps} />
        <Ticks axis={axis} ticks={ticks} plot={plot} />
        <Gaps axis={axis} gaps={gaps} plot={plot} />
        {groups.map(([dc, lanes]) => (
          <Group key={dc} dc={dc} lanes={lanes} axis={axis} plot={plot} onPick={onPick} />
        ))}
        {width > 0 && children?.({ axis, gut, plot, ticks })}
        <Ticks axis={axis} ticks={ticks} plot={plot} />
        <Cross hover={hover} axis={axis} gut={gut} body={body} />
      </div>
    </div>
  );
}

/** What the mouse does on a chart: reads out, and marks a range by dragging. */
function pointer(hover, axis, gut, onRange) {
  const part = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return (event.clientX - box.left - gut) / (box.width - gut);
  };
  const over = (event) => {
    const at = part(event);
    hover.value = at >= 0 && at <= 1 ? { ...hover.value, at } : null;
  };
  return {
    onPointerMove: (event) => event.pointerType === "mouse" && over(event),
    onPointerLeave: () => (hover.value = null),
    onPointerDown: (event) => {
      if (!onRange || event.pointerType !== "mouse" || event.target.closest("a, button, .pick")) return;
      const at = part(event);
      if (at < 0 || at > 1) return;
      event.preventDefault();
      hover.value = { at, begin: at };
    },
    onPointerUp: () => {
      const { begin, at } = hover.value ?? {};
      if (begin === undefined) return;
      hover.value = { at };
      if (Math.abs(at - begin) > 0.01) onRange(axis.at(Math.min(at, begin)), axis.at(Math.max(at, begin)));
    },
  };
}

/** Swatch → the words that it stands for. */
function bySwatch(kinds) {
  const swatches = new Map();
  for (const [kind, { word, cls }] of Object.entries(SPANS)) {
    if (kinds.has(kind)) swatches.set(cls, [...(swatches.get(cls) ?? []), word]);
  }
  return swatches;
}

function Legend({ groups }) {
  const lanes = groups.flatMap(([, lanes]) => lanes);
  const kinds = new Set(lanes.flatMap((lane) => list(lane.events).map((event) => event?.kind)));
  const spans = new Set(lanes.flatMap((lane) => list(lane.spans).map((one) => one?.kind)));
  return (
    <p class="keys">
      {[...bySwatch(spans)].map(([cls, words]) => (
        <span class="key" key={cls}>
          <i class={`swatch ${cls}`} aria-hidden="true" />
          {words.join(" or ")}
        </span>
      ))}
      {Object.keys(KINDS)
        .filter((kind) => kinds.has(kind))
        .map((kind) => (
          <span class="key" key={kind}>
            <Glyph kind={kind} />
            {KINDS[kind].word}
          </span>
        ))}
    </p>
  );
}

function Layer({ axis, ticks, gaps }) {
  return (
    <svg class="layer" aria-hidden="true">
      {ticks.map((ms) => (
        <line key={ms} class="grid" x1={axis.x(ms)} x2={axis.x(ms)} y1="0" y2="100%" />
      ))}
      {longest(gaps).map((gap, at) => (
        <rect key={at} class="gap" x={axis.x(gap.from_ms)} width={axis.width(gap.from_ms, gap.to_ms)} y="0" height="100%" />
      ))}
    </svg>
  );
}

/** People notice a wait from there on. */
const FELT_MS = 500;

/** Those that are drawn through all lanes; where many wait a little, that would hide everything. */
function longest(gaps) {
  const most = Math.max(0, ...gaps.map((gap) => num(gap.ms) ?? 0));
  return gaps.filter((gap) => num(gap.ms) >= FELT_MS && gap.ms * 2 > most);
}

function Ticks({ axis, ticks, plot }) {
  return (
    <div class="panel ticks" aria-hidden="true">
      <div class="gut">
        <span class="row">{zone.value.first.name}</span>
      </div>
      <svg class="plot" height="20">
        {ticks.map((ms) => {
          const part = axis.part(ms);
          const anchor = part > 0.96 ? "end" : part < 0.03 ? "start" : "middle";
          return (
            <text key={ms} class="tick" x={axis.x(ms)} y="14" text-anchor={anchor}>
              {axis.word(ms, plot)}
            </text>
          );
        })}
      </svg>
    </div>
  );
}

/** The gap left of which words of that width cover no other one. */
function clear(gaps, gap, left, right, room) {
  const sorted = [...gaps].sort((a, b) => b.from_ms - a.from_ms);
  return sorted.reduce((at, one) => (left(one) < left(at) && right(one) > left(at) - room ? one : at), gap);
}

function Gaps({ axis, gaps, plot }) {
  if (gaps.length === 0) return null;
  const longest = gaps.reduce((most, gap) => ((gap.ms ?? 0) > (most.ms ?? 0) ? gap : most));
  const words = `${span(longest.ms)} at ${clock(longest.from_ms)}, ${text(longest.node)}`;
  const room = words.length * 6.2 + 16;
  const before = axis.part(longest.from_ms) * plot + room > plot;
  const at = before ? clear(gaps, longest, (gap) => axis.part(gap.from_ms) * plot, (gap) => axis.part(gap.to_ms) * plot, room) : longest;
  return (
    <div class="panel">
      <div class="gut">
        <span class="row middle">longest gap</span>
      </div>
      <svg class="plot" height="22" role="img" aria-label={`Longest gap: ${words}`}>
        {gaps.map((gap, at) => (
          <rect key={at} class="gapbar" x={axis.x(gap.from_ms)} width={axis.width(gap.from_ms, gap.to_ms)} y="5" height="12">
            <title>{`${span(gap.ms)} at ${clock(gap.from_ms)}, ${text(gap.node)}`}</title>
          </rect>
        ))}
        <svg x={before ? Math.max(room, axis.part(at.from_ms) * plot) : axis.x(at.to_ms)} class="free">
          <text class="label solid" x={before ? -6 : 6} y="15" text-anchor={before ? "end" : "start"}>
            {words}
          </text>
        </svg>
      </svg>
    </div>
  );
}

/** Lanes of one data center that are drawn; of more, those where something happened come first. */
const LANES_MAX = 24;

function busy(lane) {
  const other = list(lane.spans).some((one) => one.kind !== "up");
  return (lane.missing || other ? 1000 : 0) + list(lane.events).length;
}

function Group({ dc, lanes: all, axis, plot, onPick }) {
  const some = all.length > LANES_MAX;
  const lanes = some ? [...all].sort((a, b) => busy(b) - busy(a)).slice(0, LANES_MAX) : all;
  return (
    <>
      <div class="head">
        <h3>
          <Dc dc={dc} />
        </h3>
        {some && <span class="key">the {LANES_MAX} of {all.length} nodes where most happened</span>}
      </div>
      <div class="panel">
        <div class="gut">
          {lanes.map((lane, at) => (
            <span class="row" key={lane.node} style={{ top: `${at * ROW_PX + 10}px` }} title={lane.node}>
              {lane.node}
            </span>
          ))}
        </div>
        <svg class="plot" height={lanes.length * ROW_PX} role="img" aria-label={`What nodes of ${dc} did`}>
          {lanes.map((lane, at) => (
            <svg key={lane.node} y={at * ROW_PX} height={ROW_PX} class="free">
              <Lane lane={lane} axis={axis} plot={plot} onPick={onPick} />
            </svg>
          ))}
        </svg>
      </div>
    </>
  );
}

function Lane({ lane, axis, plot, onPick }) {
  const order = Object.keys(SPANS);
  const spans = [...list(lane.spans)].sort((a, b) => order.indexOf(a?.kind) - order.indexOf(b?.kind));
  return (
    <>
      {lane.missing && <Missing lane={lane} axis={axis} plot={plot} />}
      {spans.map((one, at) => (
        <Span key={at} one={one} lane={lane} axis={axis} plot={plot} />
      ))}
      {marks(list(lane.events), axis, plot).map((events) => (
        <Events key={events[0].at_ms} events={events} lane={lane} axis={axis} onPick={onPick} />
      ))}
    </>
  );
}

/** The time that only the node itself could tell of. */
function Missing({ lane, axis, plot }) {
  const last = nodes.value.find((node) => node.name === lane.node)?.last;
  const until = num(lane.since) ?? axis.to;
  if (until <= axis.from) return null;
  const said = num(lane.since) === null && last ? `no answer; last word at ${clock(last.at_ms)}` : "its recording is on its disk";
  const room = axis.part(until) * plot;
  const words = [said, "not told"].find((one) => one.length * 6.5 + 12 < room) ?? "";
  return (
    <>
      <rect class="ghostbar" x="0" width={axis.width(axis.from, until)} y="2.5" height="13" />
      <text class="label" x="6" y="13">
        {words}
      </text>
    </>
  );
}

function Span({ one, lane, axis, plot }) {
  const from = num(one?.from_ms) ?? axis.from;
  const to = num(one?.to_ms) ?? axis.to;
  if (to < axis.from || from > axis.to) return null;
  const { word, cls } = SPANS[one.kind] ?? { word: text(one.kind, "?"), cls: "alone" };
  const shown = cls === "up" ? `up ${colour(lane.dc || dcOf(lane.node))}` : cls;
  const room = (axis.part(to) - axis.part(from)) * plot > word.length * 6.5 + 12;
  const draining = cls === "draining" ? ` ${colour(lane.dc || dcOf(lane.node))}` : "";
  return (
    <>
      {cls !== "up" && <rect class="under" x={axis.x(from)} width={axis.width(from, to)} y="2.5" height="13" />}
      <rect class={`span ${shown}${draining}`} x={axis.x(from)} width={axis.width(from, to)} y="2.5" height="13">
        <title>{`${lane.node} ${word}, ${clock(from)} to ${clock(to)}`}</title>
      </rect>
      {cls !== "up" && room && (
        <svg x={axis.x(from)} class="free">
          <text class="label" x="5" y="13">
            {word}
          </text>
        </svg>
      )}
    </>
  );
}

/** Events that fall together on the screen, in the order of time. */
function marks(events, axis, plot) {
  const known = events.filter((event) => num(event?.at_ms) !== null && event.at_ms >= axis.from && event.at_ms <= axis.to);
  known.sort((a, b) => a.at_ms - b.at_ms);
  const near = ((axis.to - axis.from) * NEAR_PX) / plot;
  const groups = [];
  for (const event of known) {
    const last = groups.at(-1);
    if (last && event.at_ms - last[0].at_ms < near) last.push(event);
    else groups.push([event]);
  }
  return groups;
}

function Events({ events, lane, axis, onPick }) {
  const { cls, path } = kindOf(gravest(events));
  const told = events.slice(0, 6).map((event) => `${clock(event.at_ms)} ${text(event.text, event.kind)}`);
  if (events.length > 6) told.push(`and ${events.length - 6} more`);
  const pick = onPick && (() => onPick({ node: lane.node, from: events[0].at_ms, to: events.at(-1).at_ms }));
  return (
    <svg x={axis.x(events[0].at_ms)} y="21" class={`free ${pick ? "pick" : ""}`} onClick={pick}>
      <title>{`${lane.node}\n${told.join("\n")}`}</title>
      <rect class="hit" x="-9" y="-9" width="18" height="16" />
      <path class={cls} d={path} fill-rule="evenodd" />
      {events.length > 1 && (
        <text class="times" x="6" y="3.5">
          {events.length}
        </text>
      )}
    </svg>
  );
}

/** The line under the mouse, and what was then. */
function Cross({ hover, axis, gut, body }) {
  if (!hover.value) return null;
  const { at, begin } = hover.value;
  const left = (part) => `calc(${gut}px + (100% - ${gut}px) * ${part})`;
  const ms = axis.at(at);
  return (
    <>
      {begin !== undefined && (
        <div
          class="marked"
          style={{ left: left(Math.min(at, begin)), width: `calc((100% - ${gut}px) * ${Math.abs(at - begin)})` }}
        />
      )}
      <div class="cross" style={{ left: left(at) }} />
      <div class="read" style={at > 0.5 ? { right: `calc(100% - ${left(at)} + 6px)` } : { left: `calc(${left(at)} + 6px)` }}>
        {clock(ms)} {loadAt(body.load, ms)}
      </div>
    </>
  );
}

function loadAt(load, ms) {
  const times = list(load?.at_ms);
  let at = -1;
  while (at + 1 < times.length && times[at + 1] <= ms) at += 1;
  if (at < 0) return "";
  const acks = num(load.acks_per_s?.[at]);
  const p99 = num(load.p99_ms?.[at]);
  const failed = num(load.failed_per_s?.[at]);
  const parts = [acks === null ? "" : `${Math.round(acks)} acks/s`, p99 === null ? "" : `p99 ${span(p99)}`];
  if (failed) parts.push(`${failed.toFixed(1)} failed/s`);
  return parts.filter(Boolean).map((part) => `· ${part} `);
}
