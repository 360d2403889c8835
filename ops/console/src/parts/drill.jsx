// On every page while a drill runs: that it is one, whose it is, and what ends it.
import { moment, num, span, text } from "../lib/fmt.js";
import { nodeNow, now, tick } from "../lib/net.js";
import { Command } from "./bits.jsx";
import { Lever } from "./lever.jsx";

export function Banner() {
  const drill = now.value?.drill;
  if (!drill || !text(drill.id)) return null;
  const since = num(drill.began_ms);
  const at = tick.value && nodeNow();
  return (
    <aside class="drilling" aria-label="A drill runs">
      <p>
        <b>
          <i aria-hidden="true">◉</i> A drill runs
        </b>{" "}
        <span>
          {text(drill.scenario, "a drill")}
          {text(drill.target) ? ` on ${drill.target}` : ""}
          {since !== null && at !== null ? `, for ${span(Math.max(0, at - since))}` : ""}
          {since !== null ? ` (since ${moment(since)})` : ""}. What is wrong there is wrong on purpose.
        </span>{" "}
        <a href="#/drills">its figures</a>
      </p>
      <p class="abort">
        <b>ABORT</b> <Command words={text(drill.abort, "firebreak drill stop-all")} /> <Lever pulled={text(now.value?.lever) !== ""} />
      </p>
    </aside>
  );
}
