// Each call of the client against real nodes.   conformance.mjs NODES CA (JSON: address, dc, pid of each; the file of
// the authority that has certified them: they take connections with TLS and without)

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, Closed, Code, Config, Deadline, Edit, From, Level, Message, Refused } from "firebreak";
import { Token } from "firebreak/internal/session";
import { hasMethod } from "firebreak/internal/v1";

const NODES = JSON.parse(process.argv[2]);
const CA = process.argv[3];
const ADDRESSES = NODES.map(({ address }) => address);
const RUN = `js${process.hrtime.bigint().toString(16)}`;
const room = (name) => `tenants/${RUN}/conversations/${name}`;
const text = (body, more) => Message.text("ann", String(body), more);

async function refused(call, reason, kind = Refused) {
  const error = await call.then(
    () => assert.fail(`nothing was refused with ${reason}`),
    (error) => error,
  );
  assert.ok(error instanceof kind && error.reason === reason, `${error} instead of ${reason}`);
  return error;
}

async function numbers(events) {
  const all = [];
  for await (const message of events) all.push(Number(message.body.toString()));
  return all;
}

async function rules(client) {
  const key = { key: "mls", expectedLastSeqOfKey: 0 };
  await client.append(room("ruled"), text("one"), key);
  await client.append(room("ruled"), text("chat"));
  const stale = await refused(client.append(room("ruled"), text("x"), key), "KEY_SEQ_MISMATCH");
  assert.equal(stale.metadata.last_seq, "1");
  await client.setRules(room("ruled"), { fenceToken: "w1", expectedFenceToken: "" });
  await refused(client.append(room("ruled"), text("x")), "FENCED");
  const fenced = text("two", { fenceToken: "w1" });
  assert.equal((await client.append(room("ruled"), fenced)).seq, 3);
  const stream = client.appendStream();
  assert.equal((await stream.send(room("ruled"), text("three", { fenceToken: "w1" }))).seq, 4);
  await refused(stream.send(room("ruled"), text("x")), "FENCED");
  await stream.close();
  await client.setRules(room("ruled"), { fenceToken: "", ttl: 3_600_000, legalHold: true });
  const head = await client.getConversation(room("ruled"));
  assert.ok(head.legalHold && head.fenceToken === "" && Number(head.ttl.seconds) === 3_600);
  const { seq } = await client.append(room("fading"), text("gone soon", { ttl: 1_000 }));
  const until = performance.now() + 20_000;
  let found = await client.getMessage(room("fading"), seq);
  while (found.body.length > 0) {
    assert.ok(performance.now() < until, "it does not expire");
    await new Promise((then) => setTimeout(then, 100));
    found = await client.getMessage(room("fading"), seq);
  }
  assert.ok(found.redaction.expired);
}

async function anchors(client) {
  await client.appendBatch(room("far"), Array.from({ length: 20 }, (_, n) => text(String(n + 1))));
  const page = await client.list(room("far"), { pageSize: 5, unreadAfter: 11, contextBefore: 2 });
  assert.deepEqual(page.messages.map(({ seq }) => seq), [10, 11, 12, 13, 14, 15, 16]);
  assert.equal(page.anchorSeq, 12);
  const before = await client.list(room("far"), { pageSize: 5, pageToken: page.prevPageToken });
  assert.deepEqual(before.messages.map(({ seq }) => seq), [5, 6, 7, 8, 9]);
  const newest = { pageSize: 2, descending: true, startTimeMs: Date.now() + 60_000 };
  assert.deepEqual((await client.list(room("far"), newest)).messages.map(({ seq }) => seq), [20, 19]);
}

async function appends(client) {
  const one = await client.append(room("a"), text("one", { clientMessageId: "id-1" }));
  assert.deepEqual([one.seq, one.deduplicated], [1, false]);
  assert.ok(one.createTimeMs > 0 && one.attempts >= 1);
  const again = await client.append(room("a"), text("one", { clientMessageId: "id-1" }));
  assert.deepEqual([again.seq, again.revision, again.deduplicated], [1, one.revision, true]);
  await refused(client.append(room("a"), text("other", { clientMessageId: "id-1" })), "CLIENT_MESSAGE_ID_REUSED");
  const wrong = await refused(client.append(room("a"), text("x"), { expectedLastSeq: 7 }), "SEQ_MISMATCH");
  assert.deepEqual([wrong.metadata.last_seq, wrong.outcomeUnknown, wrong.retryable], ["1", false, false]);
  assert.equal((await client.append(room("a"), text("two"), { expectedLastSeq: 1 })).seq, 2);
  const bad = await refused(client.append("nonsense", { sender: "" }), "INVALID_FIELDS");
  assert.ok(bad.violations.some(({ field }) => field === "parent"));
  const blob = { sender: "ben", body: Buffer.from([0, 255]), kind: "blob", attributes: { k: "v" }, replyToSeq: 1 };
  const batch = [0, 1, 2].map((n) => ({ ...blob, clientMessageId: `b${n}` }));
  assert.deepEqual((await client.appendBatch(room("a"), batch)).map(({ seq }) => seq), [3, 4, 5]);
  assert.ok((await client.appendBatch(room("a"), batch)).every(({ deduplicated }) => deduplicated));
  await refused(client.appendBatch(room("a"), [batch[0], text("new")]), "MIXED_BATCH");
}

async function reads(client) {
  const upwards = Array.from({ length: 25 }, (_, n) => n + 1);
  await client.appendBatch(room("r"), upwards.map((n) => text(n)));
  assert.deepEqual(await numbers(client.messages(room("r"), { pageSize: 7 })), upwards);
  const downwards = client.messages(room("r"), { pageSize: 7, descending: true });
  assert.deepEqual(await numbers(downwards), upwards.toReversed());
  const page = await client.list(room("r"), { pageSize: 3, startSeq: 20 });
  assert.deepEqual(page.messages.map(({ seq }) => seq), [20, 21, 22]);
  assert.deepEqual([page.lastSeq, page.minSeq], [25, 1]);
  assert.ok(page.servedBy && page.nextPageToken && page.sessionToken);
  const session = client.session();
  const said = await session.append(room("r"), text(26));
  for (const level of [Level.session(session.token()), Level.bounded(30_000), Level.LINEARIZABLE]) {
    const newest = await client.list(room("r"), { pageSize: 1, descending: true, level });
    if (level.name !== "BOUNDED") assert.deepEqual([newest.messages[0].seq, said.seq], [26, 26]);
    assert.ok(newest.staleness === undefined || newest.staleness < 30_000);
  }
  assert.notEqual((await client.list(room("r"), { level: Level.LOCAL })).staleness, undefined);
  const missing = await refused(client.list(room("none")), "CONVERSATION_NOT_FOUND");
  assert.ok(missing.isNotFound && missing.code === Code.NOT_FOUND);
}

async function sessions(client) {
  const phone = client.session();
  const said = await phone.append(room("s"), text("from my phone"));
  await phone.appendBatch(room("s2"), [text("both")]);
  const laptop = client.resume(phone.token());
  assert.equal((await laptop.list(room("s"))).messages[0].seq, said.seq);
  assert.equal((await laptop.getConversation(room("s2"))).lastSeq, 1);
  // The client makes the token that the node would have made.
  const page = await client.list(room("s"));
  const own = Token.ofConversation(room("s"), said.revision);
  assert.deepEqual([...Token.decode(page.sessionToken).seen.keys()], [...own.seen.keys()]);
  assert.throws(() => client.resume("not a token"), Config);
}

async function conversations(client) {
  const made = await client.createConversation(RUN, "made", { topic: "fire" }, "request-1");
  const again = await client.createConversation(RUN, "made", { topic: "fire" }, "request-1");
  assert.deepEqual([made.name, again.name, again.incarnation], [room("made"), room("made"), made.incarnation]);
  await refused(client.createConversation(RUN, "made"), "CONVERSATION_EXISTS");
  const got = await client.getConversation(room("made"));
  assert.deepEqual([got.attributes, got.lastSeq], [{ topic: "fire" }, 0]);
}

async function streams(client) {
  const stream = client.appendStream({ unansweredMax: 64 });
  const acks = [];
  for (let n = 0; n < 500; n += 1) {
    acks.push(await stream.enqueue(room(`stream${n % 5}`), text(n, { clientMessageId: `s${n}` })));
    assert.ok(stream.unanswered <= 64);
  }
  const seqs = await Promise.all(acks.map(async ({ answer }) => (await answer).seq));
  assert.deepEqual(seqs, acks.map((_, n) => Math.floor(n / 5) + 1));
  assert.ok((await stream.send(room("stream0"), text(0, { clientMessageId: "s0" }))).deduplicated);
  await refused(stream.send(room("stream0"), { sender: "" }), "INVALID_FIELDS");
  await stream.close();
  await refused(stream.enqueue(room("stream0"), text("x")), "", Closed);
}

async function tails(client) {
  await client.appendBatch(room("t"), [1, 2, 3].map((n) => text(n)));
  const fresh = client.tail(room("t"));
  assert.equal((await fresh.next()).value.caughtUp, 3);
  const tail = client.tail(room("t"), From.seq(2));
  const seen = [];
  for (let event; event?.caughtUp === undefined; ) {
    event = (await tail.next()).value;
    if (event.message) seen.push(event.message.seq);
  }
  assert.deepEqual(seen, [2, 3]);
  const early = [tail.next(), tail.next()];
  await client.append(room("t"), text(4));
  assert.equal((await fresh.next()).value.message.seq, 4);
  assert.equal((await early[0]).value.message.seq, 4);
  const { cursor } = tail;
  tail.close();
  assert.ok((await early[1]).done);
  fresh.close();
  await client.append(room("t"), text(5));
  const resumed = client.tail(room("t"), From.cursor(cursor));
  let event = (await resumed.next()).value;
  // A replica that has not heard of it yet has caught up before it.
  for (; !event.message; event = (await resumed.next()).value) assert.equal(event.caughtUp, 4);
  assert.equal(event.message.seq, 5);
  resumed.close();
  const ahead = client.tail(room("t"), From.seq(99));
  const error = await refused(ahead.next(), "AHEAD_OF_HEAD");
  assert.equal(error.metadata.last_seq, "5");
  assert.ok((await ahead.next()).done);
}

/** Edits, redactions, reactions and conversations that change. */
async function changes(client) {
  const first = await client.append(room("c"), text("Hello Bem"));
  const tail = client.tail(room("c"), From.seq(1));
  while ((await tail.next()).value.caughtUp === undefined);
  const edited = await client.edit(room("c"), 1, Edit.text("Hello Ben", { requestId: "e-1" }));
  assert.ok(edited.seq === 1 && edited.revision > first.revision);
  assert.ok((await client.edit(room("c"), 1, Edit.text("Hello Ben", { requestId: "e-1" }))).deduplicated);
  await refused(client.edit(room("c"), 1, Edit.text("other", { requestId: "e-1" })), "REQUEST_ID_REUSED");
  await refused(client.edit(room("c"), 1, Edit.text("x", { expectedRevision: 1 })), "REVISION_MISMATCH");
  assert.equal((await client.react(room("c"), 1, "ben", "👍")).count, 1);
  const got = await client.getMessage(room("c"), 1, { reader: "ben" });
  assert.equal(got.body.toString(), "Hello Ben");
  assert.deepEqual(got.reactions, [{ kind: "👍", count: 1, mine: true }]);
  assert.ok((await client.list(room("c"), { reader: "ben" })).messages[0].reactions[0].mine);
  await client.react(room("c"), 1, "cho", "🔥");
  const { reactions, nextPageToken } = await client.listReactions(room("c"));
  const byUser = reactions.toSorted((one, other) => (one.user < other.user ? -1 : 1));
  assert.deepEqual(byUser, [{ seq: 1, user: "ben", kind: "👍" }, { seq: 1, user: "cho", kind: "🔥" }]);
  assert.equal(nextPageToken, "");
  assert.deepEqual((await client.listReactions(room("c"), { firstSeq: 2 })).reactions, []);
  await refused(client.listReactions(room("none")), "CONVERSATION_NOT_FOUND");
  assert.equal((await client.react(room("c"), 1, "ben", "👍", { remove: true })).count, 0);
  await client.redact(room("c"), 1);
  const erased = await client.getMessage(room("c"), 1);
  assert.ok(erased.redaction && erased.body.length === 0 && erased.sender === "");
  await refused(client.edit(room("c"), 1, Edit.text("back")), "MESSAGE_REDACTED");
  await refused(client.getMessage(room("c"), 9), "MESSAGE_NOT_FOUND");
  while (!(await tail.next()).value.changed.redaction);
  tail.close();
  const updated = await client.updateConversation(room("c"), { topic: "water" });
  assert.deepEqual(updated.conversation.attributes, { topic: "water" });
  const names = new Set();
  for (let pageToken = "", more = true; more; more = pageToken !== "") {
    const page = await client.listConversations(RUN, { pageSize: 3, pageToken });
    for (const { name } of page.conversations) names.add(name);
    pageToken = page.nextPageToken;
  }
  for (const name of ["a", "c", "made"]) assert.ok(names.has(room(name)), name);
  await client.deleteConversation(room("c"));
  await refused(client.getConversation(room("c")), "CONVERSATION_NOT_FOUND");
}

/** The events of a Follow until there are enough. */
async function came(follow, enough) {
  const events = [];
  while (!enough(events)) events.push((await follow.next()).value);
  return events;
}

const caughtUp = (events) => events.at(-1)?.caughtUp;

/** What was said, of each conversation. */
function said(events) {
  const rooms = {};
  for (const { message } of events) {
    if (!message) continue;
    const [parent, seq] = message.name.split("/messages/");
    (rooms[parent] ??= []).push([Number(seq), message.body.toString()]);
  }
  return rooms;
}

/** Whether something of these conversations comes behind a cursor. */
async function behind(client, cursor, names) {
  const other = client.follow(cursor);
  other.add(names);
  const events = await came(other, caughtUp);
  other.close();
  return events.length > 1;
}

/** Many conversations over one stream, which are added and removed while it runs. */
async function follows(client) {
  const names = [0, 1, 2, 3, 4].map((n) => room(`f${n}`));
  for (const name of names.slice(0, 3)) await client.appendBatch(name, [text("one"), text("two")]);
  const follow = client.follow();
  assert.deepEqual([follow.length, follow.cursor], [0, ""]);
  follow.addFrom([[names[0], 1], [names[1], 2]]);
  follow.add([names[2], names[3]]);
  const first = said(await came(follow, caughtUp));
  assert.deepEqual(first, { [names[0]]: [[1, "one"], [2, "two"]], [names[1]]: [[2, "two"]] });
  assert.equal(follow.length, 4);
  assert.ok(follow.cursor);
  // While somebody waits for the next event, one is added that has something to say, and one is removed.
  await client.append(names[4], text("was here"));
  const waiting = came(follow, (events) => names[4] in said(events));
  await sleep(0);
  follow.addFrom([[names[4], 1]]);
  assert.deepEqual(said(await waiting), { [names[4]]: [[1, "was here"]] });
  follow.remove([names[0]]);
  await client.append(names[0], text("unheard"));
  await client.append(names[2], text("three"));
  await client.edit(names[1], 2, Edit.text("two!"));
  await client.createConversation(RUN, "f3");
  await client.setRules(names[3], { attributes: { topic: "fire" } });
  await client.deleteConversation(names[4]);
  const kinds = (events) => ({
    said: said(events),
    changed: events.flatMap(({ changed }) => changed?.body.toString() ?? []),
    settings: [...new Set(events.flatMap(({ settings }) => settings?.name ?? []))],
    deleted: events.flatMap(({ deleted }) => deleted ?? []),
  });
  const all = (events) => Object.values(kinds(events)).every((kind) => Object.keys(kind).length > 0);
  assert.deepEqual(kinds(await came(follow, all)), {
    said: { [names[2]]: [[3, "three"]] },
    changed: ["two!"],
    settings: [names[3]],
    deleted: [names[4]],
  });
  // A cursor that is behind all of that: kept by somebody else, it goes on there.
  let { cursor } = follow;
  while (cursor === "" || (await behind(client, cursor, names.slice(1)))) {
    await client.append(names[1], text("more"));
    await follow.next();
    ({ cursor } = follow);
  }
  const early = follow.next();
  follow.close();
  assert.ok((await early).done && (await follow.next()).done);
  await client.append(names[2], text("four"));
  const resumed = client.follow(cursor);
  resumed.add(names.slice(1));
  assert.deepEqual(said(await came(resumed, (events) => names[2] in said(events))), { [names[2]]: [[4, "four"]] });
  resumed.close();
  const wrong = client.follow("not a cursor");
  wrong.add(names);
  await refused(wrong.next(), "INVALID_FIELDS");
  assert.ok((await wrong.next()).done);
  // More than a request takes.
  const many = client.follow();
  const long = "with-a-name-of-some-length-so-that-requests-have-more-bytes";
  many.add(Array.from({ length: 2_500 }, (_, n) => room(`${long}-${n}`)));
  many.addFrom([[names[2], 4]]);
  assert.deepEqual(said(await came(many, caughtUp)), { [names[2]]: [[4, "four"]] });
  assert.equal(many.length, 2_501);
  many.close();
}

/** What is changed in a tenant, resumed at a cursor. */
async function feeds(client) {
  const tenant = `feed${RUN}`;
  const name = `tenants/${tenant}/conversations/a`;
  const feed = client.changes(tenant);
  assert.deepEqual(await feed.poll(Level.LINEARIZABLE), []);
  assert.ok(feed.caughtUp);
  const waiting = feed.next();
  await client.appendBatch(name, [1, 2, 3].map((n) => text(n)));
  const first = await waiting;
  while (first.length < 3) first.push(...(await feed.next()));
  assert.deepEqual(first.map(({ message }) => message.seq), [1, 2, 3]);
  assert.ok(first.every(({ conversation, what }) => conversation === name && what === "message"));
  const { cursor } = feed;
  await client.edit(name, 2, Edit.text("two"));
  const resumed = client.changes(tenant, cursor);
  const [edited, ...more] = await resumed.next();
  assert.deepEqual([edited.message.seq, edited.message.body.toString(), more], [2, "two", []]);
  assert.ok(!first.some(({ id }) => id === edited.id));
  assert.deepEqual(await client.changes(tenant, resumed.cursor).poll(Level.LINEARIZABLE), []);
  await refused(client.changes(tenant, "not a cursor").poll(), "INVALID_FIELDS");
}

async function tenants(client) {
  const id = `t${RUN}`;
  const acme = { displayName: "Acme", messagesPerSecond: 1_000, ttl: 3_600_000, requestId: `t-${RUN}` };
  const made = await client.createTenant(id, acme);
  assert.deepEqual([made.tenant.name, made.deduplicated], [`tenants/${id}`, false]);
  assert.ok((await client.createTenant(id, acme)).deduplicated);
  await refused(client.createTenant(id), "TENANT_EXISTS");
  const minClientVersions = { rust: "0.0.1" };
  await client.updateTenant(id, { userMessagesPerSecond: 20, minClientVersions, upgradeUrl: "u" });
  const got = await client.getTenant(id);
  assert.deepEqual([got.displayName, got.ttl.seconds, got.upgradeUrl], ["Acme", 3_600, "u"]);
  assert.deepEqual([got.quotas.messagesPerSecond, got.quotas.userMessagesPerSecond], [1_000, 20]);
  assert.deepEqual(got.minClientVersions, minClientVersions);
  const expectedRevision = made.tenant.revision;
  assert.ok(got.revision > expectedRevision && got.removal === null);
  await refused(client.updateTenant(id, { ttl: 0, expectedRevision }), "REVISION_MISMATCH");
  // This client is too old for it now, and is told where newer ones are.
  await client.updateTenant(id, { minClientVersions: { node: "99.0.0" } });
  const parent = `tenants/${id}/conversations/c`;
  assert.equal((await refused(client.append(parent, text("x")), "CLIENT_VERSION_BLOCKED")).metadata.upgrade_url, "u");
  const names = [];
  for (let pageToken = "", more = true; more; more = pageToken !== "") {
    const page = await client.listTenants({ pageSize: 1, pageToken });
    names.push(...page.tenants.map(({ name }) => name));
    pageToken = page.nextPageToken;
  }
  assert.ok(names.includes(`tenants/${id}`));
  assert.deepEqual(names, names.toSorted());
  assert.ok((await client.deleteTenant(id)).tenant.removal);
  await refused(client.append(parent, text("x")), "TENANT_DELETING");
  await refused(client.getTenant(`no${RUN}`), "TENANT_UNKNOWN");
}

/** The same nodes take connections with TLS: the authority by its file's name, or by its content. */
async function encrypted() {
  const one = new Client(ADDRESSES.slice(0, 1), { ca: CA, class: "export" });
  const other = new Client(ADDRESSES, { ca: readFileSync(CA) });
  const { seq } = await one.append(room("tls"), text("over TLS"));
  assert.equal((await other.getMessage(room("tls"), seq)).body.toString(), "over TLS");
  assert.equal((await one.withDeadline(9_000).list(room("tls"))).lastSeq, 1);
  while (one.nodes().length < NODES.length) await sleep(10);
  await one.close();
  await other.close();
  assert.throws(() => new Client(ADDRESSES, { class: "soon" }), Config);
}

/** A client that is told one address learns the others. */
async function discovers() {
  const one = new Client(ADDRESSES.slice(0, 1));
  await one.append(room("d"), text("x"));
  while (one.nodes().length < NODES.length) await sleep(10);
  assert.deepEqual(new Set(one.nodes().map(({ dc }) => dc)), new Set(NODES.map(({ dc }) => dc)));
  await one.close();
  const alone = new Client(ADDRESSES.slice(0, 1), { discover: false });
  await alone.append(room("d"), text("x"));
  assert.equal(alone.nodes().length, 1);
  await alone.close();
}

async function nobodyThere() {
  const client = new Client(["127.0.0.1:1"], { deadline: 500 });
  for (const one of [client, client.withDeadline(200)]) {
    const error = await refused(one.append(room("x"), text("x")), "", Deadline);
    assert.ok(error.retryable && !error.outcomeUnknown, error);
  }
  assert.equal(client.stats().failed, 2);
  await client.close();
  for (const endpoints of [[], ["nowhere"], ["host:0"]]) assert.throws(() => new Client(endpoints), Config);
}

const client = new Client(ADDRESSES);
const parts = [appends, rules, anchors, reads, sessions, conversations, streams, tails, discovers, nobodyThere];
parts.push(follows, feeds, tenants, encrypted);
if (hasMethod("Messages", "EditMessage")) parts.push(changes);
for (const part of parts) {
  const late = setTimeout(() => {
    console.error(`${part.name} takes too long`);
    process.exit(1);
  }, 60_000);
  await part(client).catch((error) => {
    console.error(`${part.name} failed:`, error);
    process.exit(1);
  });
  clearTimeout(late);
}
await client.close();
const without = parts.includes(changes) ? "" : ", no changes of messages: the .proto has none";
console.log(`${parts.length} parts${without}`);
