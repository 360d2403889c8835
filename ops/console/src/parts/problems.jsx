// What is not as it should be, worst first: why, the runbook, and the command to copy.
import { useState } from "preact/hooks";
import { list, text } from "../lib/fmt.js";
import { Command, Mark, Section } from "./bits.jsx";

const SHOWN = 8;

export function Problems({ problems, moves }) {
  const [all, setAll] = useState(false);
  if (problems.length === 0) {
    return (
      <Section title="Not as it should be" cls="calm">
        <p class="empty">
          <Mark cls="held" sign="✓">Nothing. Everything is in its place.</Mark>
        </p>
        <Moves moves={moves} />
      </Section>
    );
  }
  const worst = [...problems].sort((a, b) => Number(Boolean(b?.stops)) - Number(Boolean(a?.stops)));
  const shown = all ? worst : worst.slice(0, SHOWN);
  return (
    <Section title={`Not as it should be: ${problems.length}`}>
      <ol class="problems">
        {shown.map((one, at) => (
          <Problem key={`${at} ${one?.what}`} one={one ?? {}} />
        ))}
      </ol>
      {list(worst).length > SHOWN && (
        <button type="button" onClick={() => setAll(!all)}>
          {all ? `show the worst ${SHOWN}` : `show all ${worst.length}`}
        </button>
      )}
      <Moves moves={moves} />
      {worst.some((one) => text(one?.runbook)) && (
        <p class="told runbooks">
          Runbooks are in the binary: <code>firebreak generate runbooks NAME</code> prints one.
        </p>
      )}
    </Section>
  );
}

function Moves({ moves }) {
  return list(moves).map((words) => (
    <p class="moving" key={words}>
      <Mark cls="pending" sign="◐">{words}</Mark> <a href="#/jobs">Jobs</a>
    </p>
  ));
}

function Problem({ one }) {
  return (
    <li class={one.stops ? "failed" : "pending"}>
      <div class="what">
        {one.stops ? <Mark cls="failed" sign="✗">stops calls</Mark> : <Mark cls="pending" sign="▲">still served</Mark>}
        <b>{text(one.what, "something without a name")}</b>
      </div>
      {text(one.why) && <p class="why">{one.why}</p>}
      <div class="do">
        {text(one.runbook) && (
          <span class="told">
            runbook <code>{one.runbook}</code>
          </span>
        )}
        {text(one.command) && <Command words={one.command} />}
      </div>
    </li>
  );
}
