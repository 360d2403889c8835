// Jobs: what moves, and what it waits for.
import { useAnswer } from "../lib/hooks.js";
import { list, moment, num, span, text } from "../lib/fmt.js";
import { nodeNow } from "../lib/net.js";
import { Empty, Section, Share, Told } from "../parts/bits.jsx";

const SIGNS = { move: "→", drain: "◐", leave: "⇥", rebuild: "↻", scrub: "✓" };
const SHOWN = 200;

export function Jobs() {
  const answer = useAnswer("/api/jobs", 2000);
  const jobs = list(answer.body?.jobs);
  return (
    <>
      <Told answer={answer} />
      {answer.body && (
        <Section title={jobs.length > 0 ? `Under way: ${jobs.length}` : "Under way"}>
          {jobs.length === 0 && <Empty>Nothing moves, drains, leaves or is rebuilt.</Empty>}
          <ul class="jobs">
            {jobs.slice(0, SHOWN).map((job, at) => (
              <Job key={`${job?.kind} ${job?.what} ${at}`} job={job ?? {}} />
            ))}
          </ul>
          {jobs.length > SHOWN && <p class="told">and {jobs.length - SHOWN} more</p>}
        </Section>
      )}
    </>
  );
}

function Job({ job }) {
  const since = num(job.since_ms);
  return (
    <li>
      <span class="kind">
        <i aria-hidden="true">{SIGNS[job.kind] ?? "•"}</i> {text(job.kind, "job")}
      </span>
      <div class="work">
        <b>{text(job.what, "–")}</b> <span>{text(job.state)}</span>
        <p class="why">{text(job.waits_for) ? `waits for: ${job.waits_for}` : "waits for nothing"}</p>
        {since !== null && (
          <small class="told">
            since {moment(since)}
            {nodeNow() ? `, for ${span(nodeNow() - since)}` : ""}
          </small>
        )}
      </div>
      {num(job.done_pct) !== null && <Share value={job.done_pct} label={`${Math.round(job.done_pct)} % done`} />}
    </li>
  );
}
