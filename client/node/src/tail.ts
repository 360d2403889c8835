/** Following a conversation: every message once and in order, over any number of broken streams. */

import type { Client } from "./client.js";
import { Gap } from "./errors.js";
import { TAIL_GAPS_MAX } from "./options.js";
import { Reconnect } from "./reconnect.js";
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

/** A conversation being followed. Nothing happens until it is asked for the next event. */
export class Tail implements AsyncIterableIterator<Event, undefined, undefined> {
  /** Resumes after the last event given, on any node, in any process; empty before the first. */
  cursor: string;
  /** The seq of the next message; undefined while it is not known. */
  nextSeq: number | undefined;
  readonly #client: Client;
  readonly #parent: string;
  readonly #new: boolean;
  readonly #stream: Reconnect;
  #gaps = 0;
  #caughtUp: number | undefined;

  constructor(client: Client, parent: string, from: From) {
    this.#client = client;
    this.#stream = new Reconnect(client);
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
    return this.#stream.events(() => (this.#stream.call ? this.#step() : this.#connect()));
  }

  /** Called when a `for await` is left. */
  async return(): Promise<IteratorResult<Event, undefined>> {
    this.close();
    return { value: undefined, done: true };
  }

  /** Stops following. */
  close(): void {
    this.#stream.close();
  }

  async #step(): Promise<Event | undefined> {
    const response = await this.#stream.read();
    return response === undefined ? undefined : this.#take(response);
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
    }
    this.cursor = response.cursor || this.cursor;
    if (response.event === "reconnect") await this.#stream.sentAway(response.reconnect.afterMs);
    return event;
  }

  #gap(expected: number, found: number): undefined {
    this.#gaps += 1;
    if (this.#gaps > TAIL_GAPS_MAX) throw new Gap(expected, found);
    // The cursor may be what is wrong: go on by number.
    this.cursor = "";
    this.#stream.leave("none");
  }

  async #connect(): Promise<undefined> {
    this.#stream.begin();
    if (this.#new && this.nextSeq === undefined && !this.cursor) {
      // "New" is fixed once, so that nothing is missed when the first stream breaks.
      this.nextSeq = (await this.#client.getConversation(this.#parent)).lastSeq + 1;
    }
    const request = { parent: this.#parent, cursor: this.cursor, startSeq: this.nextSeq ?? 0 };
    await this.#stream.connect((node) => node.stub("Messages").Tail(request, this.#client.metadata()));
  }
}
