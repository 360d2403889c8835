// What is decided without a node: which answers are tried again, where, and after how long.

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { Client, Code, Config, Deadline, From, Gap, Refused } from "firebreak";
import { faultOf, neverSent, refusal, retryable, settles, silent } from "firebreak/internal/errors";
import { best, Node, Tried } from "firebreak/internal/nodes";
import * as bounds from "firebreak/internal/options";
import { Backoff, Budget } from "firebreak/internal/retry";
import { Token } from "firebreak/internal/session";
import { Window } from "firebreak/internal/window";

test("reasons of errors.md are retried as it says", () => {
  for (const [code, reason, after, again] of [
    [Code.UNAVAILABLE, "NO_QUORUM", 500, true],
    [Code.UNAVAILABLE, "", undefined, true],
    [Code.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN", undefined, true],
    [Code.RESOURCE_EXHAUSTED, "OVERLOAD", 200, true],
    [Code.RESOURCE_EXHAUSTED, "QUOTA", undefined, false],
    [Code.RESOURCE_EXHAUSTED, "", undefined, true],
    [Code.ABORTED, "PREDECESSOR_FAILED", 0, true],
    [Code.ABORTED, "SEQ_MISMATCH", undefined, false],
    [Code.INVALID_ARGUMENT, "INVALID_FIELDS", undefined, false],
    [Code.NOT_FOUND, "CONVERSATION_NOT_FOUND", undefined, false],
    [Code.DATA_LOSS, "REPLICA_CORRUPT", undefined, true],
    [Code.INTERNAL, "INTERNAL", undefined, false],
    [Code.INTERNAL, "", undefined, true],
    [Code.OUT_OF_RANGE, "CURSOR_TRIMMED", undefined, false],
    [Code.UNAUTHENTICATED, "CREDENTIALS_EXPIRED", undefined, false],
    [Code.PERMISSION_DENIED, "TENANT_FORBIDDEN", undefined, false],
  ]) {
    assert.equal(retryable(refusal(code, reason, "", after)), again, `${code} ${reason}`);
  }
});

test("what an answer says about its node", () => {
  for (const [code, reason, fault] of [
    [Code.UNAVAILABLE, "", "node"],
    [Code.UNAVAILABLE, "NO_QUORUM", "refused"],
    [Code.UNAVAILABLE, "NODE_STOPPING", "leaving"],
    [Code.DATA_LOSS, "REPLICA_CORRUPT", "refused"],
    [Code.INVALID_ARGUMENT, "INVALID_FIELDS", "none"],
    [Code.UNAUTHENTICATED, "CREDENTIALS_REVOKED", "none"],
  ]) {
    assert.equal(faultOf(refusal(code, reason)), fault, `${code} ${reason}`);
  }
  assert.equal(faultOf(silent(1_000)), "node");
});

test("an error says whether the outcome is known", () => {
  assert.ok(neverSent(refusal(Code.UNAVAILABLE, "", "No connection established. Last error: x")));
  assert.ok(!neverSent(refusal(Code.UNAVAILABLE, "", "read ECONNRESET")));
  assert.ok(settles(refusal(Code.ABORTED, "SEQ_MISMATCH")));
  assert.match(new Deadline(true, 3).message, /not known/);
  assert.ok(new Refused(refusal(Code.INTERNAL, "INTERNAL"), true).outcomeUnknown);
});

test("waits grow from 10 ms to 200 ms", () => {
  const backoff = new Backoff();
  const waits = Array.from({ length: 40 }, () => backoff.next());
  assert.ok(waits[0] >= bounds.BACKOFF_MIN / 2 && waits[0] <= bounds.BACKOFF_MIN);
  assert.ok(waits.slice(10).every((wait) => wait >= bounds.BACKOFF_MAX / 2 && wait <= bounds.BACKOFF_MAX));
});

test("a storm empties the bucket, answers fill it, and waits grow", () => {
  const budget = new Budget();
  let spent = 0;
  for (let n = 0; n < 10 * bounds.RETRY_TOKENS_MAX; n += 1) spent += Number(budget.spend());
  assert.equal(spent, bounds.RETRY_TOKENS_MAX);
  assert.ok(budget.pause(new Backoff(), 0, 10_000) >= 500);
  assert.ok(budget.pause(new Backoff(), 0, 200) <= 100);
  budget.earn(10);
  assert.ok(budget.pause(new Backoff(), 0, 10_000) <= bounds.BACKOFF_MIN);
  budget.earn(10);
  assert.equal(budget.pause(new Backoff(), 7_000, 10_000), 1_000);
});

const nodes = () =>
  ["a seoul", "b busan", "c seoul", "d tokyo"].map((one, at) => new Node(`${one[0]}:1`, at, one.slice(2)));

test("after a failure another data center is next", () => {
  const [all, tried] = [nodes(), new Tried()];
  for (let n = 0; n < 3; n += 1) {
    const first = best(all, tried, 0);
    tried.ended(first, "refused");
    assert.notEqual(best(all, tried, 0).dc, first.dc);
  }
});

test("a lost node is asked last and its data center next to last", () => {
  const all = nodes();
  all[0].lose(0);
  assert.equal(best(all, new Tried(), 0).address, "b:1");
  all[1].lose(0);
  all[3].lose(0);
  assert.equal(best(all, new Tried(), 0).address, "c:1");
  all[1].succeeded();
  assert.equal(best(all, new Tried(), bounds.DC_SUSPECT).address, "b:1");
});

test("a node that goes away is asked last for a while", () => {
  const all = nodes().slice(0, 2);
  all[0].failed("leaving", 0);
  assert.equal(best(all, new Tried(), 1_000).address, "b:1");
  assert.equal(best(all, new Tried(), bounds.LEAVING_VALID).address, "a:1");
});

test("some refusals in a row lose a node, and the nearest goes first", () => {
  const all = nodes();
  [31, 2, 31, 200].forEach((round, at) => (all[at].round = round));
  assert.equal(best(all, new Tried(), 0).address, "b:1");
  for (let n = 0; n < bounds.REFUSALS_MAX; n += 1) {
    assert.equal(all[1].lostAt, undefined);
    all[1].failed("refused", 0);
  }
  assert.equal(best(all, new Tried(), 0).address, "a:1");
});

test("a token survives its text, and a damaged one is refused", () => {
  const token = new Token(new Map([[3, 7n], [65_535, 2n ** 60n]]));
  token.merge(Token.ofConversation("tenants/t/conversations/c", 9));
  const again = Token.decode(token.encode());
  assert.deepEqual([...again.seen], [...token.seen]);
  assert.equal(Token.decode("").encode(), "");
  for (const wrong of ["x", `${token.encode().slice(0, -2)}AA`, "!!!!"]) {
    assert.throws(() => Token.decode(wrong), Config);
  }
});

test("what a token does not name stays among the rest", () => {
  const slots = (from, revision) => new Map(Array.from({ length: 100 }, (_, n) => [from + n, revision]));
  const many = new Token(slots(0, 1n));
  many.merge(new Token(slots(100, 2n)));
  assert.deepEqual([many.seen.size, many.rest], [128, true]);
  many.merge(new Token(new Map([[150, 9n], [5, 4n]])));
  assert.ok(!many.seen.has(150));
  assert.equal(many.seen.get(5), 4n);
});

/** A window, and what its callers hear. */
class Bench {
  window = new Window();
  acks = [];

  push(parent, text, deadline = 10_000, now = 0) {
    const ack = {};
    this.acks.push(ack);
    const answer = { resolve: (appended) => (ack.appended = appended), reject: (error) => (ack.error = error) };
    this.window.push(parent, { body: Buffer.from(text) }, now, deadline, answer);
  }

  take() {
    const { items } = this.window.take(0, 100, 1 << 20);
    return items.map(({ correlationId, message }) => [correlationId, message.body.toString()]);
  }

  texts() {
    return this.take().map(([, text]) => text);
  }

  ack(...ids) {
    const results = ids.map((correlationId) => ({ correlationId, appended: { seq: correlationId } }));
    return this.window.answer(results, 0).acked;
  }

  refuse(correlationId, code = Code.UNAVAILABLE, retryAfterMs = 1, reason = "NO_QUORUM") {
    return this.window.answer([{ correlationId, error: { code, reason, message: "", retryAfterMs } }], 0);
  }
}

test("what comes while a conversation is in flight waits", () => {
  const bench = new Bench();
  bench.push("a", "a1");
  const first = bench.take();
  bench.push("a", "a2");
  bench.push("b", "b1");
  assert.deepEqual(bench.texts(), ["b1"]);
  assert.equal(bench.ack(first[0][0]), 1);
  assert.deepEqual(bench.texts(), ["a2"]);
});

test("a broken stream sends all that is unanswered again in order", () => {
  const bench = new Bench();
  for (const [parent, text] of [["a", "a1"], ["b", "b1"], ["a", "a2"]]) bench.push(parent, text);
  const sent = bench.take();
  bench.push("a", "a3");
  bench.ack(sent[0][0]);
  bench.window.rewind();
  const again = bench.take();
  assert.deepEqual(again.map(([, text]) => text), ["b1", "a2", "a3"]);
  // The answers of both streams count once.
  assert.equal(bench.ack(...[...again, ...sent].map(([id]) => id)), 3);
  assert.equal(bench.window.size, 0);
});

test("a refused message goes first again after a pause", () => {
  const bench = new Bench();
  bench.push("a", "a1");
  bench.push("a", "a2");
  const sent = bench.take();
  bench.push("a", "a3");
  assert.equal(bench.refuse(sent[1][0]).unavailable, 1);
  bench.refuse(sent[0][0]);
  assert.deepEqual(bench.texts(), []);
  const due = bench.window.nextWake();
  assert.ok(due > 0 && due <= bounds.BACKOFF_MAX);
  bench.window.wake(due);
  assert.deepEqual(bench.texts(), ["a1", "a2", "a3"]);
});

for (const expires of [true, false]) {
  test(`nothing overtakes a message whose outcome stays unknown; it expires: ${expires}`, () => {
    const bench = new Bench();
    bench.push("a", "a1", 1_000);
    bench.push("a", "a2");
    const sent = bench.take();
    bench.push("a", "a3");
    const { INTERNAL } = Code;
    const ended = expires ? bench.window.expire(1_000) : bench.refuse(sent[0][0], INTERNAL, 0, "INTERNAL").failed;
    assert.equal(ended, 3);
    const errors = bench.acks.map((ack) => ack.error);
    assert.deepEqual(errors.slice(1).map(({ reason }) => reason), ["PREDECESSOR_FAILED", "PREDECESSOR_FAILED"]);
    assert.deepEqual(errors.map(({ outcomeUnknown }) => outcomeUnknown), [expires, true, false]);
    bench.push("a", "a4", 10_000, 1_000);
    assert.deepEqual(bench.texts(), ["a4"]);
  });
}

test("a frame ends at its bounds, and the rest waits for its answers", () => {
  const bench = new Bench();
  for (let n = 0; n < 5; n += 1) bench.push("a", String(n));
  assert.equal(bench.window.take(0, 2, 1 << 20).items.length, 2);
  assert.deepEqual(bench.texts(), []);
  bench.window.rewind();
  assert.equal(bench.window.take(0, 100, 1).items.length, 1);
});

/** A client of a node that answers each Tail or Follow with the next of some streams, and notes what it was asked. */
function clientOf(...streams) {
  const asked = [];
  const client = new Client(["127.0.0.1:1"], { discover: false });
  const node = [...client.pool.known.values()][0];
  const next = () => {
    const write = ({ cursor = "", add = [], remove = [] }) =>
      asked.push([cursor, add.map(({ parent, startSeq }) => [parent, startSeq]), remove]);
    const call = Object.assign(new EventEmitter(), { cancel() {}, pause() {}, resume() {}, write });
    setImmediate(() => {
      call.emit("metadata", {});
      for (const one of streams.shift() ?? []) {
        if (typeof one === "number") call.emit("status", { code: one, details: "lost" });
        else call.emit("data", one);
      }
    });
    return call;
  };
  node.stub = () => ({
    GetStatus: () => {},
    Follow: next,
    Tail({ startSeq, cursor }) {
      asked.push([startSeq, cursor]);
      return next();
    },
  });
  return { client, asked };
}

function tailOf(...streams) {
  const { client, asked } = clientOf(...streams);
  return { client, asked, tail: client.tail("tenants/t/conversations/c", From.seq(1)) };
}

const message = (seq) => ({ event: "message", message: { seq }, cursor: `behind-${seq}` });

test("a tail resumes by cursor, skips repeats and asks again for what is left out", async () => {
  const { client, asked, tail } = tailOf(
    [message(1), message(2), Code.UNAVAILABLE],
    [message(2), message(4)],
    [message(3), { event: "reconnect", reconnect: { afterMs: 1 }, cursor: "at-3" }],
    [{ event: "caughtUp", caughtUp: { lastSeq: 3 }, cursor: "at-3" }, message(4)],
  );
  const seen = [];
  for (let n = 0; n < 5; n += 1) {
    const { value } = await tail.next();
    seen.push(value.caughtUp ?? value.message.seq);
  }
  assert.deepEqual(seen, [1, 2, 3, 3, 4]);
  assert.deepEqual(asked, [[1, ""], [3, "behind-2"], [3, ""], [4, "at-3"]]);
  await client.close();
});

test("what several nodes leave out is an error and not passed over", async () => {
  const { client, tail } = tailOf(...Array.from({ length: 9 }, () => [message(2)]));
  await assert.rejects(tail.next(), Gap);
  assert.ok((await tail.next()).done);
  await client.close();
});

/** Messages that a Follow brings, as "room/seq". */
function brings(said, cursor = "", caughtUp = false) {
  const events = said.map((one) => {
    const [room, seq] = one.split("/");
    return { event: "message", message: { name: `${room}/messages/${seq}`, seq: Number(seq) } };
  });
  return { events, cursor, caughtUp, reconnect: null };
}

/** What a Follow gives next. */
async function take(follow, count) {
  const events = [];
  for (let n = 0; n < count; n += 1) {
    const { caughtUp, message } = (await follow.next()).value;
    events.push(caughtUp ? "caught up" : message.name.replace("/messages", ""));
  }
  return events;
}

test("a follow's cursor is behind what was given and not behind what waits", async () => {
  const { client } = clientOf([brings(["a/1", "a/2"], "x", true), brings([], "y"), brings(["a/3"], "z")]);
  const follow = client.follow();
  follow.addFrom([["a", 1]]);
  for (const [said, cursor] of [["a/1", ""], ["a/2", ""], ["caught up", "x"], ["a/3", "z"]]) {
    assert.deepEqual([await take(follow, 1), follow.cursor], [[said], cursor]);
  }
  await client.close();
});

test("a follow resumes behind what came, by number while there is no cursor, and skips repeats", async () => {
  const { client, asked } = clientOf(
    [brings(["a/1", "a/2", "b/7"]), Code.UNAVAILABLE],
    [brings(["a/2", "a/3"], "x", true), Code.UNAVAILABLE],
    [brings(["a/3", "b/8"], "y")],
  );
  const follow = client.follow();
  follow.addFrom([["a", 1], ["b", 0], ["c", 4]]);
  assert.deepEqual(await take(follow, 6), ["a/1", "a/2", "b/7", "a/3", "caught up", "b/8"]);
  assert.deepEqual(asked, [
    ["", [["a", 1], ["b", 0], ["c", 4]], []],
    ["", [["a", 3], ["b", 8], ["c", 4]], []],
    ["x", [["a", 0], ["b", 0], ["c", 0]], []],
  ]);
  await client.close();
});

test("a cursor from before a conversation was added does not stand for its beginning", async () => {
  const { client, asked } = clientOf(
    [brings(["a/1"], "x", true), brings(["a/2"], "y"), Code.UNAVAILABLE],
    [brings(["b/5"], "z", true), Code.UNAVAILABLE],
    [brings(["b/6"])],
  );
  const follow = client.follow();
  follow.addFrom([["a", 1]]);
  assert.deepEqual(await take(follow, 2), ["a/1", "caught up"]);
  follow.addFrom([["b", 5]]);
  // What came of "a" had been on its way before "b" was asked for.
  assert.deepEqual(await take(follow, 3), ["a/2", "b/5", "caught up"]);
  follow.remove(["a"]);
  assert.deepEqual(await take(follow, 1), ["b/6"]);
  assert.deepEqual(asked, [
    ["", [["a", 1]], []],
    ["", [["b", 5]], []],
    ["y", [["a", 0], ["b", 5]], []],
    ["", [], ["a"]],
    ["z", [["b", 0]], []],
  ]);
  await client.close();
});
