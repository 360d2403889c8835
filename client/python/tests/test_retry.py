"""What is decided without a node: which answers are tried again, where, and after how long."""

import asyncio
import unittest

import grpc
from firebreak import Client, Code, Config, Deadline, Follow, From, Gap, Refusal, Refused, Tail
from firebreak.errors import Fault, fault_of, never_sent, retryable, settles, silent
from firebreak.nodes import Node, Tried, best
from firebreak.options import BACKOFF_MAX, BACKOFF_MIN, DC_SUSPECT, LEAVING_VALID, REFUSALS_MAX, RETRY_TOKENS_MAX
from firebreak.retry import Backoff, Budget, Random
from firebreak.session import Token
from firebreak.v1 import messages_pb2 as v1
from firebreak.window import Window


class Refusals(unittest.TestCase):
    def test_reasons_of_errors_md_are_retried_as_it_says(self) -> None:
        for code, reason, after, again in [
            (Code.UNAVAILABLE, "NO_QUORUM", 0.5, True),
            (Code.UNAVAILABLE, "", None, True),
            (Code.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN", None, True),
            (Code.RESOURCE_EXHAUSTED, "OVERLOAD", 0.2, True),
            (Code.RESOURCE_EXHAUSTED, "QUOTA", None, False),
            (Code.RESOURCE_EXHAUSTED, "", None, True),
            (Code.ABORTED, "PREDECESSOR_FAILED", 0.0, True),
            (Code.ABORTED, "SEQ_MISMATCH", None, False),
            (Code.INVALID_ARGUMENT, "INVALID_FIELDS", None, False),
            (Code.NOT_FOUND, "CONVERSATION_NOT_FOUND", None, False),
            (Code.DATA_LOSS, "REPLICA_CORRUPT", None, True),
            (Code.INTERNAL, "INTERNAL", None, False),
            (Code.INTERNAL, "", None, True),
            (Code.OUT_OF_RANGE, "CURSOR_TRIMMED", None, False),
            (Code.UNAUTHENTICATED, "CREDENTIALS_EXPIRED", None, False),
            (Code.PERMISSION_DENIED, "TENANT_FORBIDDEN", None, False),
        ]:
            self.assertEqual(retryable(Refusal(code, reason, retry_after=after)), again, (code, reason))

    def test_what_an_answer_says_about_its_node(self) -> None:
        for code, reason, fault in [
            (Code.UNAVAILABLE, "", Fault.NODE),
            (Code.UNAVAILABLE, "NO_QUORUM", Fault.REFUSED),
            (Code.UNAVAILABLE, "NODE_STOPPING", Fault.LEAVING),
            (Code.DATA_LOSS, "REPLICA_CORRUPT", Fault.REFUSED),
            (Code.INVALID_ARGUMENT, "INVALID_FIELDS", Fault.NONE),
            (Code.UNAUTHENTICATED, "CREDENTIALS_REVOKED", Fault.NONE),
        ]:
            self.assertEqual(fault_of(Refusal(code, reason)), fault, (code, reason))
        self.assertEqual(fault_of(silent(1.0)), Fault.NODE)

    def test_an_error_says_whether_the_outcome_is_known(self) -> None:
        self.assertTrue(never_sent(Refusal(Code.UNAVAILABLE, message="failed to connect to all addresses; x")))
        self.assertFalse(never_sent(Refusal(Code.UNAVAILABLE, message="recvmsg: Connection reset by peer")))
        self.assertTrue(settles(Refusal(Code.ABORTED, "SEQ_MISMATCH")))
        self.assertIn("not known", str(Deadline(True, 3)))
        self.assertTrue(Refused(Refusal(Code.INTERNAL, "INTERNAL"), True).outcome_unknown)


class Waits(unittest.TestCase):
    def test_waits_grow_from_10_ms_to_200_ms(self) -> None:
        backoff, random = Backoff(), Random(1)
        waits = [backoff.next(random) for _ in range(40)]
        self.assertTrue(BACKOFF_MIN / 2 <= waits[0] <= BACKOFF_MIN)
        self.assertTrue(all(BACKOFF_MAX / 2 <= wait <= BACKOFF_MAX for wait in waits[10:]))

    def test_a_storm_empties_the_bucket_answers_fill_it_and_waits_grow(self) -> None:
        budget, random = Budget(), Random(1)
        self.assertEqual(sum(budget.spend() for _ in range(10 * RETRY_TOKENS_MAX)), RETRY_TOKENS_MAX)
        self.assertGreaterEqual(budget.pause(Backoff(), random, 0.0, 10.0), 0.5)
        self.assertLessEqual(budget.pause(Backoff(), random, 0.0, 0.2), 0.1)
        budget.earn(10)
        self.assertLessEqual(budget.pause(Backoff(), random, 0.0, 10.0), BACKOFF_MIN)
        budget.earn(10)
        self.assertEqual(budget.pause(Backoff(), random, 7.0, 10.0), 1.0)


class Choice(unittest.TestCase):
    def nodes(self) -> list[Node]:
        places = [("a:1", "seoul"), ("b:1", "busan"), ("c:1", "seoul"), ("d:1", "tokyo")]
        return [Node(address, rank=at, dc=dc) for at, (address, dc) in enumerate(places)]

    def test_after_a_failure_another_data_center_is_next(self) -> None:
        nodes, tried = self.nodes(), Tried()
        for _ in range(3):
            first = best(nodes, tried, 0.0)
            tried.ended(first, Fault.REFUSED)
            self.assertNotEqual(best(nodes, tried, 0.0).dc, first.dc)

    def test_a_lost_node_is_asked_last_and_its_data_center_next_to_last(self) -> None:
        nodes = self.nodes()
        nodes[0].lose(0.0)
        self.assertEqual(best(nodes, Tried(), 0.0).address, "b:1")
        nodes[1].lose(0.0)
        nodes[3].lose(0.0)
        self.assertEqual(best(nodes, Tried(), 0.0).address, "c:1")
        nodes[1].succeeded()
        self.assertEqual(best(nodes, Tried(), DC_SUSPECT).address, "b:1")

    def test_a_node_that_goes_away_is_asked_last_for_a_while(self) -> None:
        nodes = self.nodes()[:2]
        nodes[0].failed(Fault.LEAVING, 0.0)
        self.assertEqual(best(nodes, Tried(), 1.0).address, "b:1")
        self.assertEqual(best(nodes, Tried(), LEAVING_VALID).address, "a:1")

    def test_some_refusals_in_a_row_lose_a_node_and_the_nearest_goes_first(self) -> None:
        nodes = self.nodes()
        for node, round in zip(nodes, [0.031, 0.002, 0.031, 0.2], strict=True):
            node.round = round
        self.assertEqual(best(nodes, Tried(), 0.0).address, "b:1")
        for _ in range(REFUSALS_MAX):
            self.assertIsNone(nodes[1].lost_at)
            nodes[1].failed(Fault.REFUSED, 0.0)
        self.assertEqual(best(nodes, Tried(), 0.0).address, "a:1")


class Tokens(unittest.TestCase):
    def test_a_token_survives_its_text_and_a_damaged_one_is_refused(self) -> None:
        token = Token({3: 7, 65_535: 2**40})
        token.merge(Token.of_conversation("tenants/t/conversations/c", 9))
        again = Token.decode(token.encode())
        self.assertEqual((again.seen, again.rest), (token.seen, False))
        self.assertEqual(Token.decode("").encode(), "")
        for wrong in ["x", token.encode()[:-2] + "AA", "!!!!"]:
            with self.assertRaises(Config):
                Token.decode(wrong)

    def test_what_is_not_named_stays_among_the_rest(self) -> None:
        many = Token({slot: 1 for slot in range(100)})
        many.merge(Token({slot: 2 for slot in range(100, 200)}))
        self.assertEqual((len(many.seen), many.rest), (128, True))
        many.merge(Token({150: 9, 5: 4}))
        self.assertNotIn(150, many.seen)
        self.assertEqual(many.seen[5], 4)


class Windows(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.window, self.acks = Window(), []

    def push(self, parent: str, text: str, deadline: float = 10.0, now: float = 0.0) -> None:
        ack = asyncio.get_running_loop().create_future()
        self.acks.append(ack)
        self.window.push(parent, v1.Message(body=text.encode()), now, deadline, ack)

    def take(self, now: float = 0.0) -> list[tuple[int, str]]:
        return [(one.correlation_id, one.message.body.decode()) for one in self.window.take(now, 100, 1 << 20)[0]]

    def ack(self, *ids: int) -> int:
        results = [v1.AppendResult(correlation_id=one, appended=v1.Appended(seq=one)) for one in ids]
        return self.window.answer(results, 0.0).acked

    def refuse(self, id: int, code: Code = Code.UNAVAILABLE, after: int = 1, reason: str = "NO_QUORUM"):
        error = v1.ItemError(code=code.value[0], reason=reason, retry_after_ms=after)
        return self.window.answer([v1.AppendResult(correlation_id=id, error=error)], 0.0)

    async def test_what_comes_while_a_conversation_is_in_flight_waits(self) -> None:
        self.push("a", "a1")
        first = self.take()
        self.push("a", "a2")
        self.push("b", "b1")
        self.assertEqual([text for _, text in self.take()], ["b1"])
        self.assertEqual(self.ack(first[0][0]), 1)
        self.assertEqual([text for _, text in self.take()], ["a2"])

    async def test_a_broken_stream_sends_all_that_is_unanswered_again_in_order(self) -> None:
        for parent, text in [("a", "a1"), ("b", "b1"), ("a", "a2")]:
            self.push(parent, text)
        sent = self.take()
        self.push("a", "a3")
        self.ack(sent[0][0])
        self.window.rewind()
        again = self.take()
        self.assertEqual([text for _, text in again], ["b1", "a2", "a3"])
        # The answers of both streams count once.
        self.assertEqual(self.ack(*[id for id, _ in again + sent]), 3)
        self.assertEqual(len(self.window), 0)

    async def test_a_refused_message_goes_first_again_after_a_pause(self) -> None:
        self.push("a", "a1")
        self.push("a", "a2")
        sent = self.take()
        self.push("a", "a3")
        self.assertEqual(self.refuse(sent[1][0]).unavailable, 1)
        self.refuse(sent[0][0])
        self.assertEqual(self.take(), [])
        due = self.window.next_wake()
        self.assertTrue(0.0 < due <= BACKOFF_MAX)
        self.window.wake(due)
        self.assertEqual([text for _, text in self.take()], ["a1", "a2", "a3"])

    async def test_nothing_overtakes_a_message_whose_outcome_stays_unknown(self) -> None:
        for expires in (True, False):
            self.setUp()
            self.push("a", "a1", 1.0)
            self.push("a", "a2")
            sent = self.take()
            self.push("a", "a3")
            if expires:
                self.assertEqual(self.window.expire(1.0), 3)
            else:
                self.assertEqual(self.refuse(sent[0][0], Code.INTERNAL, 0, "INTERNAL").failed, 3)
            errors = [ack.exception() for ack in self.acks]
            self.assertEqual([error.reason for error in errors[1:]], ["PREDECESSOR_FAILED"] * 2)
            self.assertEqual([error.outcome_unknown for error in errors], [expires, True, False])
            self.push("a", "a4", now=1.0)
            self.assertEqual([text for _, text in self.take()], ["a4"])

    async def test_a_frame_ends_at_its_bounds_and_the_rest_waits_for_its_answers(self) -> None:
        for number in range(5):
            self.push("a", str(number))
        self.assertEqual(len(self.window.take(0.0, 2, 1 << 20)[0]), 2)
        self.assertEqual(self.take(), [])
        self.window.rewind()
        self.assertEqual(len(self.window.take(0.0, 100, 1)[0]), 1)


class Calls:
    """A node that answers each Tail with the next of some streams, and notes what it was asked."""

    def __init__(self, *streams: list[object]) -> None:
        self.streams, self.asked = list(streams), []

    def Tail(self, request: v1.TailRequest, metadata: object = ()) -> "Calls":  # noqa: N802
        self.asked.append((request.start_seq, request.cursor))
        self.now = iter(self.streams.pop(0))
        return self

    def Follow(self, metadata: object) -> "Calls":  # noqa: N802
        self.now = iter(self.streams.pop(0))
        return self

    async def write(self, request: v1.FollowRequest) -> None:
        self.asked.append((request.cursor, [(one.parent, one.start_seq) for one in request.add], list(request.remove)))

    async def initial_metadata(self) -> tuple[()]:
        return ()

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        pass

    async def read(self) -> object:
        # Whoever sends has its turn.
        await asyncio.sleep(0)
        response = next(self.now)
        if isinstance(response, Code):
            raise grpc.aio.AioRpcError(response, grpc.aio.Metadata(), grpc.aio.Metadata(), details="lost")
        return response


class Streams(unittest.IsolatedAsyncioTestCase):
    def client(self, *streams: list[object]) -> Client:
        client = Client(["127.0.0.1:1"], discover=False)
        self.addAsyncCleanup(client.close)
        self.calls = Calls(*streams)
        client.pool.known["127.0.0.1:1"].stub = lambda service: self.calls if service == "messages" else None
        client._maintenance.cancel()
        return client


class Tails(Streams):
    def tail(self, *streams: list[object]) -> Tail:
        return self.client(*streams).tail("tenants/t/conversations/c", From.seq(1))

    @staticmethod
    def message(seq: int) -> v1.TailResponse:
        return v1.TailResponse(message=v1.Message(seq=seq), cursor=f"behind-{seq}")

    async def test_a_tail_resumes_by_cursor_skips_repeats_and_asks_again_for_what_is_left_out(self) -> None:
        tail = self.tail(
            [self.message(1), self.message(2), Code.UNAVAILABLE],
            [self.message(2), self.message(4)],
            [self.message(3), v1.TailResponse(reconnect=v1.Reconnect(after_ms=1), cursor="at-3")],
            [v1.TailResponse(caught_up=v1.CaughtUp(last_seq=3), cursor="at-3"), self.message(4)],
        )
        events = [await tail.next() for _ in range(5)]
        seen = [event.caught_up or event.message.seq for event in events]
        self.assertEqual(seen, [1, 2, 3, 3, 4])
        self.assertEqual(self.calls.asked, [(1, ""), (3, "behind-2"), (3, ""), (4, "at-3")])

    async def test_what_several_nodes_leave_out_is_an_error_and_not_passed_over(self) -> None:
        tail = self.tail(*[[self.message(2)] for _ in range(9)])
        with self.assertRaises(Gap):
            await tail.next()
        self.assertIsNone(await tail.next())


class Follows(Streams):
    @staticmethod
    def answer(*said: str, cursor: str = "", caught_up: bool = False) -> v1.FollowResponse:
        """Messages, as "room/seq"."""
        events = []
        for one in said:
            room, _, seq = one.partition("/")
            events.append(v1.FollowEvent(message=v1.Message(name=f"{room}/messages/{seq}", seq=int(seq))))
        return v1.FollowResponse(events=events, cursor=cursor, caught_up=caught_up)

    async def take(self, follow: Follow, count: int) -> list[str]:
        events = [await follow.next() for _ in range(count)]
        return ["caught up" if one.caught_up else one.message.name.replace("/messages", "") for one in events]

    async def test_a_cursor_is_behind_what_was_given_and_not_behind_what_waits(self) -> None:
        answer = self.answer("a/1", "a/2", cursor="x", caught_up=True)
        follow = self.client([answer, self.answer(cursor="y"), self.answer("a/3", cursor="z")]).follow()
        follow.add_from([("a", 1)])
        for said, cursor in [("a/1", ""), ("a/2", ""), ("caught up", "x"), ("a/3", "z")]:
            self.assertEqual((await self.take(follow, 1), follow.cursor), ([said], cursor))

    async def test_it_resumes_behind_what_came_by_number_while_there_is_no_cursor_and_skips_repeats(self) -> None:
        follow = self.client(
            [self.answer("a/1", "a/2", "b/7"), Code.UNAVAILABLE],
            [self.answer("a/2", "a/3", cursor="x", caught_up=True), Code.UNAVAILABLE],
            [self.answer("a/3", "b/8", cursor="y")],
        ).follow()
        follow.add_from([("a", 1), ("b", 0), ("c", 4)])
        taken = await self.take(follow, 6)
        self.assertEqual(taken, ["a/1", "a/2", "b/7", "a/3", "caught up", "b/8"])
        self.assertEqual(
            self.calls.asked,
            [
                ("", [("a", 1), ("b", 0), ("c", 4)], []),
                ("", [("a", 3), ("b", 8), ("c", 4)], []),
                ("x", [("a", 0), ("b", 0), ("c", 0)], []),
            ],
        )

    async def test_a_cursor_from_before_it_was_added_does_not_stand_for_its_beginning(self) -> None:
        follow = self.client(
            [self.answer("a/1", cursor="x", caught_up=True), self.answer("a/2", cursor="y"), Code.UNAVAILABLE],
            [self.answer("b/5", cursor="z", caught_up=True), Code.UNAVAILABLE],
            [self.answer("b/6")],
        ).follow()
        follow.add_from([("a", 1)])
        self.assertEqual(await self.take(follow, 2), ["a/1", "caught up"])
        follow.add_from([("b", 5)])
        # What came of "a" had been on its way before "b" was asked for.
        self.assertEqual(await self.take(follow, 3), ["a/2", "b/5", "caught up"])
        follow.remove(["a"])
        self.assertEqual(await self.take(follow, 1), ["b/6"])
        self.assertEqual(self.calls.asked[0], ("", [("a", 1)], []))
        self.assertEqual(self.calls.asked[1], ("", [("b", 5)], []))
        self.assertEqual(self.calls.asked[2], ("y", [("a", 0), ("b", 5)], []))
        self.assertEqual(self.calls.asked[-1], ("z", [("b", 0)], []))


if __name__ == "__main__":
    unittest.main()
