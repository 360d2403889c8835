// Shards: who leads which slots, what is hot, and how one shard stands.
import { useState } from "preact/hooks";
import { useAnswer } from "../lib/hooks.js";
import { count, counted, list, num, span, text } from "../lib/fmt.js";
import { answers, nodeNow } from "../lib/net.js";
import { dcOf } from "../lib/places.js";
import { href, route } from "../lib/route.js";
import { Command, Dc, Empty, Figure, Letter, Mark, Section, Told } from "../parts/bits.jsx";
import { Heat } from "../parts/heat.jsx";
import { Strip } from "../parts/strip.jsx";

const SHOWN = 40;
const HOT = 5;
/** From so many on they are asked for less often: each answer is some megabytes. */
const MANY = 2000;

export const shardName = (shard) => (shard === 0 ? "meta" : `shard ${shard}`);

/** How a shard stands, the worst first. */
export function shardState(shard) {
  const replicas = list(shard.replicas);
  if (replicas.some((one) => one?.state === "broken")) return { rank: 1, cls: "failed", sign: "✗", word: "a replica is broken" };
  if (num(shard.margin) !== null && shard.margin < 0) return { rank: 0, cls: "failed", sign: "✗", word: "no quorum" };
  if (shard.asleep) return { rank: 6, cls: "calm", sign: "☾", word: "asleep" };
  if (!text(shard.leader)) return { rank: 0, cls: "failed", sign: "✗", word: "nobody leads" };
  if (text(shard.degraded_dc)) return { rank: 2, cls: "pending", sign: "▲", word: `degraded: without ${shard.degraded_dc}` };
  if (shard.margin === 0) return { rank: 2, cls: "pending", sign: "▲", word: "bare quorum" };
  return { rank: 5, cls: "held", sign: "✓", word: "led" };
}

export function Shards() {
  const answer = useAnswer("/api/shards", list(answers.value["/api/shards"]?.body?.shards).length > MANY ? 10_000 : 2000);
  const { body } = answer;
  const shards = list(body?.shards).filter((shard) => num(shard?.shard) !== null);
  const open = route.value.rest[0] === undefined ? null : Number(route.value.rest[0]);
  return (
    <>
      <Told answer={answer} />
      {body && <Glance shards={shards} moves={list(body.moves)} />}
      {open !== null && body && <One shard={shards.find((shard) => shard.shard === open)} number={open} moves={list(body.moves)} />}
      {body && (
        <>
          <Section title="Who leads which slots" more={<span class="told">a click opens the shard</span>}>
            <Strip shards={shards} open={open} />
          </Section>
          <Moves moves={list(body.moves)} />
          <Section title="Load by shard and time">
            <Heat heat={body.heat} />
          </Section>
          <Table shards={shards} moves={list(body.moves)} />
        </>
      )}
    </>
  );
}

/** What one wants to know of all of them. */
function Glance({ shards, moves }) {
  const states = shards.map(shardState);
  const dark = states.filter(({ rank }) => rank === 0).length;
  const broken = states.filter(({ rank }) => rank === 1).length;
  const margins = shards.map((shard) => num(shard.margin)).filter((n) => n !== null);
  const weakest = margins.length > 0 ? Math.min(...margins) : null;
  const hot = shards.filter((shard) => num(shard.acks_per_s) > 0).sort((a, b) => (num(b.acks_per_s) ?? 0) - (num(a.acks_per_s) ?? 0)).slice(0, HOT);
  return (
    <div class="figures">
      <Figure name="Without a leader" value={`${dark} of ${shards.length}`} below={dark ? "not served" : "all are served"} cls={dark ? "failed" : "held"} />
      <Figure name="Weakest margin" value={margin({ margin: weakest })} below="replicas above a quorum" cls={weakest < 0 ? "failed" : weakest === 0 ? "pending" : "held"} />
      <Figure name="Broken" value={count(broken)} below="shards with a broken replica" cls={broken ? "failed" : "held"} />
      <Figure name="Moving" value={count(moves.length)} below={moves.length > 0 ? "see below what they wait for" : "nothing moves"} />
      <Figure name="Asleep" value={count(shards.filter((shard) => shard.asleep).length)} below="nobody uses them" />
      <Figure
        name="Hottest"
        value={hot[0] ? `${count(hot[0].acks_per_s)}/s` : "0/s"}
        below={hot.length === 0 ? "nothing is sent" : hot.map((shard) => (
          <a key={shard.shard} href={href("shards", [String(shard.shard)])} title={`${count(shard.acks_per_s)} acks/s`}>
            {shard.shard === 0 ? "meta" : shard.shard}
          </a>
        ))}
      />
    </div>
  );
}

function Moves({ moves }) {
  if (moves.length === 0) return null;
  return (
    <Section title={`Moving: ${moves.length}`}>
      <ul class="moves">
        {moves.slice(0, 20).map((move) => (
          <Move key={`${move.shard} ${move.from} ${move.to}`} move={move} />
        ))}
      </ul>
      {moves.length > 20 && <a href="#/jobs">all {moves.length} under Jobs</a>}
    </Section>
  );
}

function Move({ move }) {
  return (
    <li>
      <a href={href("shards", [String(move.shard)])}>{shardName(move.shard)}</a> {text(move.from, "?")} → {text(move.to, "?")}{" "}
      <Mark cls="pending" sign="◐">{move.changing ? "voters change" : "learning"}</Mark>
      <span class="why">waits for: {text(move.waits_for, "nothing")}</span>
    </li>
  );
}

const COLUMNS = [
  { key: "shard", name: "shard", of: (shard) => shard.shard },
  { key: "state", name: "state", of: (shard) => shardState(shard).rank },
  { key: "leader", name: "leader", of: (shard) => text(shard.leader, "~") },
  { key: "acks", name: "acks/s", of: (shard) => -(num(shard.acks_per_s) ?? -1), n: true },
  { key: "margin", name: "margin", of: (shard) => num(shard.margin) ?? 99, n: true },
  { key: "term", name: "term", of: (shard) => -(num(shard.term) ?? -1), n: true, wide: true },
  { key: "replicas", name: "replicas", of: (shard) => Math.max(0, ...list(shard.replicas).map((one) => -(num(one?.lag) ?? 0))) },
];

function Table({ shards }) {
  const [words, setWords] = useState("");
  const [sort, setSort] = useState("state");
  const [most, setMost] = useState(SHOWN);
  const wanted = words.trim().toLowerCase();
  const by = COLUMNS.find(({ key }) => key === sort).of;
  const found = shards
    .filter((shard) => matches(shard, wanted))
    .sort((a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : a.shard - b.shard));
  return (
    <Section title={`All shards: ${found.length}${found.length < shards.length ? ` of ${shards.length}` : ""}`}>
      <div class="filters">
        <label>
          search <input type="search" value={words} onInput={(event) => setWords(event.currentTarget.value)} placeholder="7, slot 4711, seoul-1, asleep" />
        </label>
        <label>
          first{" "}
          <select value={sort} onChange={(event) => setSort(event.currentTarget.value)}>
            {COLUMNS.map(({ key, name }) => (
              <option key={key} value={key}>
                {key === "state" ? "the worst" : `by ${name}`}
              </option>
            ))}
          </select>
        </label>
      </div>
      {found.length === 0 ? (
        <Empty>No shard is like that.</Empty>
      ) : (
        <table class="stack shards">
          <thead>
            <tr>
              {COLUMNS.map(({ key, name, n, wide }) => (
                <th scope="col" key={key} class={`${n ? "n" : ""} ${wide ? "more" : ""}`} aria-sort={sort === key ? "ascending" : undefined}>
                  <button type="button" class="plain" onClick={() => setSort(key)}>
                    {name}
                    {sort === key ? " ↓" : ""}
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {found.slice(0, most).map((shard) => (
              <Row key={shard.shard} shard={shard} />
            ))}
          </tbody>
        </table>
      )}
      {found.length > most && (
        <button type="button" onClick={() => setMost(most + 400)}>
          show more of {found.length}
        </button>
      )}
    </Section>
  );
}

/** Whether a shard is meant: its number, one of its slots, or a word of its line. */
function matches(shard, wanted) {
  if (wanted === "") return true;
  const slot = /^slot\s*(\d+)$/.exec(wanted);
  if (slot) return shard.slot_first <= Number(slot[1]) && Number(slot[1]) <= shard.slot_last;
  const number = /^(?:shard\s*)?(\d+)$/.exec(wanted);
  if (number) return shard.shard === Number(number[1]);
  const replicas = list(shard.replicas).map((one) => `${one?.node} ${one?.state}`);
  const line = `${shardName(shard.shard)} ${shardState(shard).word} ${text(shard.leader)} ${text(shard.leader_dc)} ${replicas.join(" ")}`;
  return line.toLowerCase().includes(wanted);
}

function Row({ shard }) {
  const { cls, sign, word } = shardState(shard);
  return (
    <tr>
      <th scope="row">
        <a href={href("shards", [String(shard.shard)])}>{shardName(shard.shard)}</a>
      </th>
      <td>
        <Mark cls={cls} sign={sign}>
          {word}
        </Mark>
      </td>
      <td>{text(shard.leader) ? <><Letter dc={shard.leader_dc} /> {shard.leader}</> : "–"}</td>
      <td class="n" data-label="acks/s">{count(shard.acks_per_s)}</td>
      <td class="n" data-label="margin">{margin(shard)}</td>
      <td class="n more">{count(shard.term)}</td>
      <td>
        <span class="replicas">
          {list(shard.replicas).map((one) => (
            <Replica key={one.node} one={one} />
          ))}
        </span>
      </td>
    </tr>
  );
}

const margin = ({ margin: n }) => (num(n) === null ? "–" : n < 0 ? "no quorum" : n === 0 ? "0" : `+${n}`);

/** Entries that a replica is behind are normal below that. */
const LAG_TOLD = 10;

const STATES = {
  leader: ["held", "★"],
  follower: ["held", "●"],
  learner: ["pending", "◐"],
  candidate: ["pending", "◇"],
  unconfirmed: ["pending", "◌"],
  broken: ["failed", "✗"],
  unreachable: ["failed", "✗"],
  missing: ["failed", "✗"],
};

/** The state of a replica: class, shape, word. */
export function replicaState(one) {
  const word = text(one?.state, "not known");
  const [cls, sign] = STATES[word] ?? ["pending", "?"];
  return { cls, sign, word };
}

function Replica({ one }) {
  const { cls, sign, word } = replicaState(one);
  const short = cls === "held" ? "" : ` ${word}`;
  const lag = num(one.lag) >= LAG_TOLD ? ` ${count(one.lag)} behind` : "";
  return (
    <span class={`mark small ${cls}`} title={`${one.node}: ${word}, ${count(one.lag)} entries behind`}>
      <i aria-hidden="true">{sign}</i> {text(one.node, "?")}
      {short}
      {lag}
    </span>
  );
}

function One({ shard, number, moves }) {
  const close = <a class="button" href="#/shards">close</a>;
  if (!shard) {
    return (
      <Section title={Number.isInteger(number) ? shardName(number) : "No such shard"} more={close}>
        <Empty>No node tells of such a shard.</Empty>
      </Section>
    );
  }
  const { cls, sign, word } = shardState(shard);
  const own = moves.filter((move) => move.shard === shard.shard);
  return (
    <Section title={shardName(shard.shard)} more={close} cls="one">
      <p class="facts">
        <Mark cls={cls} sign={sign}>{word}</Mark>
        <span>
          {text(shard.leader) ? <>led by <b>{shard.leader}</b> in <Dc dc={shard.leader_dc} /></> : "led by nobody"}
        </span>
        <span>term <b>{count(shard.term)}</b></span>
        <span>margin <b>{margin(shard)}</b></span>
        <span><b>{count(shard.acks_per_s)}</b> acks/s</span>
        <span>{num(shard.slot_last) > num(shard.slot_first) ? `slots ${count(shard.slot_first)} to ${count(shard.slot_last)}` : "no slots: the map itself"}</span>
      </p>
      <table class="stack">
        <thead>
          <tr>
            <th scope="col">replica</th>
            <th scope="col">state</th>
            <th scope="col" class="n">behind</th>
            <th scope="col" class="n">committed</th>
            <th scope="col" class="n">applied</th>
            <th scope="col" class="n">read back</th>
          </tr>
        </thead>
        <tbody>
          {list(shard.replicas).map((one) => (
            <Position key={one.node} one={one} />
          ))}
        </tbody>
      </table>
      {own.length > 0 ? (
        <ul class="moves">{own.map((move) => <Move key={move.to} move={move} />)}</ul>
      ) : (
        <p class="told">It does not move, {counted(list(shard.replicas).length, "replica")}.</p>
      )}
      <Command words="firebreak shard list" />
    </Section>
  );
}

function Position({ one }) {
  const { cls, sign, word } = replicaState(one);
  const scrubbed = num(one.scrubbed_ms) && nodeNow() ? `${span(nodeNow() - one.scrubbed_ms)} ago` : "not yet";
  return (
    <tr>
      <th scope="row">
        <Letter dc={text(one.dc) || dcOf(one.node)} /> {text(one.node, "?")}
      </th>
      <td>
        <Mark cls={cls} sign={sign}>{word}</Mark> <span class="why">{text(one.broken_reason)}</span>
      </td>
      <td class="n" data-label="behind">{num(one.lag) === null ? "–" : count(one.lag)}</td>
      <td class="n" data-label="committed">{count(one.committed_index)}</td>
      <td class="n" data-label="applied">{count(one.applied_index)}</td>
      <td class="n" data-label="read back">{scrubbed}</td>
    </tr>
  );
}
