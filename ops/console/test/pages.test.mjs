// Each page in each state, wide and on a phone, light and dark.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { NODES } from "../dev/world.mjs";
import { Fixture } from "../dev/fixture.mjs";
import { PAGES, launch, open, shoot, settled, sound, visit } from "./browser.mjs";

const ALL = ["wide", "phone"].flatMap((width) => ["light", "dark"].map((theme) => [width, theme]));
const TWO = [["wide", "light"], ["phone", "dark"]];
const CASES = [
  ...["healthy", "burning", "two_dead", "drain"].map((state) => [state, 12, ALL]),
  ...["healthy", "burning"].map((state) => [state, 511, TWO]),
  ...["drilling"].map((state) => [state, 12, ALL]),
  ...["forming", "gray", "bare", "hostile"].map((state) => [state, 12, TWO]),
];

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

for (const [state, data, views] of CASES) {
  for (const [width, theme] of views) {
    test(`${state} with ${data + 1} shards, ${width}, ${theme}`, async () => {
      const fixture = await Fixture.start({ state, data });
      const allowed = NODES.map(({ name }) => fixture.url(name));
      const { page, wrong, close } = await open(browser, { width, theme, url: fixture.url("busan-2"), allowed });
      try {
        for (const hash of PAGES) {
          const where = `${state}-${data + 1}-${hash}-${width}-${theme}`;
          await visit(page, hash);
          if (hash === "now" && state === "healthy") await page.locator(".heard button").nth(2).click();
          if (hash === "places" && state !== "bare") await page.locator("details.node > summary").nth(3).click();
          await shoot(page, where);
          await sound(page, where);
        }
        assert.deepEqual(wrong, []);
        assert.equal(await page.evaluate(() => globalThis.owned), undefined, "a name became a script");
      } finally {
        await close();
        await fixture.stop();
      }
    });
  }
}

for (const [width, theme] of ALL) {
  test(`nobody answers any more, ${width}, ${theme}`, async () => {
    const fixture = await Fixture.start({ state: "burning" });
    const allowed = NODES.map(({ name }) => fixture.url(name));
    const { page, wrong, close } = await open(browser, { width, theme, url: fixture.url("busan-2"), allowed });
    try {
      await settled(page);
      await visit(page, "shards");
      await visit(page, "now");
      await fixture.stop();
      await page.getByText("Nobody answers").waitFor({ timeout: 20_000 });
      for (const hash of ["now", "shards", "places"]) {
        await visit(page, hash);
        await shoot(page, `nobody-${hash}-${width}-${theme}`);
        await sound(page, `nobody-${hash}-${width}-${theme}`);
      }
      assert.match(await page.locator(".top").textContent(), /None of 9 nodes answers this page.*As seen by busan-2/s);
      assert.match(await page.title(), /^\? Nobody answers/);
      assert.deepEqual(wrong, []);
    } finally {
      await close();
    }
  });
}
