// Who is let in, and who is not.   secure.mjs SECRETS (JSON: addresses, dcs, pki, operatorKey, firebreak, canary,
// proto, commonName, examples)
//
// The nodes take no connection without TLS, and nobody without a credential.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, Code, Config, Deadline, Edit, From, Message, Refused } from "firebreak";

const SECRETS = JSON.parse(process.argv[2]);
const { addresses, dcs, pki, operatorKey, firebreak, canary: script, proto, commonName, examples } = SECRETS;
const CA = `${pki}/ca.pem`;
const TENANT = `js${process.hrtime.bigint().toString(16)}`;
const room = (name) => `tenants/${TENANT}/conversations/${name}`;
const text = (body) => Message.text("ann", body);
// How long what is told to all nodes may take.
const LIMIT = 60_000;

/** The built command, as an operator. */
function command(...words) {
  const own = { FIREBREAK_API_KEY: operatorKey, FIREBREAK_CA: CA, FIREBREAK_TARGET: addresses.join(",") };
  const env = { ...process.env, ...own };
  return execFileSync(firebreak, words, { env, encoding: "utf8", stdio: "pipe", timeout: LIMIT }).trim();
}

async function refused(call, reason, code) {
  const error = await call.then(
    () => assert.fail(`nothing was refused with ${reason}`),
    (error) => error,
  );
  assert.ok(error instanceof Refused, error);
  assert.deepEqual([error.reason, error.code], [reason, code], error);
  assert.ok(!error.retryable, error);
  return error;
}

/** A client of these nodes, for as long as `work` takes. */
async function using(options, work, nodes = addresses) {
  const client = new Client(nodes, options);
  try {
    await work(client);
  } finally {
    await client.close();
  }
}

/** Until every node says this to a key, or lets it in where that is empty. */
async function untilAll(apiKey, reason) {
  for (const address of addresses) {
    const ask = async (client) => {
      for (const until = performance.now() + LIMIT; ; ) {
        const said = await client.listConversations(TENANT).then(
          () => "",
          (error) => error.reason,
        );
        if (said === reason) return;
        assert.ok(performance.now() < until, `${address} says ${said}, not ${reason}`);
      }
    };
    await using({ ca: CA, apiKey, discover: false }, ask, [address]);
  }
}

async function keptOut(key) {
  const wrong = `fbk_${"0".repeat(12)}_${"0".repeat(64)}`;
  const own = { cert: `${pki}/client-app.pem`, certKey: `${pki}/client-app.key` };
  for (const [options, reason, help] of [
    [{}, "TLS_REQUIRED", "the Client ca"],
    [{ apiKey: key }, "TLS_REQUIRED", "the Client ca"],
    [{ ca: CA }, "CREDENTIALS_MISSING", "the Client apiKey"],
    [{ ca: CA, apiKey: wrong }, "CREDENTIALS_INVALID", ""],
    [{ ca: CA, apiKey: "a.b.c" }, "CREDENTIALS_INVALID", ""],
    // A client's certificate says who it is, and opens nothing.
    [{ ca: CA, ...own }, "CREDENTIALS_MISSING", ""],
  ]) {
    await using(options, async (client) => {
      const error = await refused(client.append(room("out"), text("x")), reason, Code.UNAUTHENTICATED);
      assert.ok(!error.outcomeUnknown && error.message.includes(help) && !error.message.includes("0000"), error);
      await refused(client.tail(room("out"), From.seq(1)).next(), reason, Code.UNAUTHENTICATED);
      // None of this was tried again.
      assert.equal(client.stats().retries, 0);
      const follow = client.follow();
      follow.add([room("out")]);
      await refused(follow.next(), reason, Code.UNAUTHENTICATED);
      await refused(client.appendStream().send(room("out"), text("x")), reason, Code.UNAUTHENTICATED);
      assert.ok(!client.nodes().some(({ lost }) => lost));
    });
  }
}

async function forbidden(client) {
  const other = `tenants/other${TENANT}/conversations/c`;
  await refused(client.append(other, text("x")), "TENANT_FORBIDDEN", Code.PERMISSION_DENIED);
  const error = await refused(client.getTenant(TENANT), "ROLE_MISSING", Code.PERMISSION_DENIED);
  assert.ok(error.metadata.needed.includes("viewer"));
  // An item of a stream is refused by itself.
  const stream = client.appendStream();
  await refused(stream.send(other, text("x")), "TENANT_FORBIDDEN", Code.PERMISSION_DENIED);
  assert.equal((await stream.send(room("in"), text("streamed"))).seq, 2);
  await stream.close();
}

async function letIn(key) {
  await untilAll(key, "");
  const work = async (client) => {
    const follow = client.follow();
    follow.addFrom([[room("in"), 1]]);
    assert.equal((await client.append(room("in"), text("with a key"))).seq, 1);
    await forbidden(client);
    await client.edit(room("in"), 1, Edit.text("edited"));
    for (const following of [client.tail(room("in"), From.seq(1)), follow]) {
      const seqs = [];
      for await (const { message } of following) {
        if (message) seqs.push(message.seq);
        if (seqs.length === 2) break;
      }
      assert.deepEqual(seqs, [1, 2]);
    }
    const seqs = new Set();
    const changes = client.changes(TENANT);
    while (seqs.size < 2) for (const { message } of await changes.next()) seqs.add(message.seq);
    assert.deepEqual([...seqs].toSorted(), [1, 2]);
    // The others are reached in the same way as the one that it was told.
    while (client.nodes().length < addresses.length || client.nodes().some(({ lost }) => lost)) await sleep(10);
    assert.deepEqual(new Set(client.nodes().map(({ dc }) => dc)), new Set(dcs));
    assert.equal(client.stats().failovers, 0);
  };
  await using({ ca: CA, apiKey: ` ${key}\n` }, work, addresses.slice(0, 1));
  for (const address of addresses) {
    const list = async (client) => assert.equal((await client.list(room("in"))).lastSeq, 2);
    await using({ ca: readFileSync(CA), apiKey: key, discover: false }, list, [address]);
  }
}

/** An operator's certificate opens what no role of a tenant's key does. */
async function operator() {
  const own = { cert: `${pki}/operator-bob.pem`, certKey: readFileSync(`${pki}/operator-bob.key`) };
  await using({ ca: CA, ...own }, async (client) => {
    await client.createTenant(`op${TENANT}`, { displayName: "Acme" });
    assert.equal((await client.getTenant(`op${TENANT}`)).displayName, "Acme");
    await refused(client.append(room("op"), text("x")), "ROLE_MISSING", Code.PERMISSION_DENIED);
  });
}

/** Tokens of an issuer, in place of a key: as their user, until they expire. */
async function tokens(_, folder) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  writeFileSync(`${folder}/login.pem`, publicKey.export({ type: "spki", format: "pem" }));
  const issuer = "https://login.example";
  const about = ["--audience", "chat", "--key", `k1=${folder}/login.pem`, "--tenant", TENANT, "--enforce-sender"];
  command("issuer", "add", issuer, ...about);
  const encoded = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const token = (exp) => {
    const claims = { iss: issuer, aud: "chat", sub: "ann", roles: ["writer"], exp };
    const signed = `${encoded({ alg: "EdDSA", kid: "k1" })}.${encoded(claims)}`;
    return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;
  };
  const seconds = Math.floor(Date.now() / 1_000);
  const good = token(seconds + 3_600);
  await untilAll(good, "");
  await using({ ca: CA, apiKey: good }, async (client) => {
    assert.equal((await client.append(room("token"), text("as myself"))).seq, 1);
    const ben = client.append(room("token"), Message.text("ben", "as another"));
    await refused(ben, "SENDER_FORBIDDEN", Code.PERMISSION_DENIED);
  });
  await using({ ca: CA, apiKey: token(seconds - 3_600) }, async (client) => {
    await refused(client.list(room("token")), "CREDENTIALS_EXPIRED", Code.UNAUTHENTICATED);
  });
}

/** Nodes that another authority has certified hear nothing, the key least of all. */
async function strangers(key, folder) {
  command("cert", "ca", "--dir", folder);
  await using({ ca: `${folder}/ca.pem`, apiKey: key, deadline: 500 }, async (client) => {
    const error = await client.append(room("in"), text("x")).catch((error) => error);
    assert.ok(error instanceof Deadline && error.retryable && !error.outcomeUnknown, error);
    assert.match(error.message, /certificate/);
  });
}

async function badlySetUp(key) {
  const cert = `${pki}/client-app.pem`;
  const certKey = `${pki}/client-app.key`;
  for (const options of [
    { ca: `${pki}/none.pem` },
    { ca: `${pki}/ca.key` },
    { ca: Buffer.from("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") },
    { ca: CA, cert },
    { ca: CA, cert: certKey, certKey },
    { ca: CA, cert, certKey: `${pki}/operator-bob.key` },
    { cert, certKey },
    { ca: CA, apiKey: `${key}\n${key}` },
  ]) {
    const taken = () => new Client(addresses, options).close();
    assert.throws(taken, (error) => error instanceof Config && !error.message.includes(key), JSON.stringify(options));
  }
}

/** The clients of drills are let in by the same variables as the command. */
async function canary(key, folder) {
  const senders = [{ name: "node-1", addresses: addresses.join(","), conversations: [room("canary")] }];
  const example = (name) => readFileSync(`${examples}/${name}.json`, "utf8");
  const config = { options: JSON.parse(example("channel_options")), service_config: example("service_config") };
  const plan = { senders, pause_ms: 10, deadline_ms: 1_000, ...config, protos: proto };
  writeFileSync(`${folder}/plan.json`, JSON.stringify(plan));
  writeFileSync(`${folder}/key`, `${key}\n`);
  const said = async (own, count) => {
    const env = { ...process.env, FIREBREAK_CA: CA, FIREBREAK_API_KEY_FILE: `${folder}/key`, ...own };
    const stdio = ["pipe", "pipe", "inherit"];
    const child = spawn(process.execPath, ["--no-deprecation", script, `${folder}/plan.json`], { env, stdio });
    const ended = once(child, "exit");
    const lines = [];
    for await (const line of createInterface(child.stdout)) {
      lines.push(line.split("\t"));
      if (lines.length === count) child.stdin.end();
    }
    assert.deepEqual(await ended, [0, null]);
    return lines;
  };
  // By the host of the first, and by a name that all have.
  assert.deepEqual((await said({}, 3)).slice(0, 3).map((line) => line[5]), ["1", "2", "3"]);
  assert.ok((await said({ FIREBREAK_TLS_NAME: commonName }, 3)).every((line) => Number(line[5]) > 0));
  // A name that none has.
  const [first] = await said({ FIREBREAK_TLS_NAME: "none.example" }, 1);
  assert.equal(first[5], "0", first);
}

async function revoked(key) {
  await using({ ca: CA, apiKey: key }, async (client) => {
    const tail = client.tail(room("in"), From.seq(1));
    const follow = client.follow();
    const changes = client.changes(TENANT);
    follow.add([room("in")]);
    while ((await tail.next()).value.caughtUp === undefined);
    while (!(await follow.next()).value.caughtUp);
    await changes.next();
    command("key", "revoke", key.split("_")[1]);
    await untilAll(key, "CREDENTIALS_REVOKED");
    // Streams that it opened end, and nothing is opened any more.
    for (const following of [tail, follow]) {
      const drained = (async () => {
        while (!(await following.next()).done);
      })();
      await refused(drained, "CREDENTIALS_REVOKED", Code.UNAUTHENTICATED);
      assert.ok((await following.next()).done);
    }
    const append = () => client.append(room("in"), text("x"));
    for (const call of [append, () => changes.poll(), () => client.list(room("in"))]) {
      await refused(call(), "CREDENTIALS_REVOKED", Code.UNAUTHENTICATED);
    }
  });
}

command("cert", "client", "--dir", pki, "--name", "app");
command("cert", "client", "--dir", pki, "--name", "bob", "--operator");
const key = command("key", "create", "--label", "js", "--tenant", TENANT, "--role", "writer");
const parts = [keptOut, letIn, operator, tokens, strangers, badlySetUp, canary, revoked];
const folder = mkdtempSync(`${tmpdir()}/firebreak-secure-`);
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
for (const part of parts) {
  const late = setTimeout(() => {
    console.error(`${part.name} takes too long`);
    process.exit(1);
  }, 60_000);
  await part(key, folder).catch((error) => {
    console.error(`${part.name} failed:`, error);
    process.exit(1);
  });
  clearTimeout(late);
}
console.log(`${parts.length} parts`);
