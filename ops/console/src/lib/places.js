// Data centers as the pages show them: a colour, a pattern and a letter each, alike on every page and
// whoever tells.
import { computed } from "@preact/signals";
import { list, text } from "./fmt.js";
import { nodes, now } from "./net.js";

const COLOURS = 6;

/** Names of data centers, sorted. */
export const dcNames = computed(() => {
  const names = list(now.value?.dcs).map((dc) => text(dc?.dc));
  const more = nodes.value.map((node) => text(node.dc));
  return [...new Set([...names, ...more])].filter(Boolean).sort();
});

const letters = computed(() => {
  const taken = new Map();
  for (const name of dcNames.value) {
    const wanted = [...name.toUpperCase()].filter((letter) => /[\p{L}\p{N}]/u.test(letter));
    const spare = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"];
    const used = new Set(taken.values());
    taken.set(name, [...wanted, ...spare].find((letter) => !used.has(letter)) ?? "?");
  }
  return taken;
});

/** Class of a data center's colour; `cx` for none. */
export function colour(dc) {
  const at = dcNames.value.indexOf(dc);
  return at < 0 ? "cx" : `c${at % COLOURS}`;
}

/** Its letter: what says the same without colour. */
export function letter(dc) {
  return letters.value.get(dc) ?? "?";
}

/** Number of its pattern, 0 for plain. */
export function pattern(dc) {
  return Math.max(0, dcNames.value.indexOf(dc)) % COLOURS;
}

/** A node's data center. */
export function dcOf(name) {
  return text(nodes.value.find((node) => node.name === name)?.dc);
}
