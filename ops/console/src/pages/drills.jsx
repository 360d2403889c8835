// Drills: the one that runs, what is next, when none may begin, and what was.
import { useAnswer } from "../lib/hooks.js";
import { count, date, list, moment, num, span, text } from "../lib/fmt.js";
import { nodeNow, tick } from "../lib/net.js";
import { Command, Empty, Mark, Section, Told } from "../parts/bits.jsx";
import { Lever } from "../parts/lever.jsx";

const DAY_MS = 86_400_000;
const WEEKS = 6;
const SHOWN = 30;

/** Class, shape and word of how a drill ended. */
const ENDS = {
  passed: ["held", "✓", "passed"],
  missed: ["pending", "▲", "goal missed"],
  broken: ["failed", "✗", "promise broken"],
  aborted: ["pending", "■", "aborted"],
  inconclusive: ["calm", "?", "inconclusive"],
  withdrawn: ["calm", "–", "taken back"],
};

export function Drills() {
  const answer = useAnswer("/api/drills", 2000);
  const { body } = answer;
  const history = list(body?.history);
  return (
    <>
      <Told answer={answer} />
      {body && (
        <>
          <Safety lever={body.lever} />
          {body.running ? <Running drill={body.running} /> : <Idle body={body} last={history.find((one) => num(one.began_ms) > 0)} />}
          {list(body.open).length > 0 && <OpenOnes open={list(body.open)} needed={num(body.needed)} />}
          <Calendar body={body} />
          <History history={history} />
        </>
      )}
    </>
  );
}

function Safety({ lever }) {
  if (!lever) {
    return (
      <Section title="The safety lever">
        <p class="told">Pulled, it ends all drills and takes their faults out, and none begins until it is released.</p>
        <p>
          <Lever pulled={false} /> <span class="told">or</span> <Command words="firebreak drill stop-all" />
        </p>
      </Section>
    );
  }
  return (
    <Section title="The safety lever is pulled">
      <p class="wrong">
        <i aria-hidden="true">■</i> {text(lever.who, "Somebody")} ended all drills at {date(num(lever.at_ms))}
        {text(lever.why) ? `: ${lever.why}` : ""}. None begins until it is released.
      </p>
      <p>
        <Lever pulled /> <span class="told">or</span> <Command words="firebreak drill release" />
      </p>
    </Section>
  );
}

const place = (drill) => `${text(drill.scenario, "a drill")}${text(drill.target) ? ` on ${drill.target}` : ""}`;

function Idle({ body, last }) {
  const next = list(body.standing).find((one) => one.allowed && num(one.next_ms) !== null);
  return (
    <Section title="No drill runs">
      <p class="facts">
        <span>
          next <b>{next ? `${text(next.name)}, ${date(next.next_ms)}` : "none is scheduled"}</b>
        </span>
        <span>
          last <b>{last ? `${place(last)}, ${date(last.ended_ms)}` : "never"}</b> {last && <End end={last.end} />}
        </span>
      </p>
      {next && text(next.blocked_by) && (
        <p class="wrong">
          <i aria-hidden="true">▲</i> {text(next.name)} falls into the blocked window “{next.blocked_by}” and will not begin.
        </p>
      )}
    </Section>
  );
}

function Running({ drill }) {
  const live = drill.live ?? {};
  const [predicted, p50, p99, measured] = [live.predicted, live.simulated_p50, live.simulated_p99, live.measured].map((one) => one ?? {});
  const rows = [
    ["longest gap", "gap_ms", (value) => span(num(value))],
    ["failed calls", "failed", (value) => count(num(value))],
    ["replicas that moved", "moves", (value) => count(num(value))],
  ];
  return (
    <Section title={`Running: ${place(drill)}`} cls="running">
      <p class="why">{text(drill.hypothesis)}</p>
      <Clock drill={drill} />
      {drill.live ? (
        <table class="stack sides">
          <thead>
            <tr>
              <th scope="col" />
              <th scope="col" class="n">
                predicted
              </th>
              <th scope="col" class="n">
                simulated p50 · p99
              </th>
              <th scope="col" class="n">
                measured
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map(([name, key, words]) => (
              <tr key={key}>
                <th scope="row">{name}</th>
                <td class="n" data-label="predicted">
                  {words(predicted[key])}
                </td>
                <td class="n" data-label="simulated p50 · p99">
                  {words(p50[key])} · {words(p99[key])}
                </td>
                <td class="n" data-label="measured">
                  <Measured value={num(measured[key])} p99={num(p99[key])} words={words} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <Empty>Its controller has told no figures yet.</Empty>
      )}
      <div class="gauges">
        <Gauge name="failed calls" value={num(measured.failed)} cap={num(drill.cap_failed)} words={(value) => count(value)} />
        <Gauge name="longest gap" value={num(measured.gap_ms)} cap={num(drill.cap_gap_ms)} words={(value) => span(value)} />
        <Gauge name="replicas above a quorum" value={num(drill.margin)} cap={num(drill.cap_margin)} words={(value) => count(value)} least />
      </div>
      <Faults faults={list(drill.faults)} />
      <p class="abort">
        <b>ABORT</b> <Command words={text(drill.abort, "firebreak drill stop-all")} /> <span class="told">or, for all and until released,</span>{" "}
        <Command words="firebreak drill stop-all" />
      </p>
      <p class="told">ABORT ends this drill. The lever ends all, and is the only thing that the console changes: it has no logins, and asks for a name.</p>
      <Notes notes={list(drill.notes)} />
    </Section>
  );
}

/** Worse than 99 of 100 seeds: the model or the machine is wrong. */
function Measured({ value, p99, words }) {
  if (value === null || p99 === null || value <= p99) return <b>{words(value)}</b>;
  return (
    <Mark cls="failed" sign="▲">
      {words(value)}, worse than its seeds
    </Mark>
  );
}

/** The dead-man clock: when nobody is heard, it ends. */
function Clock({ drill }) {
  const heard = num(drill.heard_ms);
  const at = tick.value && nodeNow();
  const silent = heard === null || at === null ? null : Math.max(0, at - heard);
  const left = num(drill.ends_unheard_ms);
  const late = silent !== null && silent > 15_000;
  return (
    <p class="facts deadman">
      <span>
        begun <b>{moment(num(drill.began_ms))}</b>
      </span>
      <span>
        controller <b>{text(drill.controller, "nobody")}</b>,{" "}
        <Mark cls={late ? "pending" : "held"} sign={late ? "▲" : "●"}>
          heard {silent === null ? "–" : `${span(silent)} ago`}
        </Mark>
      </span>
      <span>
        without it, it ends in <b>{span(left)}</b>
      </span>
    </p>
  );
}

function Gauge({ name, value, cap, words, least = false }) {
  const over = value !== null && cap !== null && (least ? value < cap : value > cap);
  const full = cap === null || value === null ? 0 : least ? (value <= 0 ? 100 : (cap / value) * 100) : cap === 0 ? (value > 0 ? 100 : 0) : (value / cap) * 100;
  const near = !over && full > 80;
  const cls = over ? "over" : near ? "near" : "";
  const sign = over ? "✗ " : near ? "▲ " : "";
  return (
    <div class={`gauge ${cls}`}>
      <h3>{name}</h3>
      <p>
        {sign}
        <b>{value === null ? "–" : words(value)}</b> <small>{cap === null ? "no cap" : `ends it ${least ? "below" : "above"} ${words(cap)}`}</small>
      </p>
      <span class="track" aria-hidden="true">
        <span style={{ width: `${Math.min(100, Math.max(0, full))}%` }} />
      </span>
    </div>
  );
}

function Faults({ faults }) {
  if (faults.length === 0) return <p class="told">No fault is on.</p>;
  return (
    <ul class="faults">
      {faults.map((fault, at) => (
        <li key={`${fault.node} ${fault.kind} ${at}`}>
          <Mark cls="fire" sign="◉">
            {text(fault.kind, "fault")}
          </Mark>{" "}
          on {text(fault.node, "a node")} <span class="told">ends by itself in {span(num(fault.left_ms))}</span>
        </li>
      ))}
    </ul>
  );
}

function Notes({ notes }) {
  return (
    <ul class="notes">
      {notes.slice(0, SHOWN).map((note, at) => (
        <li key={at}>
          <time>{moment(num(note.at_ms))}</time> <span class="said">{text(note.text)}</span>
        </li>
      ))}
    </ul>
  );
}

function OpenOnes({ open, needed }) {
  return (
    <Section title="Planned">
      <table class="stack">
        <thead>
          <tr>
            <th scope="col">drill</th>
            <th scope="col">what</th>
            <th scope="col">by</th>
            <th scope="col">approved</th>
          </tr>
        </thead>
        <tbody>
          {open.map((one) => (
            <tr key={one.id}>
              <th scope="row">
                <code>{text(one.id)}</code>
              </th>
              <td>{place(one)}</td>
              <td>
                {text(one.planned_by, "–")}, {date(num(one.planned_ms))}
              </td>
              <td>
                <Mark cls={one.state === "approved" ? "held" : "pending"} sign={one.state === "approved" ? "✓" : "◐"}>
                  {list(one.approved_by).length} of {needed ?? "–"}
                </Mark>{" "}
                {list(one.approved_by).join(", ")}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

/** The weeks to come, a square a day: when drills are due, and when none may begin. */
function Calendar({ body }) {
  const today = Math.floor((num(body.now_ms) ?? 0) / DAY_MS) * DAY_MS;
  if (today === 0) return null;
  // Weeks begin on Monday; the epoch was a Thursday.
  const first = today - ((Math.floor(today / DAY_MS) + 3) % 7) * DAY_MS;
  const days = Array.from({ length: WEEKS * 7 }, (_, at) => first + at * DAY_MS);
  const blocked = list(body.blocked);
  const standing = list(body.standing);
  const on = (day) => ({
    blocked: blocked.filter((one) => one.from_ms < day + DAY_MS && one.to_ms > day),
    due: standing.filter((one) => one.next_ms >= day && one.next_ms < day + DAY_MS),
  });
  return (
    <Section title="The weeks to come" more={<span class="told">days in UTC</span>}>
      <div class="calendar" role="list">
        {["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].map((name) => (
          <b key={name} role="presentation">
            {name}
          </b>
        ))}
        {days.map((day) => (
          <Day key={day} day={day} today={today} {...on(day)} />
        ))}
      </div>
      <ul class="windows">
        {standing.map((one) => (
          <li key={one.name}>
            <Mark cls={one.allowed ? "held" : "pending"} sign={one.allowed ? "●" : "◐"}>
              {text(one.name)}
            </Mark>{" "}
            due {date(num(one.next_ms))}, every {span(num(one.every_ms))};{" "}
            {one.allowed ? `begins by itself, allowed by ${list(one.approved_by).join(", ")} until ${date(num(one.until_ms))}` : "does not begin by itself: it lacks approvals"}
            {text(one.blocked_by) && <b class="blockedby"> ▲ blocked: {one.blocked_by}</b>}
          </li>
        ))}
        {[...new Map(blocked.map((one) => [one.name, one])).values()].map((one) => (
          <li key={`w ${one.name}`}>
            <Mark cls="calm" sign="▨">
              {text(one.name)}
            </Mark>{" "}
            {date(num(one.from_ms))} to {date(num(one.to_ms))}
            {text(one.why) ? `: ${one.why}` : ""}
          </li>
        ))}
        {standing.length + blocked.length === 0 && <li class="told">Nothing is scheduled and nothing is blocked.</li>}
      </ul>
    </Section>
  );
}

function Day({ day, today, blocked, due }) {
  const at = new Date(day);
  const cls = [day === today ? "today" : "", day < today ? "gone" : "", blocked.length > 0 ? "shut" : "", due.length > 0 ? "due" : ""].join(" ");
  const said = [...due.map((one) => `${one.name} is due`), ...blocked.map((one) => `blocked: ${one.name}`)].join("; ");
  const number = at.getUTCDate();
  return (
    <span class={`day ${cls}`} role="listitem" title={said || undefined}>
      {number === 1 || day === today ? at.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }) : number}
      {due.length > 0 && <i aria-hidden="true">●</i>}
      {said && <span class="hidden">{said}</span>}
    </span>
  );
}

function End({ end }) {
  const [cls, sign, word] = ENDS[end] ?? ["calm", "?", text(end, "not known")];
  return (
    <Mark cls={cls} sign={sign}>
      {word}
    </Mark>
  );
}

function History({ history }) {
  return (
    <Section title="What was">
      {history.length === 0 ? (
        <Empty>No drill has been run yet. “firebreak drill plan” begins one.</Empty>
      ) : (
        <table class="stack">
          <thead>
            <tr>
              <th scope="col">drill</th>
              <th scope="col">ended</th>
              <th scope="col">how</th>
              <th scope="col" class="n">
                longest gap
              </th>
              <th scope="col" class="n">
                failed
              </th>
              <th scope="col">why</th>
            </tr>
          </thead>
          <tbody>
            {history.slice(0, SHOWN).map((one) => (
              <tr key={one.id}>
                <th scope="row">
                  {place(one)} <small class="told">{text(one.id)}</small>
                </th>
                <td>{date(num(one.ended_ms))}</td>
                <td>
                  <End end={one.end} />
                </td>
                <td class="n" data-label="longest gap">
                  {span(num(one.summary?.gap_ms))}
                </td>
                <td class="n" data-label="failed">
                  {count(num(one.summary?.failed))}
                </td>
                <td class="why">{text(one.why)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}
