// What the browser remembers. It may be full, forbidden or changed by others; nothing depends on it.
const PREFIX = "firebreak.";

export function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + key));
  } catch {
    return null;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // The page lives on in memory.
  }
}
