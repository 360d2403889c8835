// The page lives on while nodes die, and what is pressed does what it says.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { NODES } from "../dev/world.mjs";
import { Fixture } from "../dev/fixture.mjs";
import { launch, open, settled, shoot, visit } from "./browser.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** Opens the page of `from` and hands it to `check`. */
function live(name, options, check) {
  test(name, async () => {
    const { from = "seoul-1", hash = "now", width = "wide", clock = false, ...rest } = options;
    const fixture = await Fixture.start(rest);
    const allowed = NODES.map((node) => fixture.url(node.name));
    const { page, wrong, close } = await open(browser, { width, clock, url: `${fixture.url(from)}#/${hash}`, allowed });
    try {
      await settled(page);
      await check(page, fixture);
      assert.deepEqual(wrong, []);
    } finally {
      await close();
      await fixture.stop();
    }
  });
}

const seenBy = (page) => page.locator(".view b").first().textContent();

live("a node that refuses is left for a living one, and the page says so", {}, async (page, fixture) => {
  assert.equal(await seenBy(page), "seoul-1");
  await fixture.kill("seoul-1");
  const notice = page.getByText(/seoul-1 fell silent \(.*\); you now look from (busan|tokyo)-\d\./);
  await notice.waitFor({ timeout: 20_000 });
  assert.match(await seenBy(page), /^(busan|tokyo)-\d$/, "another data center comes first");
  await shoot(page, "failover");
  await page.getByRole("button", { name: "dismiss" }).click();
  assert.equal(await notice.count(), 0);
  // All other pages work from there too, although they came from the dead one.
  for (const hash of ["timeline", "shards", "places", "whatif", "jobs", "settings"]) await visit(page, hash);
});

live("with two of three data centers hanging it finds the third, without asking one after the other", {}, async (page, fixture) => {
  fixture.set("two_dead");
  await page.getByText(/you now look from busan-\d\./).waitFor({ timeout: 10_000 });
  // 2 s until the next look, 2 s until silence is called that. Asking six silent ones in turn takes 12 s more.
  await page.locator(".top.failed").waitFor();
  assert.match(await page.locator(".card.ghost").first().textContent(), /(seoul|tokyo).*0 of 3 nodes/s);
});

live("the dead stay on the page with their last word", { from: "busan-1" }, async (page, fixture) => {
  fixture.set("burning");
  await page.getByText("Degraded, but serving").waitFor({ timeout: 20_000 });
  await visit(page, "places/seoul-2");
  const ghost = page.locator("#node-seoul-2");
  assert.match(await ghost.textContent(), /Its last word was at \d\d:\d\d:\d\d; the figures are of then/);
  assert.match(await ghost.textContent(), /0\.1\.0/, "the version that it last said");
});

live("when all are gone it says so with an age, and comes back by itself", { from: "busan-1" }, async (page, fixture) => {
  const ports = new Map(fixture.ports);
  await fixture.stop();
  await page.getByText("Nobody answers").waitFor({ timeout: 20_000 });
  assert.match(await page.locator(".view").textContent(), /As seen by busan-1, ▲ \d/);
  await fixture.listen("tokyo-3", ports.get("tokyo-3"));
  await page.getByText(/you now look from tokyo-3\./).waitFor({ timeout: 20_000 });
  assert.equal(await seenBy(page), "tokyo-3");
});

live("a node of another cluster at a known address is not believed", {}, async (page, fixture) => {
  const other = (name) => ({ ...Object.getPrototypeOf(fixture.world).now.call(fixture.world, name), cluster_id: "another" });
  fixture.world.now = (name) => (name === "tokyo-1" ? { ...other(name), cluster_id: undefined } : other(name));
  await page.getByText(/it is of another cluster now/).waitFor({ timeout: 20_000 });
  assert.equal(await seenBy(page), "tokyo-1", "the only one that does not say that it is another's");
});

live("a name from an address bar that nobody knows is a clear answer", { hash: "nonsense" }, async (page) => {
  await page.getByText("There is no page “nonsense”").waitFor();
  await visit(page, "shards/9999");
  await page.getByText("No node tells of such a shard.").waitFor();
  await visit(page, "whatif?dc=nowhere");
  await page.getByText("no data center or node is called like that").waitFor();
  await visit(page, "timeline?from=20&to=10");
  await page.getByText("from_ms is later than to_ms").waitFor();
});

live("what burns is marked by hand, and the address says it", { hash: "whatif" }, async (page) => {
  await page.getByText("Nothing burns:").waitFor();
  await page.getByRole("checkbox", { name: /tokyo burns|^T? ?tokyo$/ }).check();
  await page.getByText("Still serves").waitFor();
  await page.getByRole("checkbox", { name: /seoul-2/ }).check();
  await page.getByText("Stops serving").waitFor();
  assert.match(page.url(), /#\/whatif\?dc=tokyo&node=seoul-2$/);
  await page.getByText("firebreak whatif --lose dc=tokyo --lose node=seoul-2").waitFor();
});

live("a range is asked for in the zone that is chosen", { hash: "timeline" }, async (page, fixture) => {
  await page.getByLabel("Times in").selectOption("kst");
  await page.getByLabel("from", { exact: true }).fill("2026-11-30 03:10");
  await page.getByLabel("to", { exact: true }).fill("2026-11-30 03:25");
  await page.getByRole("button", { name: "show", exact: true }).click();
  const [from, to] = [Date.UTC(2026, 10, 29, 18, 10), Date.UTC(2026, 10, 29, 18, 25)];
  await page.waitForURL(`**/#/timeline?from=${from}&to=${to}`);
  await settled(page);
  assert.ok(fixture.asked.some(({ path }) => path === `/api/timeline?from_ms=${from}&to_ms=${to}`));
  await page.getByLabel("from", { exact: true }).fill("yesterday");
  await page.getByRole("button", { name: "show", exact: true }).click();
  await page.getByText(/A time is written as 2026-11-30 03:25:00/).waitFor();
});

live("the mouse reads a chart out, and marks a range", { hash: "timeline" }, async (page) => {
  const chart = page.locator(".drawn");
  const { x, y, width } = await chart.boundingBox();
  await page.mouse.move(x + width * 0.4, y + 60);
  await page.getByText(/^\d\d:\d\d:\d\d · \d+ acks\/s · p99 [\d.]+ ms/).waitFor();
  await page.mouse.down();
  await page.mouse.move(x + width * 0.6, y + 60, { steps: 3 });
  await page.mouse.up();
  await page.waitForURL(/#\/timeline\?from=\d+&to=\d+$/);
  const query = new URL(page.url().replace("#/", "")).searchParams;
  const minutes = (query.get("to") - query.get("from")) / 60_000;
  // A fifth of the chart, whose names take a tenth of it: 6.7 of 30 minutes.
  assert.ok(minutes > 6 && minutes < 7.5, `${minutes} min`);
});

live("a mark of the timeline names what happened then", { hash: "timeline" }, async (page) => {
  await page.locator(".pick").last().click();
  await page.getByRole("button", { name: /^only tokyo-3, marked moment/ }).click();
  await page.getByLabel("kind").selectOption("hand_over");
  assert.equal(await page.locator(".events li").count(), 3);
});

live("the keyboard opens a shard, and goes to another node's view", { hash: "shards" }, async (page) => {
  await page.getByPlaceholder(/slot 4711/).fill("slot 20000");
  await page.getByRole("link", { name: "shard 4", exact: true }).press("Enter");
  await page.waitForURL("**/#/shards/4");
  assert.match(await page.locator("section.one").textContent(), /led by busan-1 in.*term \d/s);
  await page.getByLabel("Look from").selectOption("tokyo-3");
  await page.waitForFunction(() => document.querySelector(".view b").textContent === "tokyo-3");
});

live("a hidden page asks nobody", { clock: true }, async (page, fixture) => {
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => globalThis.away });
    globalThis.away = true;
  });
  // One look may be under way; after it there is none.
  await page.clock.runFor(2500);
  await page.waitForLoadState("networkidle");
  const asked = fixture.asked.length;
  await page.clock.runFor(60_000);
  await page.waitForLoadState("networkidle");
  assert.equal(fixture.asked.length, asked);
  await page.evaluate(() => {
    globalThis.away = false;
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.waitForFunction(() => parseFloat(document.querySelector(".view b:nth-of-type(2)").textContent) < 2);
  assert.ok(fixture.asked.length > asked);
});

live("a command is copied on plain HTTP too", { state: "burning", from: "busan-1" }, async (page) => {
  const button = page.getByRole("button", { name: /^Copy the command firebreak status/ });
  await button.first().click();
  await page.getByText("copied").waitFor();
});

live("the lane of a silent node shows since when, and what others remember of it", { state: "burning", from: "busan-1" }, async (page, fixture) => {
  const now = fixture.world.now.bind(fixture.world);
  const at_ms = fixture.world.clock() - 6 * 60_000;
  fixture.world.now = (name) => ({ ...now(name), recent: [{ node: "seoul-2", at_ms, kind: "stop", shard: null, text: "its last word" }] });
  for (const hash of ["timeline", "now"]) {
    await visit(page, hash);
    await page.locator("title", { hasText: /^seoul-2 no answer, \d\d:\d\d:\d\d to/ }).waitFor({ state: "attached" });
    await page.locator("title", { hasText: /^seoul-2\s+\d\d:\d\d:\d\d its last word/ }).waitFor({ state: "attached" });
  }
});

live("the first page asks for all recordings seldom, and its lanes go on all the same", { clock: true }, async (page, fixture) => {
  const now = fixture.world.now.bind(fixture.world);
  await page.locator(".drawn").waitFor();
  const asked = () => fixture.asked.filter(({ path }) => path === "/api/timeline").length;
  const before = asked();
  fixture.world.now = (name) => {
    const told = now(name);
    const at_ms = told.seen_by.at_ms + 60_000;
    return { ...told, seen_by: { ...told.seen_by, at_ms }, recent: [{ node: "busan-3", at_ms: at_ms - 10, kind: "refusal", shard: null, text: "came just now" }] };
  };
  await page.clock.runFor(10_000);
  await page.locator("title", { hasText: /^busan-3\s+\d\d:\d\d:\d\d came just now/ }).waitFor({ state: "attached" });
  assert.ok(asked() - before <= 1, `${asked() - before} more in 10 s`);
});

live("what was drained by hand is not called broken", { state: "drain" }, async (page, fixture) => {
  const now = fixture.world.now.bind(fixture.world);
  fixture.world.now = (name) => {
    const told = now(name);
    const refuses = (node) => (node.draining ? { ...node, health: { ok: false, why: "it drains" } } : node);
    return { ...told, problems: [], nodes: told.nodes.map(refuses) };
  };
  await page.getByText(/is drained: it leads nothing and takes no clients/).waitFor({ timeout: 10_000 });
  assert.equal(await page.getByText("cannot append").count(), 0);
});

live("jobs that wait for the same, and events of many shards, are one line", { state: "burning", from: "busan-1", hash: "jobs" }, async (page, fixture) => {
  const jobs = fixture.world.jobs.bind(fixture.world);
  const rebuild = (shard) => ({ kind: "rebuild", what: `shard ${shard} on seoul-1`, state: "waiting", waits_for: "waiting: seoul-1 has been gone 66 s of 5 min", done_pct: null, since_ms: null });
  fixture.world.jobs = (name) => ({ ...jobs(name), jobs: [1, 2, 6].map(rebuild) });
  await page.getByText("3 replicas on seoul-1").waitFor({ timeout: 10_000 });
  assert.match(await page.locator(".jobs").textContent(), /waits for: seoul-1 has been gone 66 s of 5 minshard 1, shard 2, shard 6/);
  const timeline = fixture.world.timeline.bind(fixture.world);
  fixture.world.timeline = (...asked) => {
    const told = timeline(...asked);
    const events = [3, 1, 2].map((shard) => ({ at_ms: told.to_ms - 5000, kind: "quorum", shard, text: `hears no majority of shard ${shard}` }));
    return { ...told, lanes: told.lanes.map((lane) => ({ ...lane, events: lane.node === "busan-1" ? events : [] })) };
  };
  await visit(page, "timeline");
  await page.getByText("hears no majority of shard 1, 2, 3", { exact: true }).waitFor();
});

live("a drill is on every page with what ends it, and is gone with it", { state: "drilling" }, async (page, fixture) => {
  for (const hash of ["now", "shards", "promises", "drills"]) {
    await visit(page, hash);
    const banner = page.getByRole("complementary", { name: "A drill runs" });
    await banner.getByText("firebreak drill abort 2026-12-01-dc-silent-seoul-3f2a").waitFor();
  }
  fixture.set("healthy");
  await page.getByRole("complementary", { name: "A drill runs" }).waitFor({ state: "detached" });
  await page.getByText("No drill runs").waitFor();
});

live("a drill that is worse than its seeds and near its caps says so", { state: "drilling", hash: "drills" }, async (page) => {
  await page.getByText("1.6 s, worse than its seeds").waitFor();
  await page.locator(".gauge.near", { hasText: "longest gap" }).waitFor();
  await page.getByText("without it, it ends in").waitFor();
  assert.equal(await page.locator(".faults li").count(), 3);
  assert.equal(await page.locator(".day.shut").count(), 16);
});

live("a pulled lever, and a proof that is too old, are told with a shape and a word", { state: "gray", hash: "drills" }, async (page, fixture) => {
  await page.getByText("The safety lever is pulled").waitFor();
  await page.getByText("firebreak drill release").waitFor();
  fixture.set("burning");
  await visit(page, "promises");
  await page.locator("tr.pending", { hasText: "identical" }).getByText("too long ago").waitFor();
  assert.equal(await page.locator("tr.pending").count(), 3);
});

live("the safety lever asks before it is pulled, says what keeps it, and is released again", { state: "drilling", hash: "now" }, async (page, fixture) => {
  const banner = page.getByLabel("A drill runs");
  await banner.getByRole("button", { name: "Stop all drills" }).click();
  const yes = page.getByRole("button", { name: "Yes: stop all drills" });
  assert.ok(await yes.isDisabled(), "nobody pulls it without a name");
  await page.getByLabel("your name").fill("nobody");
  await yes.click();
  await page.getByText("the operator's name is barred").waitFor();
  assert.equal(fixture.moved, undefined);
  await page.getByLabel("your name").fill("minseo.park");
  await page.getByLabel("why").fill("a real fire");
  await shoot(page, "lever");
  await yes.click();
  await banner.waitFor({ state: "detached" });
  assert.deepEqual(fixture.moved, { pull: true, who: "minseo.park", why: "a real fire", kind: "application/json" });
  await visit(page, "drills");
  await page.getByText(/minseo\.park ended all drills at .*: a real fire/).waitFor();
  await page.getByRole("button", { name: "Release the lever" }).click();
  await page.getByRole("button", { name: "Yes: release the lever" }).click();
  await page.getByRole("button", { name: "Stop all drills" }).first().waitFor();
  assert.equal(fixture.moved.pull, false);
});
