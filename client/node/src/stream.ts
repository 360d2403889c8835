/**
 * Pipelined appends to many conversations over one stream, which moves between nodes.
 *
 * When a stream breaks, all unanswered messages go out again elsewhere, each under its own id and before anything that
 * came after it. A node that goes away is sent nothing more, is given a second for what it owes, and then is left.
 */

import * as grpc from "@grpc/grpc-js";
import type { Client } from "./client.js";
import { Closed, type Fault, faultOf, fromStatus, type Refusal, retryable, silent } from "./errors.js";
import { type Appended, type Message, toWire } from "./message.js";
import { type Node, Tried } from "./nodes.js";
import * as bounds from "./options.js";
import { Backoff, drawId, sleep } from "./retry.js";
import { Window } from "./window.js";

/** How an AppendStream behaves. */
export interface StreamOptions {
  /** Most unanswered messages; enqueue waits above that. 4,096 unless given, at most 8,192. */
  unansweredMax?: number;
  /** How long each message may take, milliseconds. Unless given: the client's. */
  deadline?: number;
}

/** The answer to one enqueued message. */
export interface Ack {
  readonly answer: Promise<Appended>;
}

/** Why a node was left. */
interface Left {
  fault: Fault;
  refusal?: Refusal;
}

/** When a stream may move although nothing forces it to: at once, then ever more slowly while that does not help. */
class Moves {
  #last: number | undefined;
  #interval = 0;

  may(now: number): boolean {
    const since = this.#last === undefined ? Infinity : now - this.#last;
    if (since > bounds.MOVE_FORGET) this.#interval = 0;
    if (since < this.#interval) return false;
    this.#last = now;
    this.#interval = Math.min(Math.max(this.#interval * 2, bounds.MOVE_INTERVAL_MIN), bounds.MOVE_INTERVAL_MAX);
    return true;
  }
}

/** Pipelined appends, from Client.appendStream. */
export class AppendStream {
  /** Resolves when the stream is closed and everything in it answered. */
  readonly ended: Promise<void>;
  readonly #client: Client;
  readonly #most: number;
  readonly #deadline: number;
  readonly #window = new Window();
  readonly #moves = new Moves();
  readonly #waiting: (() => void)[] = [];
  #closed = false;
  /** Called when there may be something to send, or the stream was closed. */
  #changed: () => void = () => {};

  constructor(client: Client, options: StreamOptions) {
    this.#client = client;
    this.#most = Math.min(Math.max(options.unansweredMax ?? bounds.UNANSWERED_DEFAULT, 1), bounds.UNANSWERED_MAX);
    this.#deadline = options.deadline ?? client.deadline;
    this.ended = this.#run();
  }

  /** Messages that are not answered yet. */
  get unanswered(): number {
    return this.#window.size;
  }

  /** Appends one message: enqueue() and then its answer. */
  async send(parent: string, message: Message): Promise<Appended> {
    return (await this.enqueue(parent, message)).answer;
  }

  /** Waits for room in the window and puts the message into it; its place in the conversation is settled when this
   * returns. The Ack's `answer` gives the answer. The deadline begins here. */
  async enqueue(parent: string, message: Message): Promise<Ack> {
    const started = performance.now();
    if (this.#window.size >= this.#most || this.#waiting.length > 0) {
      await new Promise<void>((turn) => this.#waiting.push(turn));
    }
    if (this.#closed) throw new Closed();
    const answer = new Promise<Appended>((resolve, reject) => {
      const wire = toWire(message, drawId());
      this.#window.push(parent, wire, started, this.#deadline, { resolve, reject }, message.fenceToken);
    });
    // Nobody need listen; a failure that nobody hears is counted all the same.
    answer.catch(() => {});
    this.#changed();
    return { answer };
  }

  /** Takes no more messages, and resolves when what was enqueued is answered or its time is up. */
  close(): Promise<void> {
    this.#closed = true;
    for (const turn of this.#waiting.splice(0)) turn();
    this.#changed();
    return this.ended;
  }

  /** Lets as many of those who wait go on as there is room for. */
  #admit(): void {
    const room = Math.max(this.#most - this.#window.size, 0);
    for (const turn of this.#waiting.splice(0, room)) turn();
  }

  async #run(): Promise<void> {
    const { pool, counters, budget } = this.#client;
    const tried = new Tried();
    const backoff = new Backoff();
    let failures = 0;
    while (await this.#work()) {
      this.#window.rewind();
      const node = pool.choose(tried);
      node.active += 1;
      const attempt = new Attempt(node, this.#client.importMetadata(), this.#parts());
      const left = await attempt.run();
      node.active -= 1;
      if (this.#window.size === 0 && this.#closed) return;
      if (left.refusal && !retryable(left.refusal)) {
        counters.failed += this.#window.refuseInFlight(left.refusal, performance.now());
        this.#admit();
      }
      node.failed(left.fault, performance.now());
      if (attempt.worked) {
        tried.forget();
        backoff.reset();
        failures = 0;
      }
      tried.ended(node, left.fault);
      failures += 1;
      counters.failovers += 1;
      if (failures > 1 || !pool.hasFresh(tried)) {
        await this.#wait(budget.pause(backoff, left.refusal?.retryAfter ?? 0, Infinity));
      }
    }
  }

  /** Waits until there is something to send; false when there never will be. */
  async #work(): Promise<boolean> {
    while (this.#window.size === 0) {
      if (this.#closed) return false;
      await new Promise<void>((wake) => (this.#changed = wake));
    }
    return true;
  }

  /** Waits while deadlines go on passing. */
  async #wait(ms: number): Promise<void> {
    for (const until = performance.now() + ms; performance.now() < until; this.#expire()) {
      await sleep(Math.min(Math.max(until - performance.now(), 1), bounds.TICK));
    }
  }

  /** Ends what is late, and makes what was delayed ready. */
  #expire(): void {
    const now = performance.now();
    this.#client.counters.failed += this.#window.expire(now);
    this.#window.wake(now);
    this.#admit();
  }

  #parts(): Parts {
    return {
      window: this.#window,
      moves: this.#moves,
      attemptTimeout: this.#client.attemptTimeout,
      expire: () => this.#expire(),
      isOver: () => this.#closed && this.#window.size === 0,
      onChange: (changed) => (this.#changed = changed),
      sentAgain: (count) => (this.#client.counters.retries += count),
      heard: (results) => {
        const { counters, budget } = this.#client;
        const now = performance.now();
        const { acked, deduplicated, failed, unavailable } = this.#window.answer(results, now);
        counters.acked += acked;
        counters.deduplicated += deduplicated;
        counters.failed += failed;
        budget.earn(acked);
        this.#admit();
        return unavailable > 0 && this.#moves.may(now);
      },
    };
  }
}

/** What an attempt has of its stream. */
interface Parts {
  window: Window;
  moves: Moves;
  attemptTimeout: number;
  expire(): void;
  /** Whether the stream is closed and all answered. */
  isOver(): boolean;
  onChange(changed: () => void): void;
  sentAgain(count: number): void;
  /** Takes the answers of a frame in; true when another node may do better. */
  heard(results: any[]): boolean;
}

/** A stream to one node, until the node is left. */
class Attempt {
  /** Whether it has answered anything. */
  worked = false;
  readonly #node: Node;
  readonly #parts: Parts;
  readonly #call: any;
  #heardAt = performance.now();
  #leavingUntil: number | undefined;
  #blocked = false;
  #timer: NodeJS.Timeout | undefined;
  #left: (left: Left) => void = () => {};

  constructor(node: Node, metadata: grpc.Metadata, parts: Parts) {
    this.#node = node;
    this.#parts = parts;
    this.#call = node.stub("Messages").AppendStream(metadata);
  }

  /** Serves until the node is left; why. */
  async run(): Promise<Left> {
    const ended = new Promise<Left>((left) => (this.#left = left));
    const call = this.#call;
    call.on("data", (frame: any) => this.#heard(frame));
    call.on("drain", () => {
      this.#blocked = false;
      this.#changed();
    });
    call.on("status", (status: grpc.StatusObject) => {
      const refusal = fromStatus(status);
      this.#left(status.code === grpc.status.OK ? { fault: "none" } : { fault: faultOf(refusal), refusal });
    });
    // The status says the same.
    call.on("error", () => {});
    this.#parts.onChange(() => this.#changed());
    this.#changed();
    const left = await ended;
    clearTimeout(this.#timer);
    this.#parts.onChange(() => {});
    call.removeAllListeners("data");
    call.cancel();
    return left;
  }

  /** Sends frames of whatever may go out, and sees to it that what is late is seen. */
  #changed(): void {
    const { window } = this.#parts;
    if (this.#parts.isOver()) return this.#left({ fault: "none" });
    while (!this.#blocked && this.#leavingUntil === undefined) {
      const { items, again } = window.take(performance.now(), bounds.FRAME_ITEMS_MAX, bounds.FRAME_BYTES);
      if (items.length === 0) break;
      this.#parts.sentAgain(again);
      this.#blocked = !this.#call.write({ items });
    }
    if (this.#timer === undefined && (window.size > 0 || this.#leavingUntil !== undefined)) {
      this.#timer = setTimeout(() => this.#tick(), bounds.TICK);
    }
  }

  #tick(): void {
    this.#timer = undefined;
    this.#parts.expire();
    const left = this.#look();
    if (left) this.#left(left);
    else this.#changed();
  }

  /** Looks for what is late; why the node is left, if it is. */
  #look(): Left | undefined {
    const now = performance.now();
    const oldest = this.#parts.window.oldestInFlight();
    if (this.#leavingUntil !== undefined && (oldest === undefined || now >= this.#leavingUntil)) {
      return { fault: "leaving" };
    }
    if (oldest === undefined) return undefined;
    const quiet = now - Math.max(this.#heardAt, oldest);
    if (quiet >= this.#parts.attemptTimeout) return { fault: "node", refusal: silent(quiet) };
    return now - oldest >= bounds.STUCK_AFTER && this.#parts.moves.may(now) ? { fault: "refused" } : undefined;
  }

  #heard(frame: { results: any[]; goingAway: boolean }): void {
    this.#heardAt = performance.now();
    if (frame.goingAway && this.#leavingUntil === undefined) {
      this.#leavingUntil = this.#heardAt + bounds.OWED_MAX;
      this.#node.failed("leaving", this.#heardAt);
    }
    const better = this.#parts.heard(frame.results);
    if (!this.worked && frame.results.length > 0) {
      this.worked = true;
      this.#node.succeeded();
    }
    if (better) this.#left({ fault: "refused" });
    else this.#changed();
  }
}
