// Takes pictures of the console of nine real processes under load: each page, wide and on a phone, light and
// dark; healthy, during a drain, with one data center burning, and with two of three dead.
//
//   node dev/shots.mjs FIREBREAK OUT [--states drain,burning] [--pages now,places] [--quick] [--dist]
//
// --quick takes wide and light pictures alone, without axe. --dist shows the pages of dist/ instead of those that
// the nodes have embedded. Exit code 1 when a page is not as it must be: see `wrong` of a row.
import { mkdir, readFile, readdir, rm } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Cluster, DCS } from "./cluster.mjs";

/** A survivor has to answer each page within that. */
const ANSWER_MS = 5000;
const RATE = 40;
const LOAD_S = 1500;
/** Before the first pictures, so that there is something to see. */
const SETTLE_MS = 30_000;
const PAGES = ["now", "timeline", "shards", "shards/3", "places", "places/busan-1", "whatif", "whatif?dc=busan", "jobs", "settings"];
const APIS = ["/api/now", "/api/timeline", "/api/shards", "/api/whatif?dc=busan", "/api/jobs", "/api/settings", "/livez", "/healthz", "/metrics"];
const STATES = {
  healthy: { sign: "✓", async begin() {} },
  drain: {
    sign: "✓",
    begin: (cluster) => cluster.run(["dc", "drain", "seoul", "--target", targets(cluster), "--wait", "30"]),
  },
  burning: {
    sign: "▲",
    async begin(cluster) {
      await cluster.run(["dc", "undrain", "seoul", "--target", targets(cluster)]);
      await led(cluster);
      await cluster.burn("seoul");
    },
  },
  two_dead: { sign: "✗", begin: (cluster) => cluster.burn("tokyo") },
};
/** What all looks are from: it is in the data center that stays. */
const FROM = "busan-1";

const began = performance.now();
const say = (words) => console.log(`${String(Math.round((performance.now() - began) / 1000)).padStart(4)} s  ${words}`);
const pause = (ms) => new Promise((after) => setTimeout(after, ms));
const targets = (cluster) => cluster.survivors.map(({ address }) => address).join(",");

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { states: { type: "string" }, pages: { type: "string" }, quick: { type: "boolean" }, dist: { type: "boolean" } },
});
const [binary, out] = positionals;
const chosen = values.states?.split(",") ?? Object.keys(STATES);
const pages = values.pages?.split(",") ?? PAGES;
if (!binary || !out || chosen.some((state) => !STATES[state])) {
  console.error(`usage: node dev/shots.mjs FIREBREAK OUT [--states ${Object.keys(STATES).join(",")}] [--pages now,places] [--quick] [--dist]`);
  process.exit(2);
}
// The browser's helper reads that when it is loaded.
process.env.SCREENSHOTS = resolve(out);
const { WIDTHS, fits, launch, open, settled, shoot, sound } = await import("../test/browser.mjs");

const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", svg: "image/svg+xml" };
/** Puts the pages of dist/ in the place of those that a node serves; what they ask the node is its own answer. */
async function prepare(page) {
  if (!values.dist) return;
  await page.route(/^http:\/\/127\.0\.0\.1:\d+\/(app\.js|app\.css|icon\.svg)?$/, async (route) => {
    const name = new URL(route.request().url()).pathname.slice(1) || "index.html";
    const body = await readFile(fileURLToPath(new URL(`../dist/${name}`, import.meta.url)));
    await route.fulfill({ body, contentType: TYPES[name.split(".").at(-1)] });
  });
}

/** Leaders are back in seoul, so that there is something to lose; one a shard and minute at most. */
async function led(cluster) {
  const { origin } = cluster.nodes.find(({ name }) => name === FROM);
  for (let turn = 0; turn < 90; turn += 1) {
    const { dcs = [] } = await fetch(`${origin}/api/now`).then((answer) => answer.json()).catch(() => ({}));
    if (dcs.some(({ dc, leads }) => dc === "seoul" && leads > 1)) return;
    await pause(1000);
  }
}

/** Each survivor answers each question in time: the slowest, and what was wrong. */
async function answers(cluster) {
  const wrong = [];
  let slowest = { ms: 0, what: "" };
  for (const node of cluster.survivors) {
    for (const path of APIS) {
      const from = performance.now();
      const what = `${node.name}${path}`;
      // 503 is how /healthz says that clients cannot append: an answer.
      const answered = ({ ok, status }) => ok || (path === "/healthz" && status === 503);
      const answer = await fetch(node.origin + path, { signal: AbortSignal.timeout(ANSWER_MS) })
        .then(async (response) => (await response.text(), answered(response) ? null : `HTTP ${response.status}`))
        .catch((error) => `no answer within ${ANSWER_MS / 1000} s (${error.name})`);
      const ms = Math.round(performance.now() - from);
      if (answer) wrong.push(`${what}: ${answer}`);
      if (ms > slowest.ms) slowest = { ms, what };
    }
  }
  return { slowest, wrong };
}

/** The page of a survivor, opened anew: how long it takes, and all pictures of it. */
async function look(browser, cluster, state, hash, width) {
  const where = `${state}-${hash}-${width}`;
  const wrong = [];
  const allowed = cluster.nodes.map(({ origin }) => origin);
  const { origin } = cluster.nodes.find(({ name }) => name === FROM);
  const from = performance.now();
  let ms = null;
  let shots = 0;
  let tab = null;
  try {
    tab = await open(browser, { width, url: `${origin}/#/${hash}`, allowed, prepare });
    await settled(tab.page);
    ms = Math.round(performance.now() - from);
    if (ms > ANSWER_MS) wrong.push(`it took ${ms} ms`);
    const sign = (await tab.page.title()).charAt(0);
    if (sign !== STATES[state].sign) wrong.push(`it says ${sign}, not ${STATES[state].sign}: ${await sentence(tab.page)}`);
    for (const theme of values.quick ? ["light"] : ["light", "dark"]) {
      await tab.page.emulateMedia({ colorScheme: theme });
      await shoot(tab.page, `${where}-${theme}`);
      shots += 1;
      // axe takes seconds: each theme and each width once.
      const check = !values.quick && (width === "phone") === (theme === "dark") ? sound : fits;
      await check(tab.page, `${where}-${theme}`);
    }
  } catch (error) {
    wrong.push(error.message.split("\n+ actual")[0]);
  } finally {
    wrong.push(...(tab?.wrong ?? []));
    await tab?.close();
  }
  return { state, hash, width, shots, ms, wrong };
}

const sentence = (page) => page.locator(".verdict .words").textContent();

/** A page that was open at a node which dies: it goes on from a living one by itself. */
async function follow(browser, cluster, begin) {
  const wrong = [];
  const left = cluster.in("seoul")[0];
  const allowed = cluster.nodes.map(({ origin }) => origin);
  const tab = await open(browser, { url: `${left.origin}/#/now`, allowed, prepare });
  const row = { state: "burning", hash: "now, opened at seoul-1", width: "wide", shots: 0, ms: null, wrong };
  try {
    await settled(tab.page);
    await begin();
    const from = performance.now();
    await tab.page.waitForFunction(() => !/^seoul/.test(document.querySelector(".view b").textContent), null, { timeout: 4 * ANSWER_MS });
    row.ms = Math.round(performance.now() - from);
    if (row.ms > ANSWER_MS) wrong.push(`it took ${row.ms} ms`);
    const told = await tab.page.locator(".notices").textContent();
    if (!/fell silent/.test(told)) wrong.push(`it does not say that it moved: ${told}`);
  } catch (error) {
    wrong.push(error.message.split("\n")[0]);
  } finally {
    await shoot(tab.page, "burning-moved-wide-light").then(() => (row.shots = 1), (error) => wrong.push(error.message));
    wrong.push(...tab.wrong);
    await tab.close();
  }
  return row;
}

async function take(browser, cluster, state) {
  const rows = [];
  const begin = () => STATES[state].begin(cluster);
  say(`${state}: begins`);
  if (state === "burning") rows.push(await follow(browser, cluster, begin));
  else await begin();
  if (!chosen.includes(state)) return [];
  const { slowest, wrong } = await answers(cluster);
  say(`${state}: the slowest of all answers of ${cluster.survivors.length} nodes: ${slowest.what} in ${slowest.ms} ms`);
  rows.push({ state, hash: "all answers, all survivors", width: "", shots: 0, ms: slowest.ms, wrong });
  for (const [at, hash] of pages.entries()) {
    say(`${state}: ${hash} (${at + 1} of ${pages.length})`);
    for (const width of values.quick ? ["wide"] : Object.keys(WIDTHS)) rows.push(await look(browser, cluster, state, hash, width));
  }
  return rows;
}

function report(rows) {
  console.log(`\n${"state".padEnd(10)}${"page".padEnd(28)}${"width".padEnd(7)}${"answered".padStart(9)}${"pictures".padStart(10)}  wrong`);
  for (const { state, hash, width, ms, shots, wrong } of rows) {
    const first = wrong.length === 0 ? "✓" : `✗ ${wrong[0]}`;
    console.log(`${state.padEnd(10)}${hash.padEnd(28)}${width.padEnd(7)}${(ms === null ? "–" : `${ms} ms`).padStart(9)}${String(shots).padStart(10)}  ${first}`);
    for (const more of wrong.slice(1)) console.log(`${" ".repeat(66)}✗ ${more}`);
  }
  const bad = rows.filter(({ wrong }) => wrong.length > 0).length;
  const shots = rows.reduce((sum, row) => sum + row.shots, 0);
  console.log(`\n${shots} pictures in ${process.env.SCREENSHOTS}; ${bad === 0 ? "nothing is wrong" : `${bad} of ${rows.length} rows are wrong`}`);
  return bad === 0 && shots > 0;
}

let cluster = null;
let browser = null;
let ending = null;
/** Ends what was started, once, whatever happened. */
function finish() {
  ending ??= (async () => {
    await browser?.close().catch(() => {});
    await cluster?.stop();
  })();
  return ending;
}
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    console.error(`\n${signal}: ending the nodes`);
    await finish();
    process.exit(130);
  });
}

let fine = false;
try {
  await mkdir(process.env.SCREENSHOTS, { recursive: true });
  for (const name of await readdir(process.env.SCREENSHOTS)) {
    const old = chosen.some((state) => name.startsWith(`${state}-`));
    if (old && name.endsWith(".png")) await rm(resolve(process.env.SCREENSHOTS, name));
  }
  cluster = await Cluster.start(binary, say);
  // No name resolves. A page that was put in a node's place comes from nowhere, for a browser that guards what is local.
  const guard = values.dist ? ["--disable-features=LocalNetworkAccessChecks"] : [];
  browser = await launch(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", ...guard]);
  for (const [dc] of DCS) cluster.load(dc, RATE, LOAD_S);
  say(`nine nodes serve; load runs for ${SETTLE_MS / 1000} s before the first picture`);
  await pause(SETTLE_MS);
  const last = Math.max(...chosen.map((state) => Object.keys(STATES).indexOf(state)));
  const rows = [];
  for (const state of Object.keys(STATES).slice(0, last + 1)) rows.push(...(await take(browser, cluster, state)));
  fine = report(rows);
} catch (error) {
  console.error(error.message);
} finally {
  await finish();
}
process.exit(fine ? 0 : 1);
