/** Following many conversations over one stream that resumes anywhere. */

import type { Client } from "./client.js";
import { FOLLOW_BYTES_MAX, FOLLOW_NAMES_MAX } from "./options.js";
import { Reconnect } from "./reconnect.js";
import type * as v1 from "./v1.js";

/** What happened in one of the conversations that are followed: one of these is set. */
export interface Followed {
  /** A message, once, in the order of its conversation's seqs. */
  message?: v1.Message;
  /** A message that came before was edited, erased, reacted to, or has expired; this is how it is now. After a break a
   * change may come twice. */
  changed?: v1.Message;
  /** A conversation's attributes or rules were set. */
  settings?: v1.Conversation;
  /** This conversation was deleted; its next life comes from seq 1. */
  deleted?: string;
  /** Messages of `parent` before `minSeq` have expired before they came. */
  trimmed?: { parent: string; minSeq: number };
  /** Everything that was asked for and is there has come. */
  caughtUp?: true;
}

/** A conversation that is followed. */
interface Room {
  /** Where it was to begin; 0 = as the cursor says. */
  start: number;
  /** The next message; 0 while none came. */
  next: number;
  /** Something of it came: the cursors that come from then on are behind its beginning. */
  came: boolean;
  /** There is a cursor that says where it is. */
  covered: boolean;
}

/** Many conversations being followed. Nothing happens until it is asked for the next event. */
export class Follow implements AsyncIterableIterator<Followed, undefined, undefined> {
  readonly #client: Client;
  readonly #stream: Reconnect;
  readonly #rooms = new Map<string, Room>();
  #cursor: string;
  /** The same of all that came; some of it may not have been given yet. */
  #reached: string;
  /** What came, each with the cursor behind it, if there is one. */
  #ready: { event: Followed; cursor: string }[] = [];
  /** More was added while this stream ran: when it says that it has caught up, that may be without it. */
  #added = false;

  constructor(client: Client, cursor: string) {
    this.#client = client;
    this.#stream = new Reconnect(client);
    this.#cursor = cursor;
    this.#reached = cursor;
  }

  /** Resumes behind all that was given, on any node, in any process: Client.follow with it, and add of the same
   * conversations. Empty until all has come that there was. */
  get cursor(): string {
    return this.#cursor;
  }

  /** Conversations that are followed. */
  get length(): number {
    return this.#rooms.size;
  }

  /** The node where it is; undefined while it is nowhere. @internal */
  get address(): string | undefined {
    return this.#stream.address;
  }

  /** Follows these conversations too, tenants/{t}/conversations/{c}: behind the cursor, or what is new of them where
   * that says nothing. */
  add(parents: Iterable<string>): void {
    this.addFrom([...parents].map((parent) => [parent, 0]));
  }

  /** The same, each from this seq on; 0 as add. */
  addFrom(parents: Iterable<[parent: string, seq: number]>): void {
    const added = [];
    for (const [parent, start] of parents) {
      // A cursor that was given is one of the same conversations.
      const covered = !this.#stream.call && this.#reached !== "";
      this.#rooms.set(parent, { start, next: 0, came: false, covered });
      added.push({ parent, startSeq: start });
    }
    // A stream that begins sends all that there are.
    if (!this.#stream.call || added.length === 0) return;
    this.#added = true;
    this.#send(adding(added));
  }

  /** Follows these no more. What is on its way of them is not given. */
  remove(parents: Iterable<string>): void {
    const all = [...parents];
    for (const parent of all) this.#rooms.delete(parent);
    if (this.#stream.call) this.#send(chunks(all, (one) => one).map((remove) => ({ remove })));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next event; done once it was closed or has thrown: Refused when something that was added is refused for good,
   * Deadline when no node was ever reached. */
  next(): Promise<IteratorResult<Followed, undefined>> {
    return this.#stream.events(async () => {
      const ready = this.#ready.shift();
      if (ready) this.#cursor = ready.cursor || this.#cursor;
      else if (this.#stream.call) await this.#step();
      else await this.#connect();
      return ready?.event;
    });
  }

  /** Called when a `for await` is left. */
  async return(): Promise<IteratorResult<Followed, undefined>> {
    this.close();
    return { value: undefined, done: true };
  }

  /** Stops following. */
  close(): void {
    this.#stream.close();
  }

  async #step(): Promise<void> {
    const answer = await this.#stream.read();
    if (answer === undefined) return;
    const events: Followed[] = answer.events.flatMap((event: any) => this.#event(event) ?? []);
    if (answer.caughtUp) events.push({ caughtUp: true });
    const cursor: string = answer.cursor;
    if (cursor) {
      this.#reached = cursor;
      const whole = answer.caughtUp && !this.#added;
      // Everything that came is behind it.
      for (const room of this.#rooms.values()) {
        if (whole || room.came) [room.start, room.covered] = [0, true];
      }
    }
    const last = events.length - 1;
    events.forEach((event, at) => this.#ready.push({ event, cursor: at === last ? cursor : "" }));
    if (this.#ready.length === 0) this.#cursor = this.#reached;
    if (answer.reconnect) await this.#stream.sentAway(answer.reconnect.afterMs);
  }

  /** What an event is to the caller; undefined where it came before, or is of a conversation that was removed. */
  #event(wire: any): Followed | undefined {
    switch (wire.event) {
      case "message": {
        const message = wire.message as v1.Message;
        const room = this.#room(parentOf(message));
        if (!room || message.seq < room.next) return undefined;
        room.next = message.seq + 1;
        if (room.start > 0 || !room.covered) room.start = room.next;
        return { message };
      }
      case "changed":
        return this.#room(parentOf(wire.changed)) && { changed: wire.changed };
      case "settings":
        return this.#room(wire.settings.name) && { settings: wire.settings };
      case "deleted": {
        const room = this.#room(wire.deleted);
        if (!room) return undefined;
        // Its next life is behind the cursor, where there is one that knows of it.
        const start = room.start > 0 || !room.covered ? 1 : 0;
        this.#rooms.set(wire.deleted, { start, next: 0, came: true, covered: room.covered });
        return { deleted: wire.deleted };
      }
      case "trimmed": {
        const { parent, minSeq } = wire.trimmed;
        return this.#room(parent) && { trimmed: { parent, minSeq } };
      }
      default:
        // A later version's.
        return undefined;
    }
  }

  #room(parent: string): Room | undefined {
    const room = this.#rooms.get(parent);
    if (room) room.came = true;
    return room;
  }

  async #connect(): Promise<void> {
    const metadata = this.#client.metadata();
    // The cursor is for the first request: what is added meanwhile must not be before it.
    await this.#stream.connect(
      (node) => node.stub("Messages").Follow(metadata),
      () => {
        for (const room of this.#rooms.values()) room.came = false;
        this.#added = false;
        const [first, ...more] = adding([...this.#rooms].map(([parent, { start }]) => ({ parent, startSeq: start })));
        this.#send([{ ...first, cursor: this.#reached }, ...more]);
      },
    );
  }

  #send(requests: object[]): void {
    for (const request of requests) this.#stream.call.write(request);
  }
}

function parentOf({ name }: v1.Message): string {
  return name.split("/messages/", 1)[0]!;
}

/** In parts that a request takes. */
function chunks<T>(all: T[], name: (one: T) => string): T[][] {
  const parts: T[][] = [[]];
  let room = FOLLOW_BYTES_MAX;
  for (const one of all) {
    // Tags, lengths and a number are beside it.
    const needs = name(one).length + 20;
    if (parts.at(-1)!.length >= FOLLOW_NAMES_MAX || needs > room) {
      parts.push([]);
      room = FOLLOW_BYTES_MAX;
    }
    parts.at(-1)!.push(one);
    room -= needs;
  }
  return parts;
}

/** The requests that add conversations; one at least. */
function adding(all: { parent: string; startSeq: number }[]): object[] {
  const parts = chunks(all, ({ parent }) => parent);
  return parts.map((add, at) => ({ add, more: at < parts.length - 1 }));
}
