/** Sessions: whoever writes and reads through one reads what it has written, and never less than it has read, through
 * any node and in any data center. */

import { createBLAKE3, createXXHash128 } from "hash-wasm";
import type { AppendOptions, Client } from "./client.js";
import { Config } from "./errors.js";
import type { Appended, Message } from "./message.js";
import { SESSION_SLOTS_MAX } from "./options.js";
import { Level, type ListOptions, type Page } from "./read.js";
import type * as v1 from "./v1.js";

const [blake3, xxh3] = await Promise.all([createBLAKE3(), createXXHash128()]);
const VERSION = 1;
const HEAD = 3;
const ENTRY = 10;
const CHECK = 4;

/**
 * What a session has seen: a revision for each of at most 128 slots.
 *
 * base64url( version 1 | rest 1 | count 1 | count × ( slot 2 | revision 8 ) | check 4 ), big-endian, slots ascending.
 * `rest` is set when more was seen than is named: of the slots it does not name, everything must be shown.
 */
export class Token {
  constructor(
    public seen = new Map<number, bigint>(),
    public rest = false,
  ) {}

  /** Of a session that was told `revision` of a conversation. */
  static ofConversation(name: string, revision: number): Token {
    const found = /^tenants\/([^/]+)\/conversations\/([^/]+)$/.exec(name);
    if (!found) throw new Config(`${JSON.stringify(name)} is not of the form tenants/{tenant}/conversations/{name}`);
    const key = blake3.init().update(`${found[1]}\0${found[2]}`).digest("binary");
    return new Token(new Map([[key[0]! * 256 + key[1]!, BigInt(revision)]]));
  }

  /** Takes in what another token has seen. */
  merge(other: Token): void {
    let both = new Map(this.seen);
    for (const [slot, revision] of other.seen) {
      const known = both.get(slot) ?? 0n;
      both.set(slot, revision > known ? revision : known);
    }
    // A slot that only one of them names may be among the rest of the other: it must stay there.
    for (const { rest, seen } of [this, other]) {
      if (rest) both = new Map([...both].filter(([slot]) => seen.has(slot)));
    }
    this.rest = this.rest || other.rest || both.size > SESSION_SLOTS_MAX;
    this.seen = new Map([...both].sort(([one], [next]) => one - next).slice(0, SESSION_SLOTS_MAX));
  }

  /** As text; empty when it has seen nothing. */
  encode(): string {
    if (this.seen.size === 0 && !this.rest) return "";
    const bytes = Buffer.alloc(HEAD + this.seen.size * ENTRY + CHECK);
    bytes.set([VERSION, Number(this.rest), this.seen.size]);
    let at = HEAD;
    for (const [slot, revision] of [...this.seen].sort(([one], [next]) => one - next)) {
      bytes.writeUInt16BE(slot, at);
      bytes.writeBigUInt64BE(revision, at + 2);
      at += ENTRY;
    }
    bytes.set(check(bytes.subarray(0, at)), at);
    return bytes.toString("base64url");
  }

  /** Reads a token; the empty text is that of a session that has seen nothing. */
  static decode(text: string): Token {
    if (text === "") return new Token();
    const malformed = new Config("the session token is not one this cluster gave");
    const bytes = Buffer.from(text, "base64url");
    const data = bytes.subarray(0, -CHECK);
    if (!/^[\w-]+$/.test(text) || data.length < HEAD || !check(data).equals(bytes.subarray(-CHECK))) throw malformed;
    if (data[0] !== VERSION) throw new Config("the session token was given by a later version");
    const count = data[2]!;
    if (data[1]! > 1 || count > SESSION_SLOTS_MAX || data.length !== HEAD + count * ENTRY) throw malformed;
    const seen = new Map<number, bigint>();
    for (let at = HEAD; at < data.length; at += ENTRY) seen.set(data.readUInt16BE(at), data.readBigUInt64BE(at + 2));
    if (seen.size !== count) throw malformed;
    return new Token(seen, data[1] === 1);
  }
}

/** The low 32 bits of xxh3-128, the lowest byte first. */
function check(data: Buffer): Buffer {
  return Buffer.from(xxh3.init().update(data).digest("binary").slice(-CHECK)).reverse();
}

/** Calls that keep what they have seen. What another device of the same person has seen is handed on as a token, a
 * short text: token() there, saw() here. */
export class Session {
  readonly #client: Client;
  readonly #seen = new Token();

  constructor(client: Client) {
    this.#client = client;
  }

  /** What was seen so far: for this session elsewhere, through any client. */
  token(): string {
    return this.#seen.encode();
  }

  /** Takes in what another session has seen, or any answer that carried a token. */
  saw(token: string): void {
    this.#seen.merge(Token.decode(token));
  }

  /** Takes in an acknowledgement that came another way, of a stream, say. */
  wrote(parent: string, appended: Appended): void {
    this.#seen.merge(Token.ofConversation(parent, appended.revision));
  }

  /** Client.append; reads of this session see it from then on. */
  async append(parent: string, message: Message, options: AppendOptions = {}): Promise<Appended> {
    const appended = await this.#client.append(parent, message, options);
    this.wrote(parent, appended);
    return appended;
  }

  /** Client.appendBatch; reads of this session see it from then on. */
  async appendBatch(parent: string, batch: Message[], options: AppendOptions = {}): Promise<Appended[]> {
    const all = await this.#client.appendBatch(parent, batch, options);
    for (const appended of all) this.wrote(parent, appended);
    return all;
  }

  /** Client.list at the level SESSION, whatever `options` say of it. */
  async list(parent: string, options: ListOptions = {}): Promise<Page> {
    const page = await this.#client.list(parent, { ...options, level: Level.session(this.token()) });
    this.#answered(page.sessionToken);
    return page;
  }

  /** Client.getConversation at the level SESSION. */
  async getConversation(name: string): Promise<v1.Conversation> {
    const conversation = await this.#client.getConversation(name, Level.session(this.token()));
    this.#answered(conversation.info?.sessionToken ?? "");
    return conversation;
  }

  #answered(token: string): void {
    try {
      this.saw(token);
    } catch (error) {
      // A node of a later version may write what this one cannot read; it has kept to what it was given.
      if (!(error instanceof Config)) throw error;
    }
  }
}
