// In which zones times are shown; remembered by the browser.
import { signal } from "@preact/signals";
import { recall, remember } from "./memory.js";

const UTC = { name: "UTC", zone: "UTC" };
const KST = { name: "KST", zone: "Asia/Seoul" };

function viewers() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  return { name: name.split("/").pop().replaceAll("_", " "), zone: name };
}

export const zones = {
  utc: { title: "UTC, KST", first: UTC, second: KST },
  kst: { title: "KST, UTC", first: KST, second: UTC },
  own: { title: `${viewers().name}, UTC`, first: viewers(), second: UTC },
};

const saved = recall("zone");

/** The choice: `first` is on every axis, `second` beside it in words. */
export const zone = signal(zones[saved] ?? zones.utc);

export function choose(key) {
  zone.value = zones[key] ?? zones.utc;
  remember("zone", key);
}
