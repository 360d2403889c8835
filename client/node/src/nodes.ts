/**
 * The nodes that the client knows, how each of them is doing, and which to ask next.
 *
 * A node that does not answer is *lost*: no call goes to it while another node is left, until a probe in the
 * background succeeds. Next to a lost node, the others of its data center are asked last for a while, since fires
 * take whole ones.
 */

import * as grpc from "@grpc/grpc-js";
import { Dialer } from "./dialer.js";
import { Config, type Fault, faultOf, fromStatus } from "./errors.js";
import * as options from "./options.js";
import type { Service } from "./v1.js";

/** How a node has been doing, as seen by this client. */
export interface NodeHealth {
  /** host:port. */
  address: string;
  /** Its number; 0 while it has not been learnt. */
  nodeId: number;
  name: string;
  dc: string;
  /** It did not answer when last asked. */
  lost: boolean;
  /** Calls and streams that are using it. */
  active: number;
}

/** A node that the client knows. */
export class Node {
  id = 0;
  name = "";
  active = 0;
  lostAt: number | undefined;
  nextProbe = 0;
  probeInterval = options.MAINTAIN_INTERVAL;
  leavingAt: number | undefined;
  /** The shortest answer to a probe lately: how far it is. */
  round: number | undefined;
  #refusals = 0;
  #channel: grpc.Channel | undefined;
  #stubs = new Map<Service, any>();

  constructor(
    readonly address: string,
    readonly rank: number,
    public dc = "",
    readonly dialer = new Dialer(),
  ) {}

  /** The stub of a service. Connects when first used. */
  stub(service: Service): any {
    this.#channel ??= this.dialer.dial(this.address);
    let one = this.#stubs.get(service);
    if (!one) this.#stubs.set(service, (one = this.dialer.stub(service, this.address, this.#channel)));
    return one;
  }

  isLeaving(now: number): boolean {
    return this.leavingAt !== undefined && now - this.leavingAt < options.LEAVING_VALID;
  }

  lose(now: number): void {
    // Many calls in flight fail together: that is one loss.
    if (this.lostAt !== undefined) return;
    this.lostAt = now;
    this.probeInterval = options.MAINTAIN_INTERVAL;
    this.nextProbe = now + this.probeInterval;
  }

  succeeded(): void {
    this.lostAt = undefined;
    this.#refusals = 0;
  }

  /** What a failed attempt says about the node. */
  failed(fault: Fault, now: number): void {
    if (fault === "node") this.lose(now);
    if (fault === "leaving") this.leavingAt = now;
    if (fault === "refused" && ++this.#refusals >= options.REFUSALS_MAX) {
      this.#refusals = 0;
      this.lose(now);
    }
  }

  close(): void {
    this.#channel?.close();
  }
}

/** Which nodes one call has tried already. */
export class Tried {
  addresses: string[] = [];
  /** The data center that failed last. */
  avoidDc = "";

  /** The node did not help, for this reason; those beside one that goes away still may. */
  ended(node: Node, fault: Fault): void {
    this.addresses.push(node.address);
    if (fault !== "leaving") this.avoidDc = node.dc;
  }

  /** Forgets which nodes were tried, but not the data center to keep away from. */
  forget(): void {
    this.addresses = [];
  }
}

/** How far away: a metropolis, a country, a continent, the world. Coarse, so that calls spread over equals. */
function distance(round: number): number {
  return round < 10 ? 0 : round < 60 ? 1 : round < 150 ? 2 : 3;
}

/** The best node for a call that has tried some. */
export function best(nodes: Node[], tried: Tried, now: number): Node {
  const suspects = new Set<string>();
  const rounds = new Map<string, number>();
  for (const { dc, lostAt, round } of nodes) {
    if (dc && lostAt !== undefined && now - lostAt < options.DC_SUSPECT) suspects.add(dc);
    if (dc && lostAt === undefined && round !== undefined) rounds.set(dc, Math.min(round, rounds.get(dc) ?? round));
  }
  const score = (node: Node): number[] => [
    Number(node.lostAt !== undefined),
    Number(node.isLeaving(now)),
    tried.addresses.filter((one) => one === node.address).length,
    Number(node.dc !== "" && (node.dc === tried.avoidDc || suspects.has(node.dc))),
    // Unknown is near, so that it becomes known.
    distance(node.round ?? rounds.get(node.dc) ?? 0),
    node.active,
    node.rank,
  ];
  const less = (one: number[], other: number[]): boolean => {
    const at = one.findIndex((value, at) => value !== other[at]);
    return at >= 0 && one[at]! < other[at]!;
  };
  return nodes.reduce((chosen, node) => (less(score(node), score(chosen)) ? node : chosen));
}

/** All nodes of a client. */
export class Nodes {
  readonly known = new Map<string, Node>();
  #discover: boolean;
  #timer: NodeJS.Timeout | undefined;
  #discoverAt = 0;
  closed = false;

  readonly #dialer: Dialer;

  constructor(endpoints: Iterable<string>, discover: boolean, dialer = new Dialer()) {
    this.#discover = discover;
    this.#dialer = dialer;
    for (const endpoint of endpoints) {
      const port = /^.+:(\d{1,5})$/.exec(endpoint)?.[1];
      if (!port || Number(port) < 1 || Number(port) > 65_535) {
        throw new Config(`${JSON.stringify(endpoint)} is no address: host:port is needed`);
      }
      this.#add(endpoint);
    }
    if (this.known.size === 0) throw new Config("no endpoint was given, host:port is needed");
  }

  #add(address: string): Node | undefined {
    if (!this.known.has(address) && this.known.size < options.NODES_MAX) {
      this.known.set(address, new Node(address, Math.random(), "", this.#dialer));
    }
    return this.known.get(address);
  }

  choose(tried: Tried): Node {
    return best([...this.known.values()], tried, performance.now());
  }

  /** Whether a node is left that is neither lost nor tried: moving to it needs no wait. */
  hasFresh(tried: Tried): boolean {
    return [...this.known.values()].some((n) => n.lostAt === undefined && !tried.addresses.includes(n.address));
  }

  health(): NodeHealth[] {
    const sorted = [...this.known.values()].sort((one, other) => (one.address < other.address ? -1 : 1));
    return sorted.map(({ address, id, name, dc, lostAt, active }) => {
      return { address, nodeId: id, name, dc, lost: lostAt !== undefined, active };
    });
  }

  /** Takes in what the node `asked` says about the cluster. */
  learn(asked: Node, status: { nodeId: number; nodes: any[] }): void {
    const now = performance.now();
    const describe = (node: Node, from: any) => {
      node.id = from.nodeId;
      node.name = from.name;
      node.dc = from.dc;
      if (from.draining) node.leavingAt = now;
    };
    for (const one of status.nodes) {
      // An endpoint may be another name for the node's own address.
      if (one.nodeId === status.nodeId) describe(asked, one);
      const twin = [...this.known.values()].find((node) => node.id === one.nodeId && node.address !== one.address);
      if (twin && twin.lostAt === undefined) continue;
      const node = this.#discover ? this.#add(one.address) : this.known.get(one.address);
      if (node) describe(node, one);
    }
  }

  /** Asks one node for the cluster's status, and learns from it; whether it answered. */
  probe(node: Node): Promise<boolean> {
    const began = performance.now();
    const metadata = new grpc.Metadata({ waitForReady: true });
    const limit = { deadline: Date.now() + options.PROBE_TIMEOUT };
    return new Promise((done) => {
      node.stub("Admin").GetStatus({}, metadata, limit, (error: grpc.ServiceError | null, status: any) => {
        const now = performance.now();
        if (!error) {
          node.succeeded();
          // Longer rounds count little by little: an answer waits now and then.
          const grown = node.round === undefined ? Infinity : node.round * 1.5 + 1;
          node.round = Math.min(now - began, grown);
          this.learn(node, status);
        } else if (faultOf(fromStatus(error)) === "none") {
          // It answers, and does not let this caller in.
          node.succeeded();
        } else if (node.lostAt === undefined) {
          node.lose(now);
        } else {
          node.probeInterval = Math.min(node.probeInterval * 2, options.PROBE_INTERVAL_MAX);
          node.nextProbe = now + node.probeInterval;
        }
        done(!error);
      });
    });
  }

  /** Learns nodes and probes the lost ones, until closed. */
  async maintain(): Promise<void> {
    const now = performance.now();
    const all = [...this.known.values()];
    const due = all.filter((node) => node.lostAt !== undefined && node.nextProbe <= now);
    if (this.#discoverAt <= now) {
      const asked = this.choose(new Tried());
      if (await this.probe(asked)) {
        this.#discoverAt = now + options.DISCOVER_INTERVAL;
        // One of each other data center: its connection stays open for whoever has to go there.
        const spares = new Map<string, Node>();
        for (const node of this.known.values()) {
          if (node.dc && node.dc !== asked.dc && node.lostAt === undefined) spares.set(node.dc, node);
        }
        due.push(...spares.values());
      }
    }
    if (this.closed) return;
    await Promise.all(due.map((node) => this.probe(node)));
    if (this.closed) return;
    this.#timer = setTimeout(() => void this.maintain(), options.MAINTAIN_INTERVAL);
    // A program may end while its client is open.
    this.#timer.unref();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.#timer);
    for (const node of this.known.values()) node.close();
  }
}
