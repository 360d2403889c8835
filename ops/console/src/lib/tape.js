// What nodes recorded, with what is known of those that do not tell: others felt when they fell silent, and the
// node that answers remembers their last events.
import { list, num, text } from "./fmt.js";
import { nodes, now, told } from "./net.js";

/** A range that begins long before anything is known is cut: before that there is this share of it. */
const BEFORE = 0.04;
const CUT_FROM = 0.3;

/** Node → since when it does not answer, as others felt it. */
function silentSince() {
  const at_ms = told.value?.at_ms ?? null;
  const silent = nodes.value.filter((node) => node.silent && num(node.gone_ms) !== null && at_ms !== null);
  return new Map(silent.map((node) => [node.name, at_ms - node.gone_ms]));
}

function recentOf(name, from, to) {
  return list(now.value?.recent).filter((event) => event?.node === name && event.at_ms > from && event.at_ms <= to);
}

/** A lane from when its node fell silent on; `null` when that is not known or later. */
function silence(since, to) {
  return since === undefined || since >= to ? [] : [{ from_ms: since, to_ms: to, kind: "silent" }];
}

/** The recording with lanes of the nodes that did not tell, as far as anybody knows. */
export function whole(body) {
  const [from, to] = [num(body.from_ms), num(body.to_ms)];
  if (from === null || to === null) return body;
  const since = silentSince();
  const missing = new Set(list(body.missing));
  const names = new Set(list(body.lanes).map((lane) => lane?.node));
  const others = [...missing].filter((name) => !names.has(name)).map((node) => ({ node, spans: [], events: [] }));
  const lanes = [...list(body.lanes).filter(Boolean), ...others].map((lane) => {
    if (!missing.has(lane.node)) return lane;
    const spans = silence(since.get(lane.node), to).map((one) => ({ ...one, from_ms: Math.max(from, one.from_ms) }));
    return { ...lane, spans, events: recentOf(lane.node, from, to), since: since.get(lane.node) };
  });
  return { ...body, lanes };
}

/** The same up to now: what was up stays up until somebody misses it, and new events come from `/api/now`. */
export function live(body) {
  const to = num(told.value?.at_ms);
  const [from, until] = [num(body.from_ms), num(body.to_ms)];
  if (from === null || until === null || to === null || to <= until) return cut(whole(body));
  const since = silentSince();
  const moved = { ...body, from_ms: to - (until - from), to_ms: to };
  const missing = new Set(list(body.missing));
  const lanes = list(body.lanes).filter((lane) => lane && !missing.has(lane.node)).map((lane) => {
    const gone = since.get(lane.node);
    const end = Math.min(to, gone ?? to);
    const spans = list(lane.spans).map((one) => (one?.to_ms === until ? { ...one, to_ms: Math.max(end, one.from_ms) } : one));
    return { ...lane, spans: [...spans, ...silence(gone, to)], events: [...list(lane.events), ...recentOf(lane.node, until, to)] };
  });
  const told_not = list(body.lanes).filter((lane) => lane && missing.has(lane.node));
  return cut(whole({ ...moved, lanes: [...lanes, ...told_not] }));
}

/** Without the time before the first word of anybody: a young cluster is not squeezed to the right edge. */
function cut(body) {
  const moments = list(body.lanes).flatMap((lane) => [...list(lane.spans).map((one) => num(one?.from_ms)), ...list(lane.events).map((event) => num(event?.at_ms))]);
  const known = moments.filter((ms) => ms !== null);
  if (known.length === 0) return body;
  const length = body.to_ms - body.from_ms;
  const first = Math.min(...known);
  return first - body.from_ms < length * CUT_FROM ? body : { ...body, from_ms: first - (body.to_ms - first) * BEFORE };
}

/** Lanes of what `/api/now` itself tells, where no recording is to be had. */
export function fromNow() {
  const to_ms = num(told.value?.at_ms) ?? 0;
  const lanes = nodes.value.map(({ name, dc }) => ({ node: name, dc, events: recentOf(name, 0, to_ms) }));
  return { from_ms: to_ms - 30 * 60_000, to_ms, lanes: lanes.filter(({ node }) => text(node)) };
}
