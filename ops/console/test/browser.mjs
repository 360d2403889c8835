// A browser that keeps account of what it must not do.
import { readFile, mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const here = fileURLToPath(new URL("..", import.meta.url));
const axe = await readFile(join(here, "node_modules/axe-core/axe.min.js"), "utf8");
export const folder = process.env.SCREENSHOTS ?? join(here, "target-ignored");

export const WIDTHS = { wide: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
export const PAGES = ["now", "timeline", "shards", "shards/3", "places", "whatif", "whatif?dc=seoul&node=busan-1", "jobs", "drills", "promises", "settings"];

export function launch(more = []) {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", ...more] });
}

/** A tab of that width and theme, and what went wrong in it. `prepare` gets the page before it asks for anything. */
export async function open(browser, { width = "wide", theme = "light", url, allowed, clock = false, prepare }) {
  const context = await browser.newContext({ viewport: WIDTHS[width], colorScheme: theme, hasTouch: width === "phone", reducedMotion: "reduce" });
  const page = await context.newPage();
  if (clock) await page.clock.install();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`threw: ${error.message}`));
  page.on("console", (message) => {
    // The browser itself tells of a dead node and of a refused question; a page cannot keep it from that.
    const dead = /^Failed to load resource: (net::ERR_|the server responded with a status of 4)/.test(message.text());
    if (message.type() === "error" && !dead) wrong.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!allowed.some((origin) => request.url().startsWith(origin))) wrong.push(`asked elsewhere: ${request.url()}`);
  });
  try {
    await prepare?.(page);
    await page.goto(url);
  } catch (error) {
    await context.close();
    throw error;
  }
  return { page, wrong, close: () => context.close() };
}

/** Goes to a page of the console and waits until it shows what it asked for. */
export async function visit(page, hash) {
  await page.evaluate((to) => (location.hash = `#/${to}`), hash);
  await settled(page);
}

export async function settled(page) {
  await page.waitForFunction(() => !/Asking(…| this node)/.test(document.body.textContent), null, { timeout: 30_000 });
}

/** Nothing is wider than the screen, and no page fell over. */
export async function fits(page, where) {
  const wide = await page.evaluate(() => {
    const { clientWidth, scrollWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const over = [...document.body.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > clientWidth + 1);
    return over.slice(0, 5).map((one) => `${one.tagName}.${one.getAttribute("class")} ends at ${Math.round(one.getBoundingClientRect().right)}`);
  });
  assert.deepEqual(wide, [], `${where}: wider than the screen`);
  assert.equal(await page.getByText("This page cannot be shown").count(), 0, `${where}: it fell over what it was told`);
}

/** It fits, and axe finds nothing serious. */
export async function sound(page, where) {
  await fits(page, where);
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const grave = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = grave.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html} (${node.any[0]?.message ?? ""})`).join(" | ")}`);
  assert.deepEqual(told, [], `${where}: axe`);
}

export async function shoot(page, name) {
  await mkdir(folder, { recursive: true });
  // As high as what it shows, so that what is fixed to an edge stands at the edge.
  const before = page.viewportSize();
  await page.evaluate(() => scrollTo(0, 0));
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width: before.width, height: Math.max(before.height, height) });
  await page.screenshot({ path: join(folder, `${name.replaceAll(/[^\w-]+/g, "-")}.png`), fullPage: true });
  await page.setViewportSize(before);
}
