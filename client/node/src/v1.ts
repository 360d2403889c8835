/** The wire's own messages, as far as callers see them, and the services. Numbers are exact up to 2^53. */

import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

export interface Timestamp {
  seconds: number;
  nanos: number;
}

export interface ReactionCount {
  /** An emoji, or a key of the application's. */
  kind: string;
  /** Users who have set it. */
  count: number;
  /** The reader that the request names is one of them. */
  mine: boolean;
}

/** A message as it is read. */
export interface Message {
  name: string;
  seq: number;
  /** The shard's change number. */
  revision: number;
  sender: string;
  clientMessageId: string;
  type: string;
  body: Buffer;
  attributes: Record<string, string>;
  /** 0 = none. */
  replyToSeq: number;
  silent: boolean;
  createTime: Timestamp | null;
  originalTime: Timestamp | null;
  /** Of the last edit. */
  editTime?: Timestamp | null;
  /** Set when it was erased, or has expired. */
  redaction?: { redactTime: Timestamp | null; expired?: boolean } | null;
  expireTime?: Timestamp | null;
  reactions?: ReactionCount[];
}

export interface ResponseInfo {
  sessionToken: string;
  /** Node and data center that answered. */
  servedBy: string;
  staleness: Timestamp | null;
}

export interface Conversation {
  name: string;
  lastSeq: number;
  minSeq: number;
  /** Changes when it is deleted and created again. */
  incarnation: number;
  createTime: Timestamp | null;
  attributes: Record<string, string>;
  shard: number;
  contentHash: Buffer;
  info: ResponseInfo | null;
  revision?: number;
  deleteTime?: Timestamp | null;
  /** Empty = none. */
  fenceToken?: string;
  ttl?: Timestamp | null;
  legalHold?: boolean;
  keys?: { key: string; lastSeq: number }[];
}

/** Who has set which reaction. */
export interface Reaction {
  /** The message's. */
  seq: number;
  user: string;
  kind: string;
}

/** Something as it is now; `what` says which of the last four is set. */
export interface Change {
  /** The same for the same change, however often it comes. */
  id: string;
  conversation: string;
  incarnation: number;
  revision: number;
  what: "message" | "settings" | "deleted" | "trimmed";
  /** New, edited, erased or reacted to. */
  message?: Message;
  /** Its attributes or rules. */
  settings?: Conversation;
  deleted?: Conversation;
  /** Messages before this seq have expired and are gone. */
  trimmed?: number;
}

/** A tenant as it is. */
export interface Tenant {
  name: string;
  displayName: string;
  createTime: Timestamp | null;
  updateTime: Timestamp | null;
  revision: number;
  quotas: {
    messagesPerSecond: number;
    bytesPerSecond: number;
    conversations: number;
    userMessagesPerSecond: number;
    conversationMessagesPerSecond: number;
  } | null;
  ttl: Timestamp | null;
  minClientVersions: Record<string, string>;
  upgradeUrl: string;
  /** Set while it is being deleted. */
  removal: {
    deleteTime: Timestamp | null;
    shards: number;
    /** Of these, how many hold nothing of it any more. */
    shardsDone: number;
    conversationsRemoved: number;
  } | null;
}

export interface TenantResponse {
  /** As of this request. */
  tenant: Tenant;
  /** This request had been answered before. */
  deduplicated: boolean;
}

export function unixMs(time: Timestamp | null | undefined): number {
  return time ? time.seconds * 1_000 + Math.floor(time.nanos / 1e6) : 0;
}

export function timestamp(unixMs: number): Timestamp {
  const seconds = Math.floor(unixMs / 1_000);
  return { seconds, nanos: (unixMs - seconds * 1_000) * 1_000_000 };
}

const FILES = ["messages", "admin", "changes", "tenants"].map((name) => `firebreak/v1/${name}.proto`);
const folder = fileURLToPath(new URL("../proto", import.meta.url));
const loaded = loadSync(FILES, {
  includeDirs: [folder],
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const packages = grpc.loadPackageDefinition(loaded) as any;

export type Service = "Messages" | "Conversations" | "Admin" | "Changes" | "Tenants";

/** The stub of a service on a channel. */
export function stub(service: Service, address: string, channel: grpc.Channel, interceptors: grpc.Interceptor[]): any {
  // The channel has credentials of its own.
  const credentials = grpc.credentials.createInsecure();
  return new packages.firebreak.v1[service](address, credentials, { channelOverride: channel, interceptors });
}

/** Whether nodes of this version have a method. */
export function hasMethod(service: Service, method: string): boolean {
  return method in packages.firebreak.v1[service].service;
}
