// Who hears whom: rows speak, as they feel it; opened, the same between nodes.
import { useState } from "preact/hooks";
import { nodes, now } from "../lib/net.js";
import { DASH, list, num, span, text } from "../lib/fmt.js";
import { dcNames } from "../lib/places.js";
import { Dc, Letter, Section } from "./bits.jsx";

/** A link that was silent for that share of its limit is about to be called dead. */
const NEAR_LIMIT = 0.6;

/** How a link is, also where only `up` is told: up, new (not judged yet), doubted, or dead. */
function stateOf(link) {
  const state = text(link.state, link.up ? "up" : "silent");
  if (state === "up") return num(link.silent_ms) / num(link.limit_ms) > NEAR_LIMIT ? "doubted" : "up";
  return state === "new" || state === "doubted" ? state : "dead";
}

/** The links of one cell: their state in a class, a shape and words. */
function judged(links, pairs, gone) {
  const is = (state) => links.filter((link) => stateOf(link) === state);
  const dead = is("dead");
  const up = [...is("up"), ...is("doubted")];
  const rounds = up.map((link) => num(link.round_ms)).filter((ms) => ms !== null);
  const round = rounds.length > 0 ? Math.max(...rounds) : null;
  if (pairs === 0) return { cls: "blank", sign: "", words: "one node", round: null };
  if (links.length === 0) return { cls: "unknown", sign: "?", words: "nobody tells", round: null };
  const shortest = Math.min(...dead.map((link) => num(link.silent_ms) ?? Infinity));
  const since = Number.isFinite(shortest) ? ` for ${span(shortest)}` : "";
  if (dead.length === links.length) return { cls: "failed", sign: "✗", words: `${gone ? "silent" : "cut"}${since}`, round: null };
  if (dead.length > 0) return { cls: "pending", sign: "▲", words: `${links.length - dead.length} of ${links.length} up`, round };
  if (is("new").length === links.length) return { cls: "unknown", sign: "◌", words: "new", round: null };
  if (is("doubted").length > 0) return { cls: "pending", sign: "▲", words: "falling silent", round };
  return { cls: "held", sign: "✓", words: links.length < pairs ? `${links.length} of ${pairs} tell` : "all up", round };
}

export function Matrix() {
  const [open, setOpen] = useState(null);
  const dcs = dcNames.value;
  const links = list(now.value?.links).filter((link) => text(link?.from) && text(link?.to));
  const of = new Map(nodes.value.map((node) => [node.name, node.dc]));
  const members = (dc) => nodes.value.filter((node) => node.dc === dc);
  const between = (from, to) => links.filter((link) => of.get(link.from) === from && of.get(link.to) === to);
  const cell = (from, to) => {
    const pairs = members(from).length * members(to).length - (from === to ? members(from).length : 0);
    const gone = members(to).length > 0 && members(to).every((node) => node.silent);
    return { ...judged(between(from, to), pairs, gone), gone };
  };
  if (dcs.length === 0) return null;
  const cells = dcs.flatMap((from) => dcs.map((to) => ({ from, to, ...cell(from, to) })));
  // Unless told otherwise the worst cell is open: at night nobody should have to look for it.
  const worst = cells.find(({ cls, gone }) => cls === "failed" && !gone) ?? cells.find(({ cls }) => cls === "pending");
  const shown = open === null ? worst : cells.find(({ from, to }) => from === open.from && to === open.to);
  return (
    <Section title="Who hears whom" more={<span class="told">each row as it feels the column; a click opens the nodes</span>}>
      <div class={shown ? "columns even" : ""}>
      <div class="wide" tabIndex={0} role="group" aria-label="Links between data centers">
        <table class="heard">
          <thead>
            <tr>
              <th scope="col">from ↓ to →</th>
              {dcs.map((dc) => (
                <th scope="col" key={dc}>
                  <Dc dc={dc} />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {dcs.map((from) => (
              <tr key={from}>
                <th scope="row">
                  <Dc dc={from} />
                </th>
                {cells.filter((one) => one.from === from).map((one) => {
                  const isOpen = shown === one;
                  return (
                    <td key={one.to}>
                      <Cell {...one} open={isOpen} onClick={() => setOpen(isOpen ? {} : { from, to: one.to })} />
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {shown && <Opened from={shown.from} to={shown.to} links={between(shown.from, shown.to)} members={members} />}
      </div>
    </Section>
  );
}

function Cell({ cls, sign, words, round, from, to, open, onClick }) {
  return (
    <button type="button" class={`cell ${cls}`} aria-expanded={open} onClick={onClick}>
      <span class="hidden">{from} to {to}: </span>
      <i aria-hidden="true">{sign}</i> <span>{words}</span>
      {round !== null && <b>{span(round)}</b>}
    </button>
  );
}

function Opened({ from, to, links, members }) {
  const [rows, columns] = [members(from), members(to)];
  const found = (a, b) => links.find((link) => link.from === a.name && link.to === b.name);
  return (
    <div class="opened">
      <h3>
        <Letter dc={from} /> {from} → <Letter dc={to} /> {to}: round trips; called dead after {span(num(links[0]?.limit_ms))} of silence
      </h3>
      <div class="wide" tabIndex={0} role="group" aria-label={`Links from ${from} to ${to}`}>
        <table class="heard nodes">
          <thead>
            <tr>
              <th scope="col">from ↓ to →</th>
              {columns.map((node) => (
                <th scope="col" key={node.name}>
                  {node.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.name}>
                <th scope="row">{row.name}</th>
                {columns.map((column) => (
                  <td key={column.name}>
                    <Link link={found(row, column)} self={row.name === column.name} silent={row.silent} />
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function Link({ link, self, silent }) {
  if (self) return <span class="cell blank">{DASH}</span>;
  if (!link) return <span class="cell unknown">? {silent ? "silent itself" : "not told"}</span>;
  const state = stateOf(link);
  const [cls, sign] = { up: ["held", "✓"], doubted: ["pending", "▲"], new: ["unknown", "◌"], dead: ["failed", "✗"] }[state];
  const dead = state === "dead";
  const words = dead ? (link.state === "reset" ? "reset" : "cut") : state === "new" ? "new" : span(link.round_ms);
  return (
    <span class={`cell ${cls}`}>
      <i aria-hidden="true">{sign}</i> {words}
      <small>
        {dead ? "silent" : "heard"} {span(link.silent_ms)}
        {dead ? "" : " ago"}
      </small>
    </span>
  );
}
