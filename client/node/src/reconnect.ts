/** A stream that is followed at one node after another: which is next, how long to wait, and when to give up. */

import * as grpc from "@grpc/grpc-js";
import type { Client } from "./client.js";
import { Deadline, type Fault, type Refusal, Refused, faultOf, fromStatus, retryable, silent } from "./errors.js";
import { type Node, Tried } from "./nodes.js";
import { TAIL_BACKOFF_MAX, TAIL_READY_MAX } from "./options.js";
import { Backoff, sleep } from "./retry.js";

/** The responses of one call, taken one by one; the node waits while many are not taken. */
class Responses {
  #ready: any[] = [];
  #end: Refusal | undefined;
  #wake: (() => void) | undefined;

  constructor(readonly call: any) {
    call.on("data", (response: any) => {
      this.#ready.push(response);
      if (this.#ready.length >= TAIL_READY_MAX) call.pause();
      this.#wake?.();
    });
    const ended = (status: grpc.StatusObject) => {
      this.#end ??= fromStatus(status);
      this.#wake?.();
    };
    call.on("status", ended);
    call.on("error", ended);
  }

  /** The next response, or what the call ended with. */
  async next(): Promise<{ response: any } | { end: Refusal }> {
    while (this.#ready.length === 0) {
      if (this.#end) return { end: this.#end };
      await new Promise<void>((wake) => (this.#wake = wake));
    }
    const response = this.#ready.shift();
    if (this.#ready.length === 0) this.call.resume();
    return { response };
  }

  /** Until the node has taken the call: what it ended with, if it did. */
  opened(limit: number): Promise<Refusal | undefined> {
    return new Promise((done) => {
      const timer = setTimeout(() => done(silent(limit)), limit);
      const settle = () => {
        clearTimeout(timer);
        // A call that is refused ends with no more than metadata, in the same turn.
        setImmediate(() => done(this.#ready.length > 0 ? undefined : this.#end));
      };
      this.call.once("metadata", settle);
      this.call.once("status", settle);
    });
  }
}

/** The node that such a stream is at, or its search for one. */
export class Reconnect {
  over = false;
  readonly #client: Client;
  #live: { node: Node; responses: Responses } | undefined;
  #tried = new Tried();
  #backoff = new Backoff();
  /** When it was lost last; undefined while it is live. */
  #lostAt: number | undefined;
  #connectedBefore = false;
  /** Those who ask wait for their turn. */
  #asked: Promise<unknown> = Promise.resolve();

  constructor(client: Client) {
    this.#client = client;
  }

  /** The call, while there is one. */
  get call(): any {
    return this.#live?.responses.call;
  }

  /** Where it is; undefined while it is nowhere. */
  get address(): string | undefined {
    return this.#live?.node.address;
  }

  /** Runs `step` until it gives something, once those who asked before have theirs. */
  events<T>(step: () => Promise<T | undefined>): Promise<IteratorResult<T, undefined>> {
    const event = this.#asked.then(() => this.#first(step));
    this.#asked = event.catch(() => {});
    return event;
  }

  async #first<T>(step: () => Promise<T | undefined>): Promise<IteratorResult<T, undefined>> {
    try {
      while (!this.over) {
        const value = await step();
        if (value !== undefined) return { value, done: false };
      }
    } catch (error) {
      this.close();
      throw error;
    }
    return { value: undefined, done: true };
  }

  /** The search begins, unless it has. */
  begin(): void {
    this.#lostAt ??= performance.now();
  }

  /** One attempt at the best node; whether that has taken the stream. Where not, this waits for the next. Throws
   * Refused when none would take it, Deadline when no node was ever reached in time. `begun` is called before anybody
   * else hears that it has. */
  async connect(open: (node: Node) => any, begun?: () => void): Promise<boolean> {
    const { pool, attemptTimeout, counters, deadline } = this.#client;
    this.begin();
    const node = pool.choose(this.#tried);
    const responses = new Responses(open(node));
    const refusal = await responses.opened(attemptTimeout);
    if (this.over) {
      responses.call.cancel();
      return false;
    }
    if (!refusal) {
      if (this.#connectedBefore) counters.failovers += 1;
      this.#connectedBefore = true;
      node.active += 1;
      this.#live = { node, responses };
      begun?.();
      return true;
    }
    responses.call.cancel();
    const fault = faultOf(refusal);
    node.failed(fault, performance.now());
    this.#tried.ended(node, fault);
    if (!retryable(refusal)) throw new Refused(refusal);
    if (!this.#connectedBefore && performance.now() - this.#lostAt! >= deadline) {
      throw new Deadline(false, this.#tried.addresses.length, refusal);
    }
    await sleep(Math.max(this.#backoff.next(), Math.min(refusal.retryAfter ?? 0, TAIL_BACKOFF_MAX)));
    return false;
  }

  /** What comes next; undefined when the node was left, or it is over. Throws Refused when it is refused for good. */
  async read(): Promise<any> {
    const { node, responses } = this.#live!;
    const next = await responses.next();
    if (this.over) return undefined;
    if ("response" in next) {
      node.succeeded();
      return next.response;
    }
    if (next.end.code === grpc.status.OK) {
      this.leave("refused");
      return undefined;
    }
    if (!retryable(next.end)) throw new Refused(next.end);
    this.leave(faultOf(next.end));
    return undefined;
  }

  /** The node asks to go on elsewhere, after so long. */
  async sentAway(afterMs: number): Promise<void> {
    this.leave("leaving");
    await sleep(Math.min(afterMs, TAIL_BACKOFF_MAX));
  }

  /** Leaves the node; the next attempt goes to another. */
  leave(fault: Fault): void {
    if (this.#live) {
      this.#live.node.failed(fault, performance.now());
      this.#tried.forget();
      this.#tried.ended(this.#live.node, fault);
    }
    this.#drop();
    this.#lostAt = undefined;
    this.#backoff.reset();
  }

  /** Ends it: whoever waits hears that it is over. */
  close(): void {
    this.over = true;
    this.#drop();
  }

  #drop(): void {
    if (!this.#live) return;
    this.#live.responses.call.cancel();
    this.#live.node.active -= 1;
    this.#live = undefined;
  }
}
