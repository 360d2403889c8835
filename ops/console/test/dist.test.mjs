// What is committed is what the sources build, small, and of one face with the simulator's pages.
import { test } from "node:test";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";

const here = fileURLToPath(new URL("..", import.meta.url));

test("dist is what a build makes", () => {
  execFileSync(process.execPath, ["build.mjs", "--check"], { cwd: here, stdio: "pipe" });
});

test("all of it is below 150 KB, compressed", async () => {
  const names = (await readdir(join(here, "dist"))).filter((name) => name.endsWith(".gz"));
  const sizes = await Promise.all(names.map(async (name) => (await readFile(join(here, "dist", name))).length));
  assert.ok(sizes.reduce((sum, size) => sum + size, 0) < 150 * 1024);
});

test("the page has no script or style of its own, so that the strictest policy holds", async () => {
  const html = await readFile(join(here, "dist/index.html"), "utf8");
  assert.doesNotMatch(html, /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|https?:/);
  const css = await readFile(join(here, "dist/app.css"), "utf8");
  assert.doesNotMatch(css, /https?:|@import|data:/);
});

test("colours are those of the simulator's pages", async () => {
  const tokens = (css) => [...css.matchAll(/:root\s*\{([^}]*)\}/g)].slice(0, 2).map(([, body]) => Object.fromEntries(body.split(";").map((one) => one.trim().split(/:\s*/)).filter(([key]) => key)));
  const [own, theirs] = await Promise.all(["src/css/tokens.css", "../../sim/src/reports/page.css"].map(async (file) => tokens(await readFile(join(here, file), "utf8"))));
  assert.deepEqual(own, theirs);
});
