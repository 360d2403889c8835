// A node is lost in the middle of streams, of calls, of tails and of a feed.   lose.mjs NODES SIGNAL (NODES: JSON with
// the address, dc and pid of each)
//
// No call fails, and afterwards each conversation holds each message once and in order, and so did whoever followed it.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, From, Message } from "firebreak";

const NODES = JSON.parse(process.argv[2]);
const LOST_BY = process.argv[3];
const TENANT = `kill${process.hrtime.bigint().toString(16)}`;
// Messages that must be acknowledged before that, and after it.
const [BEFORE, AFTER] = [500, 1_000];

setTimeout(() => {
  console.error("takes too long");
  process.exit(1);
}, 120_000).unref();

const client = new Client(NODES.map(({ address }) => address));
const stream = client.appendStream();
let over = false;
let longest = 0;
let acks = 0;

/** One sender of one conversation, over the stream or with single calls. */
async function send({ name, sent, acked }, streamed) {
  const noted = (id, { seq, latency }) => {
    acked.set(id, seq);
    acks += 1;
    longest = Math.max(longest, latency);
  };
  while (!over) {
    // A few at once, so that there is something to keep in order.
    const ids = Array.from({ length: streamed ? 5 : 1 }, (_, n) => `m${sent.length + n}`);
    sent.push(...ids);
    const message = (id) => Message.text("ann", id, { clientMessageId: id });
    if (!streamed) {
      noted(ids[0], await client.append(name, message(ids[0])));
      continue;
    }
    const enqueued = [];
    for (const id of ids) enqueued.push(await stream.enqueue(name, message(id)));
    for (const [at, ack] of enqueued.entries()) noted(ids[at], await ack.answer);
  }
}

async function follow({ name }) {
  const ids = [];
  for await (const { message } of client.tail(name, From.seq(1))) {
    if (message) ids.push(message.clientMessageId);
    if (message?.clientMessageId === "end") break;
  }
  return ids;
}

const ended = (ids) => [...ids.values()].every((one) => one.at(-1) === "end");

/** All of them over one stream: half from the beginning, half once some of it has come. */
async function followAll(follow) {
  const ids = new Map(rooms.map(({ name }) => [name, []]));
  const from = (some) => some.map(({ name }) => [name, 1]);
  follow.addFrom(from(rooms.slice(0, 4)));
  let added = false;
  for await (const { message } of follow) {
    if (!message) continue;
    ids.get(message.name.split("/messages/")[0]).push(message.clientMessageId);
    if (!added) follow.addFrom(from(rooms.slice(4)));
    added = true;
    if (ended(ids)) break;
  }
  return ids;
}

/** All that is said in the tenant, page by page; the same reader goes on at its cursor. */
async function feed() {
  const ids = new Map(rooms.map(({ name }) => [name, []]));
  for await (const page of client.changes(TENANT)) {
    for (const { conversation, message } of page) if (message) ids.get(conversation).push(message.clientMessageId);
    if (ended(ids)) break;
  }
  return ids;
}

const rooms = Array.from({ length: 8 }, (_, n) => {
  return { name: `tenants/${TENANT}/conversations/room-${n}`, sent: [], acked: new Map() };
});
for (const { name } of rooms) await client.createConversation(TENANT, name.split("/")[3]);
const senders = Promise.all(rooms.map((room, n) => send(room, n % 2 === 1)));
const tails = Promise.all(rooms.slice(0, 4).map(follow));
const following = client.follow();
const others = Promise.all([followAll(following), feed()]);
const until = async (count) => {
  while (acks < count) await Promise.race([sleep(5), senders]);
};

await until(BEFORE);
// The node where all of them are followed; or the one that the client uses most: its stream, tails and calls break.
const [busiest] = client.nodes().sort((one, other) => other.active - one.active);
const lost = LOST_BY === "SIGKILL" ? following.address : busiest.address;
const { unanswered } = stream;
process.kill(NODES.find(({ address }) => address === lost).pid, LOST_BY);
await until(acks + AFTER);
over = true;
await senders;
await stream.close();
for (const { name, sent, acked } of rooms) {
  sent.push("end");
  acked.set("end", (await client.append(name, Message.text("ann", "end", { clientMessageId: "end" }))).seq);
}
const followed = await tails;
for (const [at, ids] of (await others).entries()) {
  for (const { name, sent } of rooms) assert.deepEqual(ids.get(name), sent, `the ${["follow", "feed"][at]} of ${name}`);
}
if (LOST_BY === "SIGKILL") {
  assert.ok(client.nodes().find(({ address }) => address === lost).lost, "the loss was not noticed");
}
for (const { name, sent, acked } of rooms) {
  const held = [];
  for await (const message of client.messages(name, { pageSize: 1_000 })) held.push(message);
  assert.deepEqual(held.map(({ seq }) => seq), sent.map((_, n) => n + 1), `${name} has gaps`);
  assert.deepEqual(held.map((one) => one.clientMessageId), sent, `${name} is not what was sent, once and in order`);
  for (const [id, seq] of acked) assert.equal(held[seq - 1].clientMessageId, id);
  assert.equal(acked.size, sent.length);
}
rooms.slice(0, 4).forEach(({ name, sent }, n) => assert.deepEqual(followed[n], sent, `the tail of ${name}`));
const stats = client.stats();
assert.equal(stats.failed, 0);
assert.ok(stats.failovers > 0, "the loss was not noticed");
const count = rooms.reduce((sum, { sent }) => sum + sent.length, 0);
console.log(
  `${count} messages, 0 calls failed, 0 lost, 0 twice, nor in the follow and the feed; ` +
    `${unanswered} under way on the stream at the loss, ${stats.failovers} moves, ` +
    `longest wait ${(longest / 1_000).toFixed(2)} s`,
);
await client.close();
