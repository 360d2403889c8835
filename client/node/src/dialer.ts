/** How nodes are reached: with TLS where an authority is named, and with an API key or a token where there is one. */

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import * as grpc from "@grpc/grpc-js";
import { Config } from "./errors.js";
import * as options from "./options.js";
import { type Service, stub } from "./v1.js";

/** A file's path, or its content: PEM. */
export type Pem = string | Uint8Array;

/** Whom a client trusts, and what it shows. */
export interface Credentials {
  /** The authority whose nodes are trusted, PEM: a file's path, or its content as bytes. Connections have TLS then. */
  ca?: Pem;
  /** The client's own certificate, in the same way; with `certKey`. */
  cert?: Pem;
  /** The private key of `cert`. */
  certKey?: Pem;
  /** An API key or a token, for nodes that let in nobody without. Without TLS it can be read on its way. */
  apiKey?: string;
}

const CHANNEL: grpc.ChannelOptions = {
  "grpc.keepalive_time_ms": 1_000,
  "grpc.keepalive_timeout_ms": 1_000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // The client retries itself, over nodes; a channel knows only one.
  "grpc.enable_retries": 0,
  "grpc.enable_http_proxy": 0,
  "grpc.use_local_subchannel_pool": 1,
  "grpc.max_receive_message_length": options.FRAME_BYTES_MAX,
  "grpc.max_send_message_length": options.FRAME_BYTES_MAX,
};

/** Opens channels that are all alike. */
export class Dialer {
  readonly #tls: grpc.ChannelCredentials;
  readonly #carried: grpc.Interceptor[];

  constructor({ ca, cert, certKey, apiKey }: Credentials = {}) {
    this.#carried = carried((apiKey ?? "").trim());
    if ((cert === undefined) !== (certKey === undefined) || (cert !== undefined && ca === undefined)) {
      throw new Config("a certificate needs its private key (cert, certKey) and an authority to trust (ca)");
    }
    if (ca === undefined) {
      this.#tls = grpc.credentials.createInsecure();
      return;
    }
    const trusted = read("ca", ca, "CERTIFICATE-----");
    const shown = cert === undefined ? null : read("cert", cert, "CERTIFICATE-----");
    const key = certKey === undefined ? null : read("certKey", certKey, "PRIVATE KEY-----");
    try {
      for (const one of [trusted, shown]) if (one) new X509Certificate(one);
      this.#tls = grpc.credentials.createSsl(trusted, key, shown);
    } catch (error) {
      throw new Config(`ca, cert, certKey: ${(error as Error).message}`);
    }
  }

  /** A channel to `host:port`, which connects when it is first used. */
  dial(address: string): grpc.Channel {
    return new grpc.Channel(address, this.#tls, CHANNEL);
  }

  /** A service's stub on a channel, whose calls carry the key or token, if there is one. */
  stub(service: Service, address: string, channel: grpc.Channel): any {
    return stub(service, address, channel, this.#carried);
  }
}

function carried(apiKey: string): grpc.Interceptor[] {
  if (apiKey === "") return [];
  if (!/^[!-~]+$/.test(apiKey)) {
    // Not what it is: that would be in logs.
    throw new Config("the API key or token has characters that no such text has");
  }
  const carry: grpc.Interceptor = (options, next) =>
    new grpc.InterceptingCall(next(options), {
      start(metadata, listener, start) {
        metadata.set("authorization", `Bearer ${apiKey}`);
        start(metadata, listener);
      },
    });
  return [carry];
}

/** The PEM, which must hold something of this kind. */
function read(what: string, pem: Pem, holds: string): Buffer {
  let content: Buffer;
  try {
    content = typeof pem === "string" ? readFileSync(pem) : Buffer.from(pem);
  } catch (error) {
    throw new Config(`${what}: it cannot be read: ${(error as Error).message}`);
  }
  if (!content.includes(holds)) {
    throw new Config(`${what}: it holds no ${holds.includes("KEY") ? "private key" : "certificate"} in PEM`);
  }
  return content;
}
