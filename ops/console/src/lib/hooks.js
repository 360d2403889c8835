import { useEffect, useRef, useState } from "preact/hooks";
import { answers, want } from "./net.js";

/** The newest answer of a path: { body, error, perf }, kept coming while the caller is on the page. */
export function useAnswer(path, everyMs = 2000) {
  useEffect(() => want(path, everyMs), [path, everyMs]);
  return answers.value[path] ?? {};
}

/** A ref, and the width of what it is on in px; 0 before it is known. */
export function useWidth() {
  const ref = useRef(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width)));
    if (ref.current) watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return [ref, width];
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
