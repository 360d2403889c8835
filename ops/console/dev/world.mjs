// Clusters as a node would tell of them, by the console's JSON contract. Made up, and alike each time.
import { lever, running } from "./drills.mjs";

const DCS = [
  { dc: "seoul", region: "kr", racks: ["r1", "r1", "r2"] },
  { dc: "busan", region: "kr", racks: ["b1", "b2", "b2"] },
  { dc: "tokyo", region: "jp", racks: ["t1", "t1", "t2"] },
];
const SLOTS = 65_536;
const GIB = 1024 ** 3;
const MINUTE = 60_000;

export const NODES = DCS.flatMap(({ dc, region, racks }, at) =>
  racks.map((rack, n) => ({ node_id: at * 3 + n + 1, name: `${dc}-${n + 1}`, dc, region, rack })),
);

/** What is so in each state: who is dead and since when, who drains. */
export const STATES = {
  healthy: {},
  burning: { dead: { seoul: 4 * MINUTE } },
  two_dead: { dead: { seoul: 12 * MINUTE, tokyo: 1.5 * MINUTE } },
  drain: { drained: ["busan"] },
  gray: { gray: true },
  forming: { forming: true },
  drilling: { drilling: true },
  bare: { bare: true },
  hostile: { hostile: true },
};

function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const RTT = { "seoul busan": 6.2, "busan tokyo": 24.8, "seoul tokyo": 33.6 };
const roundTrip = (a, b) => (a === b ? 0.3 : (RTT[`${a} ${b}`] ?? RTT[`${b} ${a}`]));

export class World {
  /** `where` says each node's address: name → host:port. */
  constructor(state, data, where, clock = () => Date.now()) {
    Object.assign(this, { state, data, where, clock, what: STATES[state] });
    this.shards = this.layOut();
  }

  deadSince(node) {
    return this.what.dead?.[node.dc] ?? null;
  }

  alive = (node) => this.deadSince(node) === null;
  drained = (node) => this.what.drained?.includes(node.dc) ?? false;
  find = (name) => NODES.find((node) => node.name === name);

  layOut() {
    if (this.what.forming) return [];
    const rand = random(this.data);
    const each = SLOTS / this.data;
    return Array.from({ length: this.data + 1 }, (_, shard) => {
      const members = DCS.map(({ dc }) => NODES.filter((node) => node.dc === dc)[(shard + Math.floor(rand() * 3)) % 3]);
      const alive = members.filter(this.alive);
      const wanted = [...members.slice(shard % 3), ...members.slice(0, shard % 3)];
      const asleep = this.data > 6 && shard > 0 && shard % 7 === 5 && this.state === "healthy";
      const leads = alive.length >= 2 ? wanted.find((node) => this.alive(node) && !this.drained(node)) : null;
      const load = (400 / this.data) * (0.3 + 1.4 * rand()) * (shard === 7 ? 4 : 1);
      return {
        shard,
        slot_first: shard === 0 ? 0 : Math.round((shard - 1) * each),
        slot_last: shard === 0 ? 0 : Math.round(shard * each) - 1,
        members,
        leader: leads ?? null,
        asleep,
        term: 9 + Math.floor(rand() * 20) + (this.what.dead ? 1 : 0),
        load: leads && !asleep && shard > 0 ? load : 0,
        margin: alive.length - 2,
      };
    });
  }

  seenBy(name) {
    const answered = NODES.filter(this.alive).length;
    return { node: name, at_ms: this.clock(), age_ms: 140, answered, nodes: NODES.length };
  }

  now(name) {
    const seen_by = this.seenBy(name);
    if (this.what.bare) return { seen_by: { node: name, at_ms: this.clock() }, verdict: "degraded", dcs: [{ dc: "seoul" }], nodes: [{ name: "seoul-1" }, null, {}], problems: [{}, null], links: [{}], figures: null, recent: null };
    const dark = this.shards.filter((shard) => !shard.leader && !shard.asleep);
    const led = this.shards.filter((shard) => shard.leader);
    return {
      seen_by,
      cluster_id: "0199fd0c-5a1b-7c44-9d1e-4b6f2a90c3aa",
      map_epoch: 17,
      version: "0.1.0",
      forming: Boolean(this.what.forming),
      ...this.verdict(dark),
      figures: this.figures(dark),
      shards: { total: this.shards.length, led: led.length, leaderless: dark.length, no_quorum: dark.length, asleep: this.shards.filter((shard) => shard.asleep).length, broken: 0, moving: this.moves().length },
      dcs: DCS.map((dc) => this.center(dc)),
      nodes: NODES.map((node) => this.node(node)),
      links: this.links(),
      drill: this.lever ? null : running(this),
      lever: lever(this)?.who ?? null,
      recent: this.lanes().flatMap((lane) => lane.events.map((event) => ({ node: lane.node, ...event }))).sort((a, b) => a.at_ms - b.at_ms),
    };
  }

  verdict(dark) {
    const all = this.shards.length;
    const target = `firebreak status --target ${this.where("busan-1")}`;
    const silent = (dc, mins) => ({ stops: false, what: `All 3 nodes of data center ${dc} do not answer, for ${mins} min`, why: `Every node of ${dc} fell silent within 300 ms: power, or the way there. Shards that it led are led elsewhere.`, runbook: "dc-silent", command: target });
    if (this.what.forming) {
      const what = "the cluster is forming: 9 of 12 nodes have joined";
      return { verdict: "not-serving", sentence: `NOT SERVING: ${what}`, problems: [{ stops: true, what, why: "shards are laid out once all nodes that were promised have joined", runbook: "cluster-forming", command: "firebreak status --watch" }] };
    }
    if (this.state === "burning") {
      return {
        verdict: "degraded",
        sentence: `DEGRADED, but serving: all ${all} shards are led. Data center seoul does not answer for 4 min. Losing busan or tokyo now would stop shards.`,
        problems: [silent("seoul", 4), { stops: false, what: `${all} shards have a bare quorum: one of 3 replicas is silent`, why: "They are replaced on other nodes once seoul is gone for 5 min; there is no fourth data center to put them in.", runbook: "bare-quorum", command: "firebreak whatif --lose dc=busan" }],
      };
    }
    if (this.state === "two_dead") {
      return {
        verdict: "not-serving",
        sentence: `NOT SERVING: ${all} of ${all} shards are not served: no quorum of their replicas answers. Data centers seoul and tokyo are silent.`,
        problems: [silent("seoul", 12), silent("tokyo", 1), { stops: true, what: `${all} of ${all} shards are not served (meta, 1, 2, 3, 4, 5 and ${all - 6} more): no quorum`, why: "2 of 3 replicas of each are in seoul and tokyo. Nothing acknowledged is lost; it is served again once one of the two is back.", runbook: "no-quorum", command: target }],
      };
    }
    if (this.state === "drain") {
      return { verdict: "whole", sentence: `All ${all} shards are led, every replica is in its place; drained: busan-1, busan-2, busan-3. Any one data center may burn now: nothing lost, about 0.5 s.`, problems: [] };
    }
    if (this.state === "gray" || this.state === "hostile") {
      const name = this.state === "hostile" ? `<img src=x onerror="window.owned=1"> ${"verylongname".repeat(9)}` : "tokyo-2";
      return {
        verdict: "degraded",
        sentence: `All ${all} shards are led. The clock of ${name} is 4 s behind; busan hears only a part of tokyo.`,
        problems: [
          { stops: false, what: `The clock of ${name} is 4 s behind the others': it leads nothing until it is set right`, why: "Seen by 7 of 8 others.", runbook: "clock-off", command: "timedatectl status" },
          { stops: false, what: "busan-1 does not hear tokyo-3, which hears it", why: "A way that is cut in one direction: a firewall, or a broken link aggregate.", runbook: "one-way-cut", command: `firebreak status --target ${this.where("tokyo-3")}` },
          { stops: false, what: "fsync at seoul-2 takes 38 ms (median of the others: 0.4 ms)", why: "A disk that dies or is shared.", runbook: "slow-disk", command: "firebreak node drain seoul-2" },
        ],
      };
    }
    return { verdict: "whole", sentence: `Serving. All ${all} shards are led. Any one data center may burn now: nothing lost, about 0.5 s.`, problems: [] };
  }

  figures(dark) {
    const load = this.load();
    const gap = { burning: [871, "seoul-1: tenant chat, shard 3"], two_dead: [91_400, "busan-2: tenant chat, all shards"] }[this.state] ?? [112, "tokyo-2: tenant chat, shard 7"];
    const weakest = this.what.forming ? null : Math.min(...this.shards.map((shard) => shard.margin));
    return {
      acks_per_s: load.acks_per_s.at(-1),
      reads_per_s: load.acks_per_s.at(-1) * 2.2,
      p99_ms: this.state === "two_dead" ? null : load.p99_ms.at(-1),
      gap_5m_ms: gap[0],
      gap_5m_whose: gap[1],
      failed_5m: { two_dead: 38_211, burning: 0, gray: 4 }[this.state] ?? 0,
      leaderless: dark.length,
      no_quorum: dark.length,
      margin: weakest,
      margin_shards: this.shards.filter((shard) => shard.margin === weakest).length,
    };
  }

  center({ dc, region }) {
    const own = NODES.filter((node) => node.dc === dc);
    const alive = own.filter(this.alive).length;
    const leads = this.shards.filter((shard) => shard.leader?.dc === dc).length;
    const others = Object.keys(this.what.dead ?? {});
    const served = others.length === 0 || (others.length === 1 && others.includes(dc));
    const why = alive === 0 ? (others.length > 1 ? "no shard has a quorum without it" : "every shard keeps a quorum elsewhere") : served ? "every shard keeps a quorum elsewhere" : `${this.shards.length} shards would have 1 of 3 replicas left`;
    return {
      dc, region, nodes: 3, alive, draining: own.filter(this.drained).length, leads, leads_pct: (leads / Math.max(1, this.shards.length)) * 100,
      lose: this.what.forming ? null : { served, why, gap_ms: served ? 500 : null, disk_after_pct: others.length > 0 ? 88 : 41, unrestorable: 0 },
      disk_used_pct: alive === 0 ? null : 33 + dc.length, clock_off_ms: alive === 0 ? null : this.state === "gray" && dc === "tokyo" ? -4120 : 0,
    };
  }

  node(node) {
    const since = this.deadSince(node);
    const dead = since !== null;
    const slow = this.state === "gray" && node.name === "seoul-2";
    const late = this.state === "gray" && node.name === "tokyo-2";
    const shown = this.state === "hostile" && node.name === "tokyo-2" ? { version: `<b>${"0.1.0-".repeat(12)}</b>`, rack: "\"><script>window.owned=1</script>" } : {};
    const leads = this.shards.filter((shard) => shard.leader === node).length;
    const known = (value) => (dead ? null : value);
    return {
      ...node,
      address: this.where(node.name), http: this.where(node.name), reachable: !dead, gone_ms: since, last_seen_ms: this.clock() - (since ?? 90),
      draining: this.drained(node), leaving: false, version: known("0.1.0"), uptime_ms: known(11 * 86_400_000 + node.node_id * 1e6), leads: leads, replicas: this.shards.filter((shard) => shard.members.includes(node)).length,
      disk_free_bytes: known((320 - node.node_id * 7) * GIB), disk_total_bytes: known(480 * GIB), disk_reserve_reached: false,
      clock_off_ms: known(late ? -4120 : 0), sync_ms: known(slow ? 38.2 : 0.3 + node.node_id / 30), lateness_ms: known(0.1 * (node.node_id % 4)),
      acks_per_s: known(leads === 0 ? 0 : 400 / 9 + node.node_id), p99_ms: known(leads === 0 ? null : 7.4 + (slow ? 61 : node.node_id / 4)), gap_5m_ms: known(this.state === "burning" ? 871 : 60 + node.node_id * 5), failed_5m: known(this.state === "two_dead" ? 12_737 : 0),
      health: dead ? null : this.state === "two_dead" ? { ok: false, why: "no quorum: a canary append was not acknowledged for 91 s" } : { ok: true, why: "" },
      resources: dead ? [] : this.resources(node),
      problem: slow ? "fsync takes 38 ms, the others' takes 0.4 ms" : late ? "its clock is 4 s behind" : null,
      ...shown,
    };
  }

  resources(node) {
    const near = this.state === "gray" && node.name === "seoul-2";
    return [
      { name: "connections", used: 10 + node.node_id, max: 1000, refused: 0, setting: "limits.connections_max" },
      { name: "open calls", used: near ? 3710 : 214, max: 4096, refused: near ? 12 : 0, setting: "limits.network_mb" },
      { name: "memory of requests", used: 812_000, max: 67_108_864, refused: 0, setting: "limits.network_mb" },
      { name: "shards in memory", used: 9, max: 16_384, refused: 0, setting: "memory.max_mb" },
    ];
  }

  links() {
    const links = [];
    for (const from of NODES.filter(this.alive)) {
      for (const to of NODES) {
        if (from === to) continue;
        const since = this.deadSince(to);
        const cut = this.state === "gray" && from.name === "busan-1" && to.name === "tokyo-3";
        const up = since === null && !cut;
        links.push({ from: from.name, to: to.name, up, state: up ? "up" : "silent", round_ms: up ? roundTrip(from.dc, to.dc) * (1 + ((from.node_id * 7 + to.node_id * 3) % 9) / 50) : null, silent_ms: since ?? (cut ? 61_000 : 40 + ((from.node_id * 31 + to.node_id * 17) % 120)), limit_ms: 450 });
      }
    }
    return links;
  }

  moves() {
    if (this.state === "healthy") return [{ shard: 3, from: "seoul-1", to: "seoul-2", changing: false, waits_for: "seoul-2 is learning it: 61 % of 1.2 GiB" }];
    if (this.state === "burning") return [{ shard: 2, from: "seoul-3", to: "busan-2", changing: true, waits_for: "a quorum of the old and of the new voters" }];
    return [];
  }

  lanes(from = this.clock() - 30 * MINUTE, to = this.clock()) {
    const base = this.clock();
    return NODES.filter(this.alive).map((node) => ({ node: node.name, dc: node.dc, spans: this.spans(node, from, to, base), events: this.events(node, base).filter((event) => event.at_ms >= from && event.at_ms <= to) }));
  }

  spans(node, from, to, base) {
    const spans = [{ from_ms: from, to_ms: to, kind: "up" }];
    if (this.drained(node)) spans.push({ from_ms: base - 9 * MINUTE, to_ms: to, kind: "draining" });
    if (node.name === "tokyo-3") spans[0] = { from_ms: base - 21 * MINUTE, to_ms: to, kind: "up" };
    if (node.name === "tokyo-3") spans.push({ from_ms: from, to_ms: base - 23 * MINUTE, kind: "up" }, { from_ms: base - 23 * MINUTE, to_ms: base - 21 * MINUTE, kind: "down" });
    if (this.state === "gray" && node.name === "seoul-2") spans.push({ from_ms: base - 14 * MINUTE, to_ms: base - 8 * MINUTE, kind: "stalled" });
    if (this.state === "two_dead") spans.push({ from_ms: base - 1.5 * MINUTE, to_ms: to, kind: "alone" });
    return spans;
  }

  events(node, base) {
    const events = [];
    const add = (ago, kind, text, shard = null) => events.push({ at_ms: Math.round(base - ago), kind, shard, text });
    if (node.name === "tokyo-3") {
      add(23 * MINUTE, "stop", "stops: SIGTERM, 3 shards handed over");
      add(21 * MINUTE, "start", "starts 0.1.0 with 13 replicas");
    }
    if (node.node_id % 3 === 1) add(26 * MINUTE + node.node_id * 9000, "hand_over", `hands shard ${node.node_id} to its preferred data center`, node.node_id);
    if (node.name === "busan-2") add(17 * MINUTE, "config", "limits.connections_max = 2000 from node.toml");
    for (const [dc, since] of Object.entries(this.what.dead ?? {})) {
      add(since - 450 - node.node_id * 8, "verdict", `takes ${dc}-1, ${dc}-2 and ${dc}-3 for dead: silent for 450 ms`);
      if (this.state === "two_dead" && dc === "tokyo") add(since - 700, "steps_down", "steps down from 5 shards: no quorum answers", 2);
      else for (const shard of this.shards.filter((one) => one.leader === node && one.members[one.shard % 3].dc === dc).slice(0, 30)) {
        add(since - 520 - shard.shard, "election", `asks for votes in term ${shard.term}`, shard.shard);
        add(since - 600 - shard.shard * 3, "leads", `leads shard ${shard.shard} in term ${shard.term}: its leader fell silent`, shard.shard);
      }
    }
    if (this.drained(node)) for (let n = 0; n < 3; n += 1) add(9 * MINUTE - n * 1500, "hand_over", `hands shard ${node.node_id + n * 3} over: it drains`, node.node_id + n * 3);
    if (this.state === "gray" && node.name === "seoul-2") {
      add(14 * MINUTE, "stall", "fsync took 2.1 s");
      add(11 * MINUTE, "quorum", "hears no quorum of shard 4", 4);
      add(10 * MINUTE, "clock", "its clock is 40 ms off");
      add(9 * MINUTE, "snapshot", "takes a snapshot of shard 4", 4);
      add(7 * MINUTE, "replica", "opens shard 4", 4);
      add(6 * MINUTE, "something_new", "what a later version tells");
      add(12 * MINUTE, "refusal", "refuses appends: 4096 calls are open (TOO_MANY_CALLS)");
    }
    return events.sort((a, b) => a.at_ms - b.at_ms);
  }

  gaps() {
    const base = this.clock();
    const gaps = [{ from_ms: base - 23 * MINUTE, to_ms: base - 23 * MINUTE + 112, node: "tokyo-2", shard: 7, ms: 112 }];
    if (this.what.dead?.seoul) gaps.push({ from_ms: base - this.what.dead.seoul, to_ms: base - this.what.dead.seoul + 871, node: "busan-1", shard: 3, ms: 871 });
    if (this.what.dead?.tokyo) gaps.push({ from_ms: base - 91_400, to_ms: base, node: "busan-2", ms: 91_400 });
    return gaps;
  }

  load(from = this.clock() - 30 * MINUTE, to = this.clock()) {
    const rand = random(Math.floor(from / 1000));
    const step = Math.max(1000, Math.ceil((to - from) / 180 / 1000) * 1000);
    const load = { at_ms: [], acks_per_s: [], failed_per_s: [], p99_ms: [] };
    for (let at = from; at <= to; at += step) {
      const ago = this.clock() - at;
      const off = this.state === "two_dead" && ago < 1.5 * MINUTE;
      const shaken = Object.values(this.what.dead ?? {}).some((since) => Math.abs(ago - since) < step);
      load.at_ms.push(Math.round(at));
      load.acks_per_s.push(off ? 0 : Math.round((412 + 60 * Math.sin(at / 180_000) + 40 * rand() - (shaken ? 190 : 0)) * 10) / 10);
      load.failed_per_s.push(off ? 410 + 20 * rand() : 0);
      load.p99_ms.push(off ? null : Math.round((7.6 + 2.2 * rand() + (shaken ? 840 : 0)) * 10) / 10);
    }
    return load;
  }

  timeline(name, from, to) {
    if (this.what.bare) return { seen_by: { node: name }, lanes: [{ node: "seoul-1" }, {}, null], gaps: [{}] };
    const end = to ?? this.clock();
    const begin = from ?? end - 30 * MINUTE;
    return { seen_by: this.seenBy(name), from_ms: begin, to_ms: end, missing: NODES.filter((node) => !this.alive(node)).map((node) => node.name), lanes: this.lanes(begin, end), load: this.load(begin, end), gaps: this.gaps().filter((gap) => gap.to_ms >= begin && gap.from_ms <= end) };
  }

  shardsPage(name) {
    if (this.what.bare) return { seen_by: null, shards: [{ shard: 1 }, { shard: 2, replicas: [{}] }, {}] };
    const rand = random(4);
    const at_ms = Array.from({ length: 90 }, (_, n) => this.clock() - (89 - n) * 20_000);
    const replica = (shard, node) => {
      const dead = !this.alive(node);
      const state = dead ? "unreachable" : shard.leader === node ? "leader" : "follower";
      return { node: node.name, dc: node.dc, state, lag: dead ? null : state === "leader" ? 0 : shard.shard % 3, committed_index: dead ? null : 118_000 + shard.shard * 91, applied_index: dead ? null : 118_000 + shard.shard * 91, scrubbed_ms: dead ? null : this.clock() - 3.1 * 86_400_000, broken_reason: null };
    };
    return {
      seen_by: this.seenBy(name),
      shards: this.shards.map((shard) => ({ shard: shard.shard, slot_first: shard.slot_first, slot_last: shard.slot_last, leader: shard.leader?.name ?? null, leader_dc: shard.leader?.dc ?? null, term: shard.term, asleep: shard.asleep, degraded_dc: this.state === "burning" ? "seoul" : null, acks_per_s: shard.load, margin: shard.margin, replicas: shard.members.map((node) => replica(shard, node)) })),
      moves: this.moves(),
      heat: this.what.forming ? { at_ms: [], rows: [] } : { at_ms, rows: this.shards.filter((shard) => shard.shard > 0).map((shard) => ({ shard: shard.shard, acks_per_s: at_ms.map((_, n) => (this.state === "two_dead" && n > 85 ? 0 : shard.shard === 9 && n < 4 ? null : shard.load * (0.7 + 0.5 * rand() + 0.2 * Math.sin(n / 9)))) })) },
    };
  }

  whatif(name, dcs, names) {
    const known = names.every((one) => this.find(one)) && dcs.every((dc) => DCS.some((one) => one.dc === dc));
    if (!known) return null;
    const lost = NODES.filter((node) => dcs.includes(node.dc) || names.includes(node.name));
    const left = (shard) => shard.members.filter((node) => this.alive(node) && !lost.includes(node));
    const stopped = this.shards.filter((shard) => left(shard).length < 2).map((shard) => shard.shard);
    const after = (dc, of) => this.shards.filter((shard) => of(shard, left(shard)) === dc).length;
    const leadsAfter = (shard, there) => (there.length < 2 ? null : there.includes(shard.leader) ? shard.leader.dc : there[shard.shard % there.length].dc);
    const gone = DCS.filter(({ dc }) => NODES.filter((node) => node.dc === dc).every((node) => lost.includes(node) || !this.alive(node)));
    return {
      seen_by: this.seenBy(name), gone_already: NODES.filter((node) => !this.alive(node)).map((node) => node.name), lost: lost.map((node) => node.name), served: stopped.length === 0, shards: this.shards.length, stopped, leaderless_for_ms: lost.length === 0 ? 0 : stopped.length > 0 ? null : 500,
      sentence: stopped.length === 0 ? `All ${this.shards.length} shards keep a quorum: nothing is lost, and what had its leader there is led again within about 0.5 s.` : `${stopped.length} of ${this.shards.length} shards would have no quorum. Nothing acknowledged is lost; they serve again once one of the lost is back.`,
      leads: DCS.map(({ dc }) => ({ dc, before: this.shards.filter((shard) => shard.leader?.dc === dc).length, after: after(dc, leadsAfter) })),
      disk: DCS.map(({ dc }, at) => ({ dc, before_pct: 33 + at * 4, after_pct: gone.some((one) => one.dc === dc) ? 0 : 33 + at * 4 + lost.length * 4.5 })),
      replicas: DCS.map(({ dc }) => ({ dc, before: this.shards.length, after: gone.some((one) => one.dc === dc) ? 0 : this.shards.length })),
      unrestorable: gone.length > 0 ? this.shards.slice(0, 40).map((shard) => ({ shard: shard.shard, why: `no node is left in a data center that has none of its replicas (${gone.map((one) => one.dc).join(", ")})` })) : [],
    };
  }

  jobs(name) {
    const jobs = this.moves().map((move) => ({ kind: "move", what: `shard ${move.shard} from ${move.from} to ${move.to}`, state: move.changing ? "voters change" : "learning", waits_for: move.waits_for, done_pct: move.changing ? null : 61, since_ms: this.clock() - 42_000 }));
    if (this.state === "healthy") jobs.push({ kind: "scrub", what: "shard 8 on busan-3", state: "reading back", waits_for: "", done_pct: 12.4, since_ms: this.clock() - 612_000 });
    if (this.what.drained) for (const node of NODES.filter(this.drained)) jobs.push({ kind: "drain", what: node.name, state: "drained: leads nothing", waits_for: "2 clients that still hold a connection", done_pct: 100, since_ms: this.clock() - 9 * MINUTE });
    if (this.state === "burning") jobs.push({ kind: "rebuild", what: "14 replicas of seoul", state: "waiting", waits_for: "seoul to be gone for 5 min (raft.replace_after_ms); 1 min is left", done_pct: null, since_ms: this.clock() - 4 * MINUTE });
    return this.what.bare ? { jobs: [{}, null] } : { seen_by: this.seenBy(name), jobs };
  }

  settings(name) {
    const value = (key, value, standard, about, set = false) => ({ key, value, default: standard, set, about });
    return {
      seen_by: this.seenBy(name), node: name, version: "0.1.0", file: `/etc/firebreak/${name}.toml`,
      values: this.what.bare ? [{ key: "a" }, {}] : [
        value("name", name, "", "what people call the node; never changes", true),
        value("listen", "0.0.0.0:7101", "", "host:port to listen on, for clients and nodes", true),
        value("raft.heartbeat_ms", "500", "500", "between heartbeats of an idle leader"),
        value("raft.election_min_ms", "1500", "1500", "lower bound of the election timeout"),
        value("raft.replace_after_ms", "300000", "300000", "how long a node is gone before its replicas are replaced on others"),
        value("limits.body_bytes_max", "65536", "65536", "largest message body"),
        value("limits.connections_max", "2000", "1000", "connections at once, of clients and nodes; above it the one that was silent longest is closed", true),
        value("limits.disk_reserve_percent", "5", "5", "below this share of free disk appends are refused with DISK_FULL, reads go on"),
        value("memory.max_mb", "", "half of the machine's memory", "what the node's open shards, caches, queues and buffers may have together"),
        value("log.level", "info,firebreak_raft=debug", "info", "what to log: info, or per target", true),
      ],
    };
  }
}
