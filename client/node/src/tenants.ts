/** Tenants: what is to be set of one. */

import { timestamp } from "./v1.js";

/** What is to be set of a tenant; what is left out stays, or is as a new tenant has it. */
export interface Tenant {
  /** What people call it, at most 256 bytes. */
  displayName?: string;
  /** Messages a second of all its users; 0 = as many as they like, as with all of these. */
  messagesPerSecond?: number;
  /** Bytes of messages a second. */
  bytesPerSecond?: number;
  /** Conversations at a time. */
  conversations?: number;
  /** Messages a second of each sender. */
  userMessagesPerSecond?: number;
  /** Messages a second in each conversation. */
  conversationMessagesPerSecond?: number;
  /** Messages without a time to live of their own, or of their conversation, expire so many milliseconds after their
   * append: 1 s to 100 years; 0 = they do not. */
  ttl?: number;
  /** The oldest version that is served of each kind of client, such as { node: "0.2.0" }, in place of all there are. */
  minClientVersions?: Record<string, string>;
  /** Where newer clients are, at most 256 bytes. */
  upgradeUrl?: string;
  /** Only if the tenant's revision is still this one; else REVISION_MISMATCH. Of changes only. */
  expectedRevision?: number;
  /** 1 to 128 bytes, so that a program that starts again can send it again. Left out, the client draws one. */
  requestId?: string;
}

/** As they are called over the wire. */
const FIELDS = { displayName: "display_name", minClientVersions: "min_client_versions", upgradeUrl: "upgrade_url" };
const QUOTAS = {
  messagesPerSecond: "messages_per_second",
  bytesPerSecond: "bytes_per_second",
  conversations: "conversations",
  userMessagesPerSecond: "user_messages_per_second",
  conversationMessagesPerSecond: "conversation_messages_per_second",
};

/** As it goes over the wire, and the paths of what is set. */
export function tenantToWire(tenant: Tenant): { wire: object; paths: string[] } {
  const paths: string[] = [];
  const given = (names: Record<string, string>, path: string) => {
    const values: Record<string, unknown> = {};
    for (const [name, wire] of Object.entries(names)) {
      const value = tenant[name as keyof Tenant];
      if (value === undefined) continue;
      values[name] = value;
      paths.push(path + wire);
    }
    return values;
  };
  const wire: Record<string, unknown> = given(FIELDS, "");
  const quotas = given(QUOTAS, "quotas.");
  if (Object.keys(quotas).length > 0) wire["quotas"] = quotas;
  if (tenant.ttl !== undefined) {
    wire["ttl"] = timestamp(tenant.ttl);
    paths.push("ttl");
  }
  return { wire, paths };
}
