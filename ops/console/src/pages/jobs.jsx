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
  const groups = grouped(jobs);
  return (
    <>
      <Told answer={answer} />
      {answer.body && (
        <Section title={jobs.length > 0 ? `Under way: ${jobs.length}` : "Under way"}>
          {jobs.length === 0 && <Empty>Nothing moves, drains, leaves or is rebuilt.</Empty>}
          <ul class="jobs">
            {groups.slice(0, SHOWN).map(([job, ...alike]) => (
              <Job key={`${job.kind} ${job.what}`} job={job} alike={alike} />
            ))}
          </ul>
          {groups.length > SHOWN && <p class="told">and {groups.length - SHOWN} more</p>}
        </Section>
      )}
    </>
  );
}

/** Jobs that wait for the same are one line: a burnt data center is hundreds of them. */
function grouped(jobs) {
  const groups = new Map();
  for (const job of jobs.filter(Boolean)) {
    const key = num(job.done_pct) === null && text(job.waits_for) ? [job.kind, job.state, job.waits_for].join("\n") : Symbol("alone");
    groups.set(key, [...(groups.get(key) ?? []), job]);
  }
  return [...groups.values()];
}

const NAMED = 12;

/** Of jobs that wait for the same: what all of them are, and what tells them apart. */
function told(jobs) {
  const whats = jobs.map((job) => text(job.what, "–"));
  const nodes = new Set(whats.map((what) => / on (\S+)$/.exec(what)?.[1]));
  const [node] = nodes;
  const same = nodes.size === 1 && node;
  const parts = same ? whats.map((what) => what.slice(0, -` on ${node}`.length)) : whats;
  const named = parts.slice(0, NAMED).join(", ");
  return {
    all: same ? `${whats.length} replicas on ${node}` : `${whats.length} alike`,
    named: parts.length > NAMED ? `${named} and ${parts.length - NAMED} more` : named,
  };
}

/** What it waits for, without a word that stands there already. */
const waits = (job) => text(job.waits_for).replace(/^waiting: /, "");

function Job({ job, alike }) {
  const { all, named } = told([job, ...alike]);
  const since = num(job.since_ms);
  return (
    <li>
      <span class="kind">
        <i aria-hidden="true">{SIGNS[job.kind] ?? "•"}</i> {text(job.kind, "job")}
      </span>
      <div class="work">
        <b>{alike.length > 0 ? all : text(job.what, "–")}</b> <span>{text(job.state)}</span>
        <p class="why">{text(job.waits_for) ? `waits for: ${waits(job)}` : "waits for nothing"}</p>
        {alike.length > 0 && <p class="why">{named}</p>}
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
