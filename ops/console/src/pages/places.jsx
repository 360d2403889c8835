// Places: region › data center › rack › node.
import { useEffect } from "preact/hooks";
import { nodes } from "../lib/net.js";
import { bytes, clock, clockOff, count, counted, diskUsed, list, num, percent, span, text } from "../lib/fmt.js";
import { route } from "../lib/route.js";
import { Command, Dc, Mark, NodeState, Section, Share, nodeState } from "../parts/bits.jsx";

/** Entries by what `of` says of them, sorted. */
function by(entries, of) {
  const groups = new Map();
  for (const entry of entries) groups.set(of(entry), [...(groups.get(of(entry)) ?? []), entry]);
  return [...groups].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
}

export function Places() {
  const wanted = route.value.rest[0];
  useEffect(() => {
    if (wanted) document.getElementById(`node-${wanted}`)?.scrollIntoView({ block: "center" });
  }, [wanted]);
  if (nodes.value.length === 0) return <p class="empty">No node is known yet.</p>;
  return by(nodes.value, (node) => text(node.region, "no region")).map(([region, inRegion]) => (
    <Section key={region} title={`Region ${region}`} more={<Alive nodes={inRegion} />} cls="region">
      {by(inRegion, (node) => text(node.dc, "no data center")).map(([dc, inDc]) => (
        <details open key={dc} class="place">
          <summary>
            <Dc dc={dc} /> <Alive nodes={inDc} />
          </summary>
          {by(inDc, (node) => text(node.rack)).map(([rack, inRack]) => (
            <div class="rack" key={rack}>
              <h3>{rack ? `rack ${rack}` : "no rack"}</h3>
              {inRack.map((node) => (
                <Node key={node.name} node={node} wanted={node.name === wanted} />
              ))}
            </div>
          ))}
        </details>
      ))}
    </Section>
  ));
}

function Alive({ nodes: own }) {
  const alive = own.filter((node) => !node.silent).length;
  const [cls, sign] = alive === own.length ? ["held", "●"] : alive === 0 ? ["failed", "✗"] : ["pending", "▲"];
  return (
    <Mark cls={cls} sign={sign}>
      {alive} of {counted(own.length, "node")} alive
    </Mark>
  );
}

function Node({ node, wanted }) {
  const used = diskUsed(node);
  return (
    <details class={`node ${node.silent ? "ghost" : ""} ${wanted ? "wanted" : ""}`} open={wanted} id={`node-${node.name}`}>
      <summary>
        <b class="name">{node.name}</b>
        <NodeState node={node} />
        <Fact name="leads">{count(node.leads)}</Fact>
        <Fact name="replicas">{count(node.replicas)}</Fact>
        <Fact name="acks/s">{count(node.acks_per_s)}</Fact>
        <Fact name="p99">{span(node.p99_ms)}</Fact>
        <Fact name="sync">{span(node.sync_ms)}</Fact>
        <Fact name="late">{span(node.lateness_ms)}</Fact>
        <Fact name="disk" cls={node.disk_reserve_reached ? "failed" : ""}>
          {node.disk_reserve_reached ? "✗ full" : percent(used)}
        </Fact>
        <Fact name="clock" cls={num(node.clock_off_ms) ? "pending" : ""}>
          {node.silent && !node.last && !node.clock_off_ms ? "–" : num(node.clock_off_ms) ? `▲ ${clockOff(node.clock_off_ms)}` : clockOff(node.clock_off_ms)}
        </Fact>
        <Fact name="version">{text(node.version, "–")}</Fact>
      </summary>
      <More node={node} used={used} />
    </details>
  );
}

const Fact = ({ name, children, cls = "" }) => (
  <span class={`fact ${cls}`}>
    <small>{name}</small> {children}
  </span>
);

function More({ node, used }) {
  const { cls, sign } = nodeState(node);
  const wrong = [node.health?.ok === false && text(node.health.why), text(node.problem)].filter(Boolean);
  return (
    <div class="inside">
      {node.silent && (
        <p class="why">
          {node.last ? `Its last word was at ${clock(node.last.at_ms)}; the figures are of then.` : "This page never heard from it; the figures are what others know."}
          {node.unlisted && " The node that tells does not list it."}
        </p>
      )}
      {wrong.map((why) => (
        <p key={why}>
          <Mark cls={cls === "held" ? "pending" : cls} sign={sign === "●" ? "▲" : sign}>
            {why}
          </Mark>
        </p>
      ))}
      <p class="facts">
        <span>node id <b>{node.node_id ?? "–"}</b></span>
        <span>address <b>{text(node.address, "–")}</b></span>
        <span>console <b>{text(node.http, "–")}</b></span>
        <span>up for <b>{span(node.uptime_ms)}</b></span>
        <span>longest gap, 5 min <b>{span(node.gap_5m_ms)}</b></span>
        <span>failed, 5 min <b>{count(node.failed_5m)}</b></span>
        <span>
          disk <Share value={used} label={`${bytes(node.disk_free_bytes)} free of ${bytes(node.disk_total_bytes)}`} />
        </span>
      </p>
      <Resources resources={list(node.resources)} />
      <Command words={`firebreak status --target ${text(node.address, "HOST:PORT")}`} />
    </div>
  );
}

/** Above that share a bound is called near. */
const NEAR_PCT = 80;

function Resources({ resources }) {
  if (resources.length === 0) return <p class="told">Its bounds are not known.</p>;
  return (
    <table class="stack resources">
      <thead>
        <tr>
          <th scope="col">bound</th>
          <th scope="col">in use</th>
          <th scope="col" class="n">refused or given up</th>
          <th scope="col">setting that raises it</th>
        </tr>
      </thead>
      <tbody>
        {resources.map((one) => (
          <Resource key={one.name} one={one} />
        ))}
      </tbody>
    </table>
  );
}

/** A bound above that is one of bytes: there are not so many connections or calls. */
const BYTES_FROM = 2 ** 21;

function Resource({ one }) {
  const words = num(one.max) > BYTES_FROM ? bytes : count;
  const share = num(one.max) ? ((num(one.used) ?? 0) / one.max) * 100 : null;
  const near = share !== null && share >= NEAR_PCT;
  return (
    <tr>
      <th scope="row">{text(one.name, "?")}</th>
      <td>
        <Share value={share} cls={near ? "near" : ""} label={`${near ? "▲ " : ""}${words(one.used)} of ${words(one.max)}`} />
      </td>
      <td class="n" data-label="refused">
        {num(one.refused) ? <Mark cls="pending" sign="▲">{count(one.refused)}</Mark> : count(one.refused)}
      </td>
      <td>
        <code>{text(one.setting, "–")}</code>
      </td>
    </tr>
  );
}
