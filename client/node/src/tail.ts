/** Following a conversation: every message once and in order, over any number of broken streams. */

import * as grpc from "@grpc/grpc-js";
import type { Client } from "./client.js";
import { Deadline, type Fault, Gap, Refused, type Refusal, faultOf, fromStatus, retryable, silent } from "./errors.js";
import { type Node, Tried } from "./nodes.js";
import { TAIL_BACKOFF_MAX, TAIL_GAPS_MAX, TAIL_READY_MAX } from "./options.js";
import { Backoff, sleep } from "./retry.js";
import type * as v1 from "./v1.js";

/** Where a tail begins. */
export interface From {
  seq?: number;
  cursor?: string;
}

export const From = {
  /** With what is appended from now on. */
  NEW: {} as From,
  /** With this seq; 1 is the first. */
  seq: (seq: number): From => ({ seq: Math.max(seq, 1) }),
  /** After the event that this cursor came with. */
  cursor: (cursor: string): From => ({ cursor }),
};

/** What a tail gives: one of these is set. */
export interface Event {
  /** The next message. */
  message?: v1.Message;
  /** A message that came before was edited, erased or reacted to; this is how it is now. After a break a change may
   * come twice. */
  changed?: v1.Message;
  /** Everything up to this seq has been given; what follows is new. */
  caughtUp?: number;
}

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

/** A conversation being followed. Nothing happens until it is asked for the next event. */
export class Tail implements AsyncIterableIterator<Event, undefined, undefined> {
  /** Resumes after the last event given, on any node, in any process; empty before the first. */
  cursor: string;
  /** The seq of the next message; undefined while it is not known. */
  nextSeq: number | undefined;
  readonly #client: Client;
  readonly #parent: string;
  readonly #new: boolean;
  #live: { node: Node; responses: Responses } | undefined;
  #tried = new Tried();
  #backoff = new Backoff();
  #lostAt: number | undefined;
  #connectedBefore = false;
  #gaps = 0;
  #caughtUp: number | undefined;
  #over = false;
  /** Those who ask wait for their turn. */
  #asked: Promise<unknown> = Promise.resolve();

  constructor(client: Client, parent: string, from: From) {
    this.#client = client;
    this.#parent = parent;
    this.#new = from.seq === undefined && !from.cursor;
    this.cursor = from.cursor ?? "";
    this.nextSeq = from.seq;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next event; done once the tail was closed or has thrown. */
  next(): Promise<IteratorResult<Event, undefined>> {
    const event = this.#asked.then(() => this.#next());
    this.#asked = event.catch(() => {});
    return event;
  }

  async #next(): Promise<IteratorResult<Event, undefined>> {
    try {
      while (!this.#over) {
        const event = this.#live ? await this.#step() : await this.#connect();
        if (event) return { value: event, done: false };
      }
    } catch (error) {
      this.close();
      throw error;
    }
    return { value: undefined, done: true };
  }

  /** Called when a `for await` is left. */
  async return(): Promise<IteratorResult<Event, undefined>> {
    this.close();
    return { value: undefined, done: true };
  }

  /** Stops following. */
  close(): void {
    this.#over = true;
    this.#drop();
  }

  async #step(): Promise<Event | undefined> {
    const { node, responses } = this.#live!;
    const next = await responses.next();
    if (this.#over) return undefined;
    if ("response" in next) {
      node.succeeded();
      return await this.#take(next.response);
    }
    if (next.end.code === grpc.status.OK) {
      this.#leave("refused");
    } else {
      if (!retryable(next.end)) throw new Refused(next.end);
      this.#leave(faultOf(next.end));
    }
    return undefined;
  }

  async #take(response: any): Promise<Event | undefined> {
    const next = this.nextSeq;
    let event: Event | undefined;
    if (response.event === "message") {
      const message = response.message as v1.Message;
      if (next !== undefined && message.seq < next) return undefined;
      if (next !== undefined && message.seq > next) return this.#gap(next, message.seq);
      this.#gaps = 0;
      this.nextSeq = message.seq + 1;
      event = { message };
    } else if (response.event === "changed") {
      event = { changed: response.changed };
    } else if (response.event === "caughtUp") {
      const last = response.caughtUp.lastSeq as number;
      // A node that lags behind what this tail has seen has nothing to say about it.
      if (next !== undefined && last + 1 < next) return undefined;
      if (next !== undefined && last >= next) return this.#gap(next, last);
      this.nextSeq = last + 1;
      // Each new stream says it again; the caller hears it when it is news.
      if (this.#caughtUp !== last) event = { caughtUp: last };
      this.#caughtUp = last;
    } else if (response.event === "reconnect") {
      this.#leave("leaving");
      await sleep(Math.min(response.reconnect.afterMs, TAIL_BACKOFF_MAX));
    }
    this.cursor = response.cursor || this.cursor;
    return event;
  }

  #gap(expected: number, found: number): undefined {
    this.#gaps += 1;
    if (this.#gaps > TAIL_GAPS_MAX) throw new Gap(expected, found);
    // The cursor may be what is wrong: go on by number.
    this.cursor = "";
    this.#leave("none");
  }

  async #connect(): Promise<undefined> {
    const { pool, attemptTimeout, counters, deadline } = this.#client;
    this.#lostAt ??= performance.now();
    if (this.#new && this.nextSeq === undefined && !this.cursor) {
      // "New" is fixed once, so that nothing is missed when the first stream breaks.
      this.nextSeq = (await this.#client.getConversation(this.#parent)).lastSeq + 1;
    }
    const node = pool.choose(this.#tried);
    const request = { parent: this.#parent, cursor: this.cursor, startSeq: this.nextSeq ?? 0 };
    const responses = new Responses(node.stub("Messages").Tail(request, this.#client.importMetadata()));
    const refusal = await responses.opened(attemptTimeout);
    if (this.#over) return void responses.call.cancel();
    if (!refusal) {
      if (this.#connectedBefore) counters.failovers += 1;
      this.#connectedBefore = true;
      node.active += 1;
      this.#live = { node, responses };
      return;
    }
    responses.call.cancel();
    const fault = faultOf(refusal);
    node.failed(fault, performance.now());
    this.#tried.ended(node, fault);
    if (!retryable(refusal)) throw new Refused(refusal);
    if (!this.#connectedBefore && performance.now() - this.#lostAt >= deadline) {
      throw new Deadline(false, this.#tried.addresses.length, refusal);
    }
    await sleep(Math.max(this.#backoff.next(), Math.min(refusal.retryAfter ?? 0, TAIL_BACKOFF_MAX)));
  }

  /** Leaves the node; the next step goes to another. */
  #leave(fault: Fault): void {
    if (this.#live) {
      this.#live.node.failed(fault, performance.now());
      this.#tried.forget();
      this.#tried.ended(this.#live.node, fault);
    }
    this.#drop();
    this.#lostAt = undefined;
    this.#backoff.reset();
  }

  #drop(): void {
    if (!this.#live) return;
    this.#live.responses.call.cancel();
    this.#live.node.active -= 1;
    this.#live = undefined;
  }
}
