// Hash routes: `#/shards/3?x=y`. What a page shows can be sent to a colleague.
import { signal } from "@preact/signals";

function parse() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page = "", ...rest] = path.split("/").map(decode);
  return { page: page || "now", rest, query: new URLSearchParams(query) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = signal(parse());
addEventListener("hashchange", () => {
  route.value = parse();
});

/** `#/page/rest?query`, from parts that need no escaping yet. */
export function href(page, rest = [], query = null) {
  const path = [page, ...rest].map((part) => encodeURIComponent(part)).join("/");
  const asked = query ? new URLSearchParams(query).toString() : "";
  return `#/${path}${asked ? `?${asked}` : ""}`;
}

export function go(target) {
  location.hash = target;
}
