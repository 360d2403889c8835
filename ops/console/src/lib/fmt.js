// Numbers and times in words. Whatever is not known is a dash, never a zero.
import { zone } from "./zone.js";

export const DASH = "–";

/** The number, or null for whatever is none. */
export function num(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** An array, also where the answer has none. */
export function list(value) {
  return Array.isArray(value) ? value : [];
}

/** Text, also where the answer has none. */
export function text(value, otherwise = "") {
  return typeof value === "string" && value !== "" ? value : otherwise;
}

/** `12,345`; `3.4` below 100 when it is not whole. */
export function count(value) {
  const n = num(value);
  if (n === null) return DASH;
  const digits = Number.isInteger(n) || Math.abs(n) >= 100 ? 0 : 1;
  return n.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** `1 node`, `2 nodes`. */
export function counted(value, noun, nouns = `${noun}s`) {
  return `${count(value)} ${value === 1 ? noun : nouns}`;
}

/** `33 %`. */
export function percent(value) {
  const n = num(value);
  return n === null ? DASH : `${Math.round(n)} %`;
}

/** `0.4 ms`, `312 ms`, `1.2 s`, `42 s`, `7 min`, `3 h`, `12 d`. */
export function span(value) {
  const ms = num(value);
  if (ms === null) return DASH;
  const size = Math.abs(ms);
  if (size < 10) return `${trim(ms, 1)} ms`;
  if (size < 1000) return `${Math.round(ms)} ms`;
  if (size < 10_000) return `${trim(ms / 1000, 1)} s`;
  if (size < 120_000) return `${Math.round(ms / 1000)} s`;
  if (size < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (size < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

function trim(n, digits) {
  return String(Number(n.toFixed(digits)));
}

/** `12.4 GiB`. */
export function bytes(value) {
  let n = num(value);
  if (n === null) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) {
    n /= 1024;
    at += 1;
  }
  return `${n >= 100 || at === 0 ? Math.round(n) : n.toFixed(1)} ${units[at]}`;
}

/** How far a clock is off, in words. */
export function clockOff(value) {
  const ms = num(value);
  if (ms === null) return "not known";
  if (ms === 0) return "right";
  return `${span(Math.abs(ms))} ${ms < 0 ? "behind" : "ahead"}`;
}

/** The share of a disk that is used, in percent; null when not known. */
export function diskUsed(node) {
  const [free, total] = [num(node.disk_free_bytes), num(node.disk_total_bytes)];
  return free === null || !total ? null : (1 - free / total) * 100;
}

const parts = new Map();

function formatter(timeZone) {
  if (!parts.has(timeZone)) {
    const options = { timeZone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit" };
    const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
    parts.set(timeZone, new Intl.DateTimeFormat("en-CA", { ...options, ...clock }));
  }
  return parts.get(timeZone);
}

/** Year to second of a moment in a zone, as strings. */
export function civil(ms, timeZone) {
  const found = formatter(timeZone).formatToParts(new Date(ms));
  return Object.fromEntries(found.map(({ type, value }) => [type, value]));
}

/** `03:12:44` in the first of the two zones. */
export function clock(ms, which = zone.value.first) {
  if (num(ms) === null) return DASH;
  const { hour, minute, second } = civil(ms, which.zone);
  return `${hour}:${minute}:${second}`;
}

/** `11-30 03:12:44 KST · 18:12:44 UTC`: in both zones, with the day where asked. */
export function moment(ms, withDay = false) {
  if (num(ms) === null) return DASH;
  const { first, second } = zone.value;
  const one = (which) => {
    const { month, day } = civil(ms, which.zone);
    return `${withDay ? `${month}-${day} ` : ""}${clock(ms, which)} ${which.name}`;
  };
  return second ? `${one(first)} · ${one(second)}` : one(first);
}

/** `2026-11-30 03:12 KST`: a moment that may be months away. */
export function date(ms) {
  return num(ms) === null ? DASH : `${stamp(ms).slice(0, -3)} ${zone.value.first.name}`;
}

/** `2026-11-30 03:12:44` for an input. */
export function stamp(ms) {
  if (num(ms) === null) return "";
  const { year, month, day, hour, minute, second } = civil(ms, zone.value.first.zone);
  return `${year}-${month}-${day} ${hour}:${minute}:${second}`;
}

/** What `stamp` wrote, or only a time of the day of `about`; null when it is no time. */
export function parseStamp(written, about) {
  const found = /^\s*(?:(\d{4})-(\d\d?)-(\d\d?)[ T]+)?(\d\d?):(\d\d)(?::(\d\d))?\s*$/.exec(written);
  if (!found) return null;
  const day = civil(about, zone.value.first.zone);
  const [, year = day.year, month = day.month, date = day.day, hour, minute, second = "0"] = found;
  const utc = Date.UTC(+year, +month - 1, +date, +hour, +minute, +second);
  if (+hour > 23 || +minute > 59 || +second > 59 || +month > 12 || +date > 31) return null;
  // The zone's offset depends on the moment; twice is enough to find it.
  let ms = utc - offset(utc);
  ms = utc - offset(ms);
  return ms;
}

/** What the first zone is ahead of UTC at `ms`. */
export function offset(ms) {
  const { year, month, day, hour, minute, second } = civil(ms, zone.value.first.zone);
  return Date.UTC(+year, +month - 1, +day, +hour, +minute, +second) - Math.floor(ms / 1000) * 1000;
}
