// What if: mark what burns, and see what is left. Nothing is changed by it.
import { useAnswer } from "../lib/hooks.js";
import { nodes } from "../lib/net.js";
import { counted, list, num, percent, span, text } from "../lib/fmt.js";
import { dcNames } from "../lib/places.js";
import { go, href, route } from "../lib/route.js";
import { Command, Dc, Empty, Letter, Mark, NodeState, Section, Told } from "../parts/bits.jsx";

function marked() {
  const { query } = route.value;
  return { dcs: query.getAll("dc"), nodes: query.getAll("node") };
}

function show(dcs, names) {
  go(href("whatif", [], [...dcs.map((dc) => ["dc", dc]), ...names.map((name) => ["node", name])]));
}

const toggled = (entries, one) => (entries.includes(one) ? entries.filter((entry) => entry !== one) : [...entries, one]);

export function WhatIf() {
  const lost = marked();
  const asked = new URLSearchParams([...lost.dcs.map((dc) => ["dc", dc]), ...lost.nodes.map((name) => ["node", name])]).toString();
  const answer = useAnswer(`/api/whatif${asked ? `?${asked}` : ""}`, 4000);
  const nothing = asked === "";
  return (
    <>
      <Section
        title="What burns?"
        more={
          <button type="button" onClick={() => show([], [])} disabled={nothing}>
            clear the marks
          </button>
        }
      >
        <div class="cards burns">
          {dcNames.value.map((dc) => (
            <Burns key={dc} dc={dc} lost={lost} />
          ))}
        </div>
      </Section>
      <Told answer={answer} />
      {answer.body && <After body={answer.body} nothing={nothing} lost={lost} />}
    </>
  );
}

function Burns({ dc, lost }) {
  const burns = lost.dcs.includes(dc);
  const own = nodes.value.filter((node) => node.dc === dc);
  return (
    <fieldset class={burns ? "burns" : ""}>
      <legend>
        <label>
          <input type="checkbox" checked={burns} onChange={() => show(toggled(lost.dcs, dc), lost.nodes)} /> <Dc dc={dc} />
          {burns && <Mark cls="fire" sign="✗">burns</Mark>}
        </label>
      </legend>
      {own.map((node) => (
        <label key={node.name} class={node.silent ? "ghost" : ""}>
          <input
            type="checkbox"
            checked={burns || lost.nodes.includes(node.name)}
            disabled={burns}
            onChange={() => show(lost.dcs, toggled(lost.nodes, node.name))}
          />{" "}
          {node.name} <NodeState node={node} />
        </label>
      ))}
    </fieldset>
  );
}

function After({ body, nothing, lost }) {
  const stopped = list(body.stopped);
  // Those that stop can get no replica back; others would, but where the next loss weighs more.
  const bad = list(body.unrestorable).filter((one) => stopped.includes(one?.shard));
  const worse = list(body.unrestorable).filter((one) => !stopped.includes(one?.shard));
  const gone = list(body.gone_already);
  const cls = nothing && gone.length === 0 ? "" : !body.served ? "failed" : nothing ? "missed" : "held";
  const flags = [...lost.dcs.map((dc) => `--lose dc=${dc}`), ...lost.nodes.map((name) => `--lose node=${name}`)];
  return (
    <>
      <section class={`answer ${cls}`} aria-live="polite">
        <p class="say">
          {nothing && gone.length > 0 ? (
            <>
              <b>
                <i aria-hidden="true">▲</i> Dead already
              </b>{" "}
              {gone.join(", ")}. {text(body.sentence)} Mark what burns next.
            </>
          ) : nothing ? (
            "Nothing burns: mark a data center or a node."
          ) : (
            <>
              <b>
                <i aria-hidden="true">{body.served ? "✓" : "✗"}</i> {body.served ? "Still serves" : "Stops serving"}
              </b>{" "}
              {text(body.sentence)}
            </>
          )}
        </p>
        {!nothing && (
          <p class="facts">
            {gone.length > 0 && (
              <span>dead already <b>{gone.join(", ")}</b></span>
            )}
            <span>lost <b>{list(body.lost).join(", ") || "nothing"}</b></span>
            {num(body.leaderless_for_ms) !== null && stopped.length < num(body.shards) && (
              <span>
                {stopped.length > 0 ? "all others " : ""}led again within about <b>{span(body.leaderless_for_ms)}</b>
              </span>
            )}
            <span>
              shards that stop <b>{stopped.length} of {body.shards ?? "–"}</b>
              {stopped.length > 0 && `: ${stopped.slice(0, 24).map((one) => (one === 0 ? "meta" : one)).join(", ")}${stopped.length > 24 ? " …" : ""}`}
            </span>
          </p>
        )}
        {flags.length > 0 && <Command words={`firebreak whatif ${flags.join(" ")}`} />}
      </section>
      <div class="columns three">
        <Pairs title="Leaders" rows={list(body.leads)} before="before" after="after" words={(n) => counted(n, "shard")} />
        <Pairs title="Replicas" rows={list(body.replicas)} before="before" after="after" words={(n) => counted(n, "replica")} />
        <Pairs title="Disk in use" rows={list(body.disk)} before="before_pct" after="after_pct" words={percent} most={100} />
      </div>
      {(!nothing || gone.length > 0) && (
        <Section title="After the repair">
          {bad.length > 0 && (
            <p>
              <Mark cls="failed" sign="✗">Cannot be restored: {counted(bad.length, "shard")}</Mark>
            </p>
          )}
          <Reasons bad={bad} />
          {worse.length > 0 && (
            <p>
              <Mark cls="pending" sign="▲">Restored, but less safe than before: {counted(worse.length, "shard")}</Mark>
            </p>
          )}
          <Reasons bad={worse} />
          {bad.length + worse.length === 0 && (
            <p class="empty">
              <Mark cls="held" sign="✓">As safe as before: every replica finds a place on the nodes that are left.</Mark>
            </p>
          )}
        </Section>
      )}
    </>
  );
}

const NAMED = 24;

/** Reasons, each with the shards that share it. */
function Reasons({ bad }) {
  const groups = new Map();
  for (const one of bad) groups.set(text(one?.why, "no reason is known"), [...(groups.get(text(one?.why, "no reason is known")) ?? []), one?.shard]);
  return (
    <ul class="moves">
      {[...groups].map(([why, shards]) => (
        <li key={why}>
          <b>{counted(shards.length, "shard")}</b>: {why}
          <br />
          <span class="why">
            {shards.slice(0, NAMED).map((shard) => (
              <a key={shard} href={href("shards", [String(shard)])}>
                {shard === 0 ? "meta" : shard}
              </a>
            ))}
            {shards.length > NAMED && ` and ${shards.length - NAMED} more`}
          </span>
        </li>
      ))}
    </ul>
  );
}

/** Bars of before and after, a pair for each data center. */
function Pairs({ title, rows: told, before, after, words, most }) {
  const rows = [...told].sort((a, b) => dcNames.value.indexOf(a?.dc) - dcNames.value.indexOf(b?.dc));
  const values = rows.flatMap((row) => [num(row?.[before]), num(row?.[after])]);
  const full = most ?? Math.max(1, ...values.filter((value) => value !== null));
  const width = (value) => ({ width: `${Math.min(100, ((num(value) ?? 0) / full) * 100)}%` });
  return (
    <Section title={title}>
      {rows.length === 0 && <Empty>Not known.</Empty>}
      {rows.map((row) => (
        <div class="pair" key={row.dc}>
          <Letter dc={row.dc} />
          <span class="dcname">{row.dc}</span>
          <span class="bars">
            <Bar cls="was" style={width(row[before])} words={words(num(row[before]))} when="before" />
            <Bar cls="is" style={width(row[after])} words={words(num(row[after]))} when="after" />
          </span>
        </div>
      ))}
    </Section>
  );
}

const Bar = ({ cls, style, words, when }) => (
  <span class={`bar ${cls}`}>
    <span class="track" aria-hidden="true">
      <span style={style} />
    </span>
    <small>
      {words} {when}
    </small>
  </span>
);
