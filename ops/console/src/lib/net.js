// Who is asked, and what was answered. One loop, one request at a time; the page's own node first, and
// when it falls silent the first living one of those that are known.
import { computed, signal } from "@preact/signals";
import { list, num, text } from "./fmt.js";
import { recall, remember } from "./memory.js";

/** Between two looks. */
const EVERY_MS = 2000;
/** A node that has not answered by then is left for another. */
const ANSWER_MS = 2000;
/** A page may gather from all nodes; its node is not judged by that. */
const PAGE_MS = 6000;
/** Nodes that are asked at once when the page's node is silent. */
const ASKED_MAX = 12;
/** Answers of pages that are kept, for coming back. */
const KEPT_MAX = 12;
const NOTICES_MAX = 3;

const OWN = location.origin;

/** Where the page looks from: an origin, and the node's name once it said so. */
export const here = signal({ origin: OWN, name: null });
/** The newest `/api/now`. */
export const now = signal(null);
/** When it came: `perf` of this page, `at_ms` by the node's clock, `age_ms` as the node says. */
export const told = signal(null);
/** Path → { body, error, perf }. */
export const answers = signal({});
/** What the page did by itself, newest first. */
export const notices = signal([]);
/** Since when nobody answers (`perf`), and why the page's node does not; null while somebody does. */
export const silence = signal(null);
/** Moves twice a second, so that ages move. */
export const tick = signal(performance.now());

/** The nodes that this page can ask: { name, dc, http, reachable }. */
export const known = signal(list(recall("nodes")?.nodes).filter((node) => text(node?.http)));
let cluster = null;
const expected = text(recall("nodes")?.cluster_id) || null;
/** Name → { node, at_ms, epoch }: each node as it was last seen alive. */
const words = new Map();

/** The time by the clock of the node that answered last; this machine's clock has no say. */
export function nodeNow() {
  const last = told.value;
  return last?.at_ms == null ? null : last.at_ms + (performance.now() - last.perf);
}

/** How old what is shown is, ms. */
export const age = computed(() => {
  const last = told.value;
  return last ? Math.max(0, tick.value - last.perf) + (last.age_ms ?? 0) : null;
});

/** All nodes, dead ones with their last word; those that vanished from the list are kept as ghosts. */
export const nodes = computed(() => {
  const body = now.value;
  const listed = list(body?.nodes).filter((node) => text(node?.name));
  const names = new Set(listed.map((node) => node.name));
  const ghosts = [...words.values()]
    .filter(({ node, epoch }) => !names.has(node.name) && epoch === body?.map_epoch)
    .map(({ node }) => ({ ...node, reachable: false, unlisted: true }));
  return [...listed, ...ghosts].map((node) => {
    const last = words.get(node.name);
    const silent = node.reachable === false;
    const filled = silent && last ? { ...last.node, ...present(node) } : node;
    return { ...filled, silent, last: silent ? (last ?? null) : null };
  });
});

/** Without what is not known, so that it does not hide a last word. */
function present(node) {
  return Object.fromEntries(Object.entries(node).filter(([, value]) => value !== null));
}

/** Without nulls in lists of things: a list of numbers keeps them, as moments that are not known. */
function whole(value) {
  if (Array.isArray(value)) {
    const things = value.some((one) => one !== null && typeof one === "object");
    return (things ? value.filter((one) => one !== null) : value).map(whole);
  }
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, whole(one)]));
}

class Silent extends Error {}

/** Asks one node. Throws `Silent` when it does not answer in time, or not as a node does. */
async function ask(origin, path, limitMs, outer) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), limitMs);
  const stop = () => abort.abort();
  outer?.addEventListener("abort", stop);
  try {
    const response = await fetch(origin + path, { signal: abort.signal, cache: "no-store", credentials: "omit" });
    const body = whole(await response.json());
    if (response.ok && body && typeof body === "object") return { body };
    const said = text(body?.message) || text(body?.error) || `HTTP ${response.status}`;
    return { error: said, status: response.status };
  } catch {
    throw new Silent(abort.signal.aborted ? `no answer within ${limitMs / 1000} s` : "no connection, or no answer that can be read");
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener("abort", stop);
  }
}

/** Has the page's node change something; gives null when it is done, else why not. */
export async function change(path, body) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), PAGE_MS);
  try {
    const headers = { "content-type": "application/json" };
    const response = await fetch(here.value.origin + path, { method: "POST", headers, body: JSON.stringify(body), signal: abort.signal, cache: "no-store", credentials: "omit" });
    if (response.ok) return null;
    const said = await response.json().catch(() => null);
    return text(said?.message) || `HTTP ${response.status}`;
  } catch {
    return `${nameOf(here.value)} did not say whether it is done`;
  } finally {
    clearTimeout(timer);
    stale();
    kick();
  }
}

/** Asks a node how things are. Throws `Silent` also for a node that cannot say, or of another cluster. */
async function askNow(origin, outer) {
  const { body, error } = await ask(origin, "/api/now", ANSWER_MS, outer);
  if (!body) throw new Silent(`it says: ${error}`);
  const wanted = cluster ?? (origin === OWN ? null : expected);
  if (wanted && text(body.cluster_id) && body.cluster_id !== wanted) throw new Silent("it is of another cluster now");
  return body;
}

/** Of the node that sent this page, when it sent it. */
let version = null;

/** After an upgrade the page in the browser is an old one; nodes that differ while that goes on are not meant. */
function outdated(origin, body) {
  const runs = text(body.version);
  if (origin !== OWN || !runs) return;
  if (version && version !== runs) tell(`This page is of version ${version}, its node now runs ${runs}: reload it when you can.`);
  version = runs;
}

function take(origin, body) {
  outdated(origin, body);
  const seen = body.seen_by ?? {};
  cluster = text(body.cluster_id) || cluster;
  here.value = { origin, name: text(seen.node) || here.value.name };
  told.value = { perf: performance.now(), at_ms: num(seen.at_ms), age_ms: num(seen.age_ms) };
  for (const node of list(body.nodes)) {
    if (node?.reachable) words.set(node.name, { node, at_ms: told.value.at_ms, epoch: body.map_epoch });
  }
  const listed = list(body.nodes).filter((node) => text(node?.http) && text(node?.name));
  if (listed.length > 0) {
    known.value = listed.map(({ name, dc, http, reachable }) => ({ name, dc, http, reachable }));
    remember("nodes", { cluster_id: cluster, nodes: known.value });
  }
  now.value = body;
  silence.value = null;
}

const originOf = (http) => `${location.protocol}//${http}`;

/** Whom to ask besides the silent one: those last seen alive first, other data centers before its own. */
let turn = 0;
function candidates() {
  const gone = known.value.find((node) => originOf(node.http) === here.value.origin);
  const rank = (node) => (node.reachable === false ? 2 : 0) + (node.dc === gone?.dc ? 1 : 0);
  const others = known.value.filter((node) => originOf(node.http) !== here.value.origin);
  others.sort((a, b) => rank(a) - rank(b));
  const origins = [...new Set(others.map((node) => originOf(node.http)))];
  if (here.value.origin !== OWN && !origins.includes(OWN)) origins.push(OWN);
  // Of very many the next ones are asked in the next round.
  const from = origins.length > ASKED_MAX ? (turn * ASKED_MAX) % origins.length : 0;
  turn += 1;
  return [...origins.slice(from), ...origins.slice(0, from)].slice(0, ASKED_MAX);
}

export function tell(words) {
  notices.value = [{ words, at_ms: nodeNow(), key: performance.now() }, ...notices.value].slice(0, NOTICES_MAX);
}

export function forget(key) {
  notices.value = notices.value.filter((notice) => notice.key !== key);
}

/** What a node is called, as far as this page knows. */
function nameOf({ origin, name }) {
  return name ?? known.value.find((node) => originOf(node.http) === origin)?.name ?? new URL(origin).host;
}

async function look() {
  const { origin } = here.value;
  // Whoever was chosen by hand meanwhile is asked next; an answer of another must not undo that.
  const chosen = () => here.value.origin !== origin;
  try {
    const body = await askNow(origin);
    if (!chosen()) take(origin, body);
  } catch (error) {
    if (!(error instanceof Silent)) throw error;
    if (!chosen()) await moveOn(error.message);
  }
}

/** Asks the others all at once: with two data centers dark, one after the other would take too long. */
async function moveOn(why) {
  const left = here.value;
  const others = new AbortController();
  const tries = candidates().map(async (origin) => ({ origin, body: await askNow(origin, others.signal) }));
  try {
    const { origin, body } = await Promise.any(tries);
    others.abort();
    if (here.value !== left) return;
    take(origin, body);
    const from = nameOf(left);
    // A page that a dead node's neighbour opens says nothing of a node that it never saw.
    tell(`${from} fell silent (${why}); you now look from ${nameOf(here.value)}.`);
    stale();
  } catch (error) {
    if (!(error instanceof AggregateError)) throw error;
    silence.value = { perf: silence.value?.perf ?? performance.now(), why, asked: tries.length + 1 };
  }
}

const wanted = new Map();

/** Keeps the answer of `path` coming while it is wanted; returns what ends that. */
export function want(path, everyMs) {
  const entry = { everyMs, due: 0 };
  wanted.set(path, entry);
  kick();
  return () => {
    if (wanted.get(path) === entry) wanted.delete(path);
  };
}

function stale() {
  for (const entry of wanted.values()) entry.due = 0;
}

async function askPages() {
  for (const [path, entry] of [...wanted]) {
    if (wanted.get(path) !== entry || performance.now() < entry.due || silence.value) continue;
    entry.due = performance.now() + entry.everyMs - 200;
    let answer;
    try {
      answer = await ask(here.value.origin, path, PAGE_MS);
    } catch (error) {
      if (!(error instanceof Silent)) throw error;
      answer = { error: `${nameOf(here.value)} does not tell: ${error.message}` };
    }
    keep(path, answer);
  }
}

function keep(path, { body, error }) {
  const { [path]: before, ...others } = answers.value;
  const kept = Object.entries(others).slice(-KEPT_MAX + 1);
  // What was told before stays on the page, with its age.
  const entry = body ? { body, error: null, perf: performance.now() } : { ...before, error };
  answers.value = { ...Object.fromEntries(kept), [path]: entry };
}

/** Looks from the node of that name from now on. */
export function lookFrom(name) {
  const node = known.value.find((one) => one.name === name);
  if (!node) return;
  here.value = { origin: originOf(node.http), name };
  stale();
  kick();
}

let wake = null;
let kicked = false;

function kick() {
  kicked = true;
  wake?.();
}

function sleep(ms) {
  if (kicked) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = ms === Infinity ? null : setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

/** Looks until the page is closed; a hidden page asks nobody. */
export async function run() {
  document.addEventListener("visibilitychange", () => !document.hidden && kick());
  setInterval(() => {
    if (!document.hidden) tick.value = performance.now();
  }, 500);
  let next = 0;
  for (;;) {
    kicked = false;
    const hurried = performance.now() < next && told.value?.perf !== undefined;
    const moved = now.value?.seen_by?.node !== here.value.name;
    if (!hurried || moved || silence.value) {
      next = performance.now() + EVERY_MS;
      await look();
    }
    await askPages();
    await sleep(Math.max(0, next - performance.now()));
    while (document.hidden) await sleep(Infinity);
  }
}
