/** A client of one cluster: calls that go from node to node, under one id, until one answers. */

import * as grpc from "@grpc/grpc-js";
import { type Credentials, Dialer } from "./dialer.js";
import { Closed, Code, Config, Deadline, Refused, faultOf, fromStatus, neverSent, retryable, settles, silent } from "./errors.js";
import type { Refusal } from "./errors.js";
import { Changes } from "./feed.js";
import { Follow } from "./follow.js";
import { type Appended, type Changed, type Edit, type Message, toWire } from "./message.js";
import { type Node, type NodeHealth, Nodes, Tried } from "./nodes.js";
import * as bounds from "./options.js";
import { Level, type ListOptions, type Page, pageOf, readOptions } from "./read.js";
import { Backoff, Budget, drawId, sleep } from "./retry.js";
import { Session } from "./session.js";
import { AppendStream, type StreamOptions } from "./stream.js";
import { From, Tail } from "./tail.js";
import { type Tenant, tenantToWire } from "./tenants.js";
import { type Service, timestamp, unixMs } from "./v1.js";
import type * as v1 from "./v1.js";

export interface ClientOptions extends Credentials {
  /** How long a call may take, milliseconds, all attempts together. 5,000 unless given. */
  deadline?: number;
  /** How long a node may be silent before another is asked, milliseconds. 1,000 unless given. */
  attemptTimeout?: number;
  /** Whether to use nodes that the endpoints tell of; false keeps to the endpoints. */
  discover?: boolean;
  /** Whether the appends belong to an import: ids that begin with "import:" are remembered for ever. */
  imports?: boolean;
  /** How long all its calls can wait where a node has too much to do. */
  class?: "sync" | "history" | "export";
}

/** What an append asks for beside the message. */
export interface AppendOptions {
  /** Refuse (SEQ_MISMATCH) unless this is the conversation's last seq. */
  expectedLastSeq?: number;
  /** The message counts as the last of this key, at most 64 bytes. */
  key?: string;
  /** Refuse (KEY_SEQ_MISMATCH) unless this is the last seq of `key`; 0 = there is none yet. */
  expectedLastSeqOfKey?: number;
  /** The conversation's fence token; an append without it is refused (FENCED) once there is one. */
  fenceToken?: string;
}

/** What is to be set of a conversation; what is left out stays. */
export interface Rules {
  /** In place of all that there are. */
  attributes?: Record<string, string>;
  /** Appends must give this token from now on; empty = none. */
  fenceToken?: string;
  /** The token is set only if it was this one (FENCED); empty = if there was none. */
  expectedFenceToken?: string;
  /** Messages expire so many milliseconds after their append; 0 = they do not. */
  ttl?: number;
  /** While it is set nothing expires. */
  legalHold?: boolean;
}

/** What a client has counted since it was made. */
export interface Stats {
  /** Unary calls begun. */
  calls: number;
  /** Messages acknowledged, unary and streamed. */
  acked: number;
  /** Of these, how many had been appended by an earlier attempt. */
  deduplicated: number;
  /** Attempts after the first: of unary calls, and messages sent again on streams. */
  retries: number;
  /** Moves of a call, stream or tail from one node to another. */
  failovers: number;
  /** Calls and streamed messages that ended with an error. */
  failed: number;
}

/** An answer, and what it took. */
interface Answer {
  value: any;
  attempts: number;
  latency: number;
}

/** A client of one cluster. End it with close(). */
export class Client {
  readonly deadline: number;
  readonly attemptTimeout: number;
  /** @internal */
  readonly budget: Budget;
  /** @internal */
  readonly counters: Stats;
  /** @internal */
  readonly pool: Nodes;
  readonly #imports: boolean;
  readonly #class: string;
  readonly #streams: Set<AppendStream>;

  /** @param endpoints nodes to begin with, as host:port; name one of each data center. */
  constructor(endpoints: Iterable<string>, options?: ClientOptions);
  /** @internal */
  constructor(endpoints: Iterable<string>, options: ClientOptions, like: Client);
  constructor(endpoints: Iterable<string>, options: ClientOptions = {}, like?: Client) {
    this.deadline = options.deadline ?? bounds.DEADLINE_DEFAULT;
    this.attemptTimeout = options.attemptTimeout ?? bounds.ATTEMPT_TIMEOUT_DEFAULT;
    this.#imports = options.imports ?? false;
    this.#class = options.class ?? "";
    if (!["", "sync", "history", "export"].includes(this.#class)) {
      throw new Config(`${JSON.stringify(this.#class)} is no class: sync, history or export is needed`);
    }
    this.budget = like?.budget ?? new Budget();
    this.counters = like?.counters ?? { calls: 0, acked: 0, deduplicated: 0, retries: 0, failovers: 0, failed: 0 };
    this.#streams = like ? like.#streams : new Set();
    this.pool = like?.pool ?? new Nodes(endpoints, options.discover ?? true, new Dialer(options));
    if (!like) void this.pool.maintain();
  }

  /** The same client, with the same connections and counts, whose calls may take `deadline` milliseconds. */
  withDeadline(deadline: number): Client {
    const same = { attemptTimeout: this.attemptTimeout, imports: this.#imports };
    return new Client([], { ...same, ...(this.#class ? { class: this.#class as "sync" } : {}), deadline }, this);
  }

  /** Ends streams as AppendStream.close does, and closes all connections. */
  async close(): Promise<void> {
    await Promise.all([...this.#streams].map((stream) => stream.close()));
    this.pool.close();
  }

  /** What this client has counted. */
  stats(): Stats {
    return { ...this.counters };
  }

  /** The nodes that the client knows, by address, and how they are doing. */
  nodes(): NodeHealth[] {
    return this.pool.health();
  }

  // Appending.

  /** Appends one message to `parent`, tenants/{t}/conversations/{c}. However often it is sent on the way, it has one
   * effect. */
  async append(parent: string, message: Message, options: AppendOptions = {}): Promise<Appended> {
    const { fenceToken = message.fenceToken } = options;
    const conditions = precondition({ ...options, ...(fenceToken === undefined ? {} : { fenceToken }) });
    const request = { parent, message: toWire(message, drawId()), precondition: conditions };
    const answer = await this.#call("Messages", "AppendMessage", request, true);
    this.#count(1, answer.value.deduplicated);
    return appended(answer, answer.value.message);
  }

  /** Appends up to 1,000 messages (1 MiB) to one conversation: all of them, next to each other and in order, or none. */
  async appendBatch(parent: string, batch: Message[], options: AppendOptions = {}): Promise<Appended[]> {
    const messages = batch.map((message) => toWire(message, drawId()));
    const request = { parent, messages, precondition: precondition(options) };
    const answer = await this.#call("Messages", "BatchAppendMessages", request, true);
    this.#count(batch.length, answer.value.deduplicated);
    return answer.value.messages.map((message: v1.Message) => appended(answer, message));
  }

  /** Opens a stream of appends; it connects with the first message. */
  appendStream(options: StreamOptions = {}): AppendStream {
    if (this.pool.closed) throw new Closed();
    const stream = new AppendStream(this, options);
    this.#streams.add(stream);
    void stream.ended.then(() => this.#streams.delete(stream));
    return stream;
  }

  // Reading.

  /** A page of `parent`'s messages. */
  async list(parent: string, options: ListOptions = {}): Promise<Page> {
    const { level, startTimeMs, ...same } = options;
    const startTime = startTimeMs === undefined ? {} : { startTime: timestamp(startTimeMs) };
    const request = { ...same, ...startTime, parent, read: readOptions(level) };
    return pageOf((await this.#call("Messages", "ListMessages", request)).value);
  }

  /** All pages of `parent` from `options` on, one after another. */
  async *pages(parent: string, options: ListOptions = {}): AsyncGenerator<Page, void, undefined> {
    for (let next = options; ; ) {
      const page = await this.list(parent, next);
      yield page;
      if (!page.nextPageToken) return;
      next = { ...next, pageToken: page.nextPageToken };
      if (next.level?.name === "SESSION" && page.sessionToken) next.level = Level.session(page.sessionToken);
    }
  }

  /** All messages of `parent` from `options` on, fetched page by page. */
  async *messages(parent: string, options: ListOptions = {}): AsyncGenerator<v1.Message, void, undefined> {
    for await (const page of this.pages(parent, options)) yield* page.messages;
  }

  /** Message `seq` of `parent` as it is now. */
  async getMessage(parent: string, seq: number, options: { level?: Level; reader?: string } = {}): Promise<v1.Message> {
    const request = { name: nameOf(parent, seq), read: readOptions(options.level), reader: options.reader ?? "" };
    return (await this.#call("Messages", "GetMessage", request)).value.message;
  }

  /** Follows `parent`: `for await (const event of client.tail(…))`. Until the first node answers, the client's deadline
   * holds; after that the tail reconnects for as long as it takes. */
  tail(parent: string, from: From = From.NEW): Tail {
    return new Tail(this, parent, from);
  }

  /** Follows what is then added: `for await (const event of follow)`. `cursor` resumes where another follow was, of the
   * same conversations; empty begins anew. Until the first node answers, the client's deadline holds; after that it
   * reconnects for as long as it takes. */
  follow(cursor = ""): Follow {
    return new Follow(this, cursor);
  }

  /** Changes of `tenant` behind a cursor, `for await (const changes of client.changes(…))`; with an empty one all that
   * there is. */
  changes(tenant: string, cursor = ""): Changes {
    return new Changes(this, tenant, cursor);
  }

  /** A session that has seen nothing yet. */
  session(): Session {
    return new Session(this);
  }

  /** A session that goes on where the one of `token` was. */
  resume(token: string): Session {
    const session = new Session(this);
    session.saw(token);
    return session;
  }

  // Changing messages.

  /** Changes what message `seq` of `parent` says. */
  async edit(parent: string, seq: number, edit: Edit): Promise<Changed> {
    const { attributes, requestId, ...same } = edit;
    const values = attributes && { attributes: { values: attributes } };
    const request = { ...same, ...values, name: nameOf(parent, seq), requestId: requestId || drawId() };
    return changed(await this.#call("Messages", "EditMessage", request, true));
  }

  /** Erases message `seq` of `parent`: a tombstone keeps its number. */
  async redact(parent: string, seq: number, requestId = ""): Promise<Changed> {
    const request = { name: nameOf(parent, seq), requestId: requestId || drawId() };
    return changed(await this.#call("Messages", "RedactMessage", request, true));
  }

  /** Sets a reaction of `user` to message `seq` of `parent`, or takes it back. */
  async react(
    parent: string,
    seq: number,
    user: string,
    kind: string,
    { remove = false, requestId = "" } = {},
  ): Promise<Changed> {
    const request = { name: nameOf(parent, seq), requestId: requestId || drawId(), user, kind, remove };
    return changed(await this.#call("Messages", "React", request, true));
  }

  /** A page of who has set which reactions to the messages `firstSeq` to `lastSeq` of `parent`, to all unless given, and
   * the token of the next page; empty at the end. */
  async listReactions(
    parent: string,
    options: { firstSeq?: number; lastSeq?: number; pageToken?: string; level?: Level } = {},
  ): Promise<{ reactions: v1.Reaction[]; nextPageToken: string }> {
    const { level, ...same } = options;
    const request = { ...same, parent, pageSize: bounds.PAGE_SIZE_MAX, read: readOptions(level) };
    const { reactions, nextPageToken } = (await this.#call("Messages", "ListReactions", request)).value;
    return { reactions, nextPageToken };
  }

  // Conversations.

  /** The conversation: its head, its shard, its content hash. */
  async getConversation(name: string, level?: Level): Promise<v1.Conversation> {
    return (await this.#call("Conversations", "GetConversation", { name, read: readOptions(level) })).value;
  }

  /** Creates a conversation; only needed for settings, since the first append creates it too. */
  async createConversation(
    tenant: string,
    conversationId: string,
    attributes: Record<string, string> = {},
    requestId = "",
  ): Promise<v1.Conversation> {
    const parent = `tenants/${tenant}`;
    const request = { parent, conversationId, conversation: { attributes }, requestId: requestId || drawId() };
    return (await this.#call("Conversations", "CreateConversation", request, true)).value;
  }

  /** Sets the attributes of the conversation `name`, in place of all that there are. */
  async updateConversation(
    name: string,
    attributes: Record<string, string>,
    requestId = "",
  ): Promise<{ conversation: v1.Conversation; deduplicated: boolean }> {
    return this.setRules(name, { attributes }, requestId);
  }

  /** Sets what is given of the conversation `name`, all of it at once; the rest stays. */
  async setRules(
    name: string,
    rules: Rules,
    requestId = "",
  ): Promise<{ conversation: v1.Conversation; deduplicated: boolean }> {
    const { attributes, fenceToken, expectedFenceToken, ttl, legalHold } = rules;
    const request = {
      name,
      requestId: requestId || drawId(),
      ...(attributes === undefined ? {} : { attributes: { values: attributes } }),
      ...(fenceToken === undefined ? {} : { fence: { token: fenceToken, expectedToken: expectedFenceToken } }),
      ...(ttl === undefined ? {} : { ttl: timestamp(ttl) }),
      ...(legalHold === undefined ? {} : { legalHold }),
    };
    return (await this.#call("Conversations", "UpdateConversation", request, true)).value;
  }

  /** Deletes the conversation `name` with all that is in it. */
  async deleteConversation(
    name: string,
    requestId = "",
  ): Promise<{ conversation: v1.Conversation; deduplicated: boolean }> {
    const request = { name, requestId: requestId || drawId() };
    return (await this.#call("Conversations", "DeleteConversation", request, true)).value;
  }

  /** A page of the conversations of `tenant`, and the token of the next page; empty at the end. A page may hold fewer
   * than `pageSize`, or none, before the last. */
  async listConversations(
    tenant: string,
    options: { pageSize?: number; pageToken?: string; level?: Level } = {},
  ): Promise<{ conversations: v1.Conversation[]; nextPageToken: string }> {
    const { level, ...same } = options;
    const request = { ...same, parent: `tenants/${tenant}`, read: readOptions(level) };
    const { conversations, nextPageToken } = (await this.#call("Conversations", "ListConversations", request)).value;
    return { conversations, nextPageToken };
  }

  // Tenants.

  /** Creates the tenant `id` (TENANT_EXISTS, TENANT_DELETING, TENANTS_FULL). */
  async createTenant(id: string, tenant: Tenant = {}): Promise<v1.TenantResponse> {
    const request = { tenantId: id, tenant: tenantToWire(tenant).wire, requestId: tenant.requestId || drawId() };
    return (await this.#call("Tenants", "CreateTenant", request, true)).value;
  }

  /** The tenant `id`, and while it is being deleted how far that is (TENANT_UNKNOWN). */
  async getTenant(id: string): Promise<v1.Tenant> {
    return (await this.#call("Tenants", "GetTenant", { name: `tenants/${id}` })).value;
  }

  /** Tenants that were created, in the order of their names: a page, and the token of the next one; empty behind the
   * last. */
  async listTenants(
    options: { pageSize?: number; pageToken?: string } = {},
  ): Promise<{ tenants: v1.Tenant[]; nextPageToken: string }> {
    const { tenants, nextPageToken } = (await this.#call("Tenants", "ListTenants", options)).value;
    return { tenants, nextPageToken };
  }

  /** Sets what `tenant` gives of the tenant `id`; the rest stays (TENANT_UNKNOWN, REVISION_MISMATCH). */
  async updateTenant(id: string, tenant: Tenant): Promise<v1.TenantResponse> {
    const { wire, paths } = tenantToWire(tenant);
    const { requestId, expectedRevision } = tenant;
    const request = {
      tenant: { ...wire, name: `tenants/${id}` },
      updateMask: { paths },
      requestId: requestId || drawId(),
      ...(expectedRevision === undefined ? {} : { expectedRevision }),
    };
    return (await this.#call("Tenants", "UpdateTenant", request, true)).value;
  }

  /** Begins to remove the tenant `id` with everything in it; getTenant says how far that is, and does not find it any
   * more once it is done. `allowMissing`: also where it was never created. */
  async deleteTenant(
    id: string,
    { allowMissing = false, requestId = "" }: { allowMissing?: boolean; requestId?: string } = {},
  ): Promise<v1.TenantResponse> {
    const request = { name: `tenants/${id}`, requestId: requestId || drawId(), allowMissing };
    return (await this.#call("Tenants", "DeleteTenant", request, true)).value;
  }

  // How calls are made.

  /** Metadata of a stream that is followed. @internal */
  metadata(): grpc.Metadata {
    const metadata = new grpc.Metadata();
    metadata.set(bounds.CLIENT, bounds.CLIENT_NAME);
    return metadata;
  }

  /** Metadata of what writes. @internal */
  importMetadata(): grpc.Metadata {
    const metadata = this.metadata();
    if (this.#imports) metadata.set(bounds.IMPORT, "1");
    return metadata;
  }

  /** A call that reads, for what follows by calls. @internal */
  call(service: Service, method: string, request: object): Promise<{ value: any }> {
    return this.#call(service, method, request);
  }

  /** Calls a method on nodes until one answers, an answer is final, or the deadline passes. */
  async #call(service: Service, method: string, request: object, writes = false): Promise<Answer> {
    if (this.pool.closed) throw new Closed();
    this.counters.calls += 1;
    try {
      return await this.#attempts(service, method, request, writes);
    } catch (error) {
      this.counters.failed += 1;
      throw error;
    }
  }

  async #attempts(service: Service, method: string, request: object, writes: boolean): Promise<Answer> {
    const tried = new Tried();
    const backoff = new Backoff();
    const started = performance.now();
    const deadline = started + this.deadline;
    let patience = this.attemptTimeout;
    let maybeDone = false;
    for (let attempts = 1; ; attempts += 1) {
      if (attempts > 1) this.counters.retries += 1;
      const node = this.pool.choose(tried);
      const timeout = Math.max(Math.min(patience, deadline - performance.now()), 1);
      const metadata = this.importMetadata();
      if (this.#class) metadata.set(bounds.CLASS, this.#class);
      const outcome = await attempt(node, service, method, request, timeout, metadata);
      if ("value" in outcome) {
        node.succeeded();
        if (outcome.leaving) node.failed("leaving", performance.now());
        this.budget.earn();
        return { value: outcome.value, attempts, latency: performance.now() - started };
      }
      const { refusal } = outcome;
      const fault = faultOf(refusal);
      const wasSilent = fault === "node" && refusal.code === Code.DEADLINE_EXCEEDED;
      if (wasSilent) patience = Math.min(patience * 1.5, bounds.ATTEMPT_TIMEOUT_MAX);
      // A caller in a hurry says nothing about the node.
      if (fault === "none") node.succeeded();
      else if (!(wasSilent && timeout < this.attemptTimeout)) node.failed(fault, performance.now());
      if (!retryable(refusal)) throw new Refused(refusal, maybeDone && !settles(refusal));
      maybeDone ||= writes && !neverSent(refusal);
      tried.ended(node, fault);
      const atOnce = attempts === 1 && this.pool.hasFresh(tried);
      const left = deadline - performance.now();
      const wait = atOnce ? 0 : this.budget.pause(backoff, refusal.retryAfter ?? 0, left);
      if (performance.now() + wait >= deadline) throw new Deadline(maybeDone, attempts, refusal);
      this.counters.failovers += 1;
      if (wait > 0) await sleep(wait);
    }
  }

  #count(messages: number, deduplicated: boolean): void {
    this.counters.acked += messages;
    if (deduplicated) this.counters.deduplicated += messages;
  }
}

type Outcome = { value: any; leaving: boolean } | { refusal: Refusal };

/** One attempt on one node: its answer and whether it goes away, or its refusal. */
function attempt(
  node: Node,
  service: Service,
  method: string,
  request: object,
  timeout: number,
  metadata: grpc.Metadata,
): Promise<Outcome> {
  node.active += 1;
  return new Promise((done) => {
    let leaving = false;
    const look = (from: grpc.Metadata) => {
      leaving ||= from.get(bounds.GOING_AWAY).length > 0;
    };
    const limit = { deadline: Date.now() + timeout };
    let answered: { error: grpc.ServiceError | null; value: any } | undefined;
    const call = node.stub(service)[method](request, metadata, limit, (error: any, value: any) => {
      answered = { error, value };
    });
    call.on("metadata", look);
    // It comes behind the answer, with the trailing metadata.
    call.on("status", (status: grpc.StatusObject) => {
      node.active -= 1;
      look(status.metadata);
      if (answered && !answered.error) return done({ value: answered.value, leaving });
      const refusal = fromStatus(answered?.error ?? status);
      done({ refusal: refusal.code === Code.DEADLINE_EXCEEDED && !refusal.reason ? silent(timeout) : refusal });
    });
  });
}

function precondition(options: AppendOptions): object | undefined {
  return Object.keys(options).length === 0 ? undefined : options;
}

function nameOf(parent: string, seq: number): string {
  return `${parent}/messages/${seq}`;
}

function appended({ value, latency, attempts }: Answer, message: v1.Message): Appended {
  const { seq, revision, createTime } = message;
  return { seq, revision, createTimeMs: unixMs(createTime), deduplicated: value.deduplicated, latency, attempts };
}

function changed({ value: { message, deduplicated, info } }: Answer): Changed {
  const { seq, revision, createTime, reactions } = message as v1.Message;
  const count = reactions?.[0]?.count ?? 0;
  const sessionToken = info?.sessionToken ?? "";
  return { seq, revision, createTimeMs: unixMs(createTime), count, deduplicated, sessionToken };
}
