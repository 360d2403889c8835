import { useEffect, useState } from "preact/hooks";
import { answers, want } from "./net.js";

/** The newest answer of a path: { body, error, perf }, kept coming while the caller is on the page. */
export function useAnswer(path, everyMs = 2000) {
  useEffect(() => want(path, everyMs), [path, everyMs]);
  return answers.value[path] ?? {};
}

/** A ref, and the width of what it is on in px; 0 before it is known. */
export function useWidth() {
  const [element, setElement] = useState(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!element) return undefined;
    const watch = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width)));
    watch.observe(element);
    return () => watch.disconnect();
  }, [element]);
  return [setElement, width];
}

const darkMedia = matchMedia("(prefers-color-scheme: dark)");

/** Whether it is dark; canvases are painted anew when that changes. */
export function useDark() {
  const [dark, setDark] = useState(darkMedia.matches);
  useEffect(() => {
    const on = () => setDark(darkMedia.matches);
    darkMedia.addEventListener("change", on);
    return () => darkMedia.removeEventListener("change", on);
  }, []);
  return dark;
}
