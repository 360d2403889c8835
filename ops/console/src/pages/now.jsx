// Now: whether users are hurt, whether the next loss can be borne, and what moves.
import { useAnswer } from "../lib/hooks.js";
import { nodes, now } from "../lib/net.js";
import { clockOff, count, counted, list, num, percent, span, text } from "../lib/fmt.js";
import { dcNames } from "../lib/places.js";
import { href } from "../lib/route.js";
import { fromNow, live } from "../lib/tape.js";
import { Dc, Figure, Mark, Section, Share, Spark, Told, nodeState } from "../parts/bits.jsx";
import { LaneChart } from "../parts/lanes.jsx";
import { Matrix } from "../parts/matrix.jsx";
import { Problems } from "../parts/problems.jsx";

/** Between two looks at the recordings of all nodes. */
const TAPE_MS = 30_000;

export function Now() {
  const body = now.value;
  // What came since then is in each answer of `/api/now`.
  const timeline = useAnswer("/api/timeline", TAPE_MS);
  const problems = list(body.problems);
  const tape = timeline.body ? live(timeline.body) : timeline.error && list(body.recent).length > 0 ? fromNow() : null;
  const minutes = tape ? Math.max(1, Math.round((tape.to_ms - tape.from_ms) / 60_000)) : 30;
  return (
    <>
      <Figures body={body} load={timeline.body?.load} />
      <Problems problems={problems} moves={moves(body)} />
      <h2 class="over">Can the next loss be borne?</h2>
      <div class="cards">
        {[...list(body.dcs)].sort((a, b) => order(a) - order(b)).map((dc) => (
          <Center key={dc.dc} dc={dc} />
        ))}
      </div>
      <Matrix />
      <Section title={minutes === 1 ? "The last minute" : `The last ${minutes} minutes`} more={<a href="#/timeline">Timeline, with load and events</a>}>
        <Told answer={timeline} freshMs={2 * TAPE_MS} />
        {tape && <LaneChart body={tape} />}
      </Section>
    </>
  );
}

const order = (dc) => dcNames.value.indexOf(dc?.dc);

/** What moves, or was sent away, by hand or by itself: nothing is wrong with it. */
function moves(body) {
  const drained = nodes.value.filter((node) => node.draining && !node.silent);
  const dcs = list(body.dcs).filter((dc) => num(dc?.draining) > 0 && dc.draining === dc.nodes);
  const others = drained.filter((node) => !dcs.some(({ dc }) => dc === node.dc));
  const moving = num(body.shards?.moving) ?? 0;
  return [
    ...dcs.map(({ dc }) => `${dc} is drained: it leads nothing and takes no clients`),
    ...(others.length > 0 ? [`${others.map(({ name }) => name).slice(0, 6).join(", ")}${others.length > 6 ? ` and ${others.length - 6} more` : ""} drained`] : []),
    ...(moving > 0 ? [`${counted(moving, "replica")} on the way to another node`] : []),
  ];
}

/** Margin in words: what one more loss of a replica means. */
function margin(figures) {
  const n = num(figures.margin);
  const shards = num(figures.margin_shards);
  const of = shards === null ? "" : ` (${counted(shards, "shard")})`;
  if (n === null) return { value: "–", below: "not known", cls: "" };
  if (n < 0) return { value: "no quorum", below: `of the weakest shard${of}`, cls: "failed" };
  if (n === 0) return { value: "0", below: `one more lost replica stops it${of}`, cls: "pending" };
  return { value: `+${n}`, below: `above a quorum, weakest shard${of}`, cls: "held" };
}

function Figures({ body, load }) {
  const figures = body.figures ?? {};
  const shards = body.shards ?? {};
  const failed = num(figures.failed_5m);
  const dark = num(figures.leaderless);
  const weakest = margin(figures);
  const asleep = num(shards.asleep) ? `, ${count(shards.asleep)} asleep` : "";
  return (
    <div class="figures">
      <Figure name="Acknowledged" value={`${count(figures.acks_per_s)}/s`} below={num(figures.reads_per_s) === null ? "appends a second" : `appends; ${count(figures.reads_per_s)} reads/s`}>
        <Spark values={list(load?.acks_per_s)} cls="acks" label="Appends a second over the last 30 minutes" />
      </Figure>
      <Figure name="p99" value={span(figures.p99_ms)} below="of appends">
        <Spark values={list(load?.p99_ms)} cls="p99" label="p99 over the last 30 minutes" log />
      </Figure>
      <Figure name="Longest gap, 5 min" value={span(figures.gap_5m_ms)} below={text(figures.gap_5m_whose, num(figures.gap_5m_ms) === null ? "not known" : "nobody waited")} />
      <Figure
        name="Failed calls, 5 min"
        value={count(failed)}
        below={failed ? "users were told no" : failed === 0 ? "no call failed" : "not known"}
        cls={failed ? "failed" : failed === 0 ? "held" : ""}
      />
      <Figure
        name="Shards without leader"
        value={`${count(dark)} of ${count(shards.total)}`}
        below={num(figures.no_quorum) ? `${count(figures.no_quorum)} of them without a quorum` : `${count(shards.led)} led${asleep}`}
        cls={dark ? "failed" : dark === 0 ? "held" : ""}
      />
      <Figure name="Weakest margin" {...weakest} />
    </div>
  );
}

function Center({ dc }) {
  const own = nodes.value.filter((node) => node.dc === dc.dc);
  const alive = num(dc.alive);
  const dead = alive === 0;
  const dark = num(now.value.shards?.total) > 0 && num(now.value.figures?.no_quorum) === now.value.shards.total;
  const some = alive !== null && alive < num(dc.nodes);
  const state = alive === null ? ["pending", "?"] : dead ? ["failed", "✗"] : some ? ["pending", "▲"] : ["held", "●"];
  return (
    <section class={`card ${dead ? "ghost" : ""}`} aria-label={`Data center ${dc.dc}`}>
      <h3>
        <Dc dc={dc.dc} /> <small>{text(dc.region)}</small>
      </h3>
      <dl>
        <dt>Alive</dt>
        <dd>
          <Mark cls={state[0]} sign={state[1]}>
            {count(alive)} of {count(dc.nodes)} nodes
          </Mark>
          {num(dc.draining) ? <Mark cls="pending" sign="◐">{`${dc.draining} drained`}</Mark> : null}
          <span class="dots">
            {own.map((node) => (
              <NodeDot key={node.name} node={node} />
            ))}
          </span>
        </dd>
        <dt>Leads</dt>
        <dd>
          <Share value={dc.leads_pct} label={`${counted(num(dc.leads), "shard")}, ${percent(dc.leads_pct)}`} />
        </dd>
        <dt>Lose it</dt>
        <dd>
          <Loss dc={dc} dead={dead} dark={dark} />
        </dd>
        <dt>Disk</dt>
        <dd>
          <Disk dc={dc} dead={dead} />
        </dd>
        <dt>Clock</dt>
        <dd>
          {dead || num(dc.clock_off_ms) === null ? (
            "not known"
          ) : dc.clock_off_ms === 0 ? (
            <Mark cls="held" sign="✓">right</Mark>
          ) : (
            <Mark cls="pending" sign="▲">{clockOff(dc.clock_off_ms)}</Mark>
          )}
        </dd>
      </dl>
    </section>
  );
}

function NodeDot({ node }) {
  const { cls, sign, word, short } = nodeState(node);
  return (
    <a class={`dot ${cls}`} href={href("places", [node.name])} title={`${node.name}: ${word}`}>
      <i aria-hidden="true">{sign}</i> {node.name}
      {cls !== "held" && ` ${short ?? word}`}
    </a>
  );
}

function Loss({ dc, dead, dark }) {
  const lose = dc.lose;
  if (!lose) return "not known";
  if (dead) {
    return (
      <>
        <Mark cls="failed" sign="✗">lost now</Mark>
        <span class="why line">{text(lose.why)}</span>
      </>
    );
  }
  return (
    <>
      {lose.served ? (
        <Mark cls="held" sign="✓">
          still serves, {lose.gap_ms === 0 ? "nobody notices" : num(lose.gap_ms) === null ? "gap not known" : `gap about ${span(lose.gap_ms)}`}
        </Mark>
      ) : (
        <Mark cls="failed" sign="✗">{dark ? "serves nothing already" : "would stop serving"}</Mark>
      )}
      <span class="why line">
        {dark ? "no shard has a quorum" : text(lose.why)} <a href={href("whatif", [], [["dc", dc.dc]])}>what if</a>
      </span>
    </>
  );
}

/** Where a disk is called short: the others have to take over what is lost. */
const SHORT_PCT = 85;

function Disk({ dc, dead }) {
  const after = num(dc.lose?.disk_after_pct);
  return (
    <>
      <Share value={dc.disk_used_pct} label={`${percent(dc.disk_used_pct)} used`} />
      {!dead && after !== null && (
        <span class={after > SHORT_PCT ? "mark pending" : "told"}>
          {after > SHORT_PCT ? "▲ " : ""}others at {percent(after)} after its loss
        </span>
      )}
    </>
  );
}
