"""The unanswered messages of a stream and what may be sent of them: no IO and no waiting in here.

Invariant: of each conversation either nothing is in flight, or what is in flight is older than everything of it that
waits. So order in a conversation holds through every failure.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from typing import Any

import grpc

from .errors import Deadline, Error, Refusal, Refused, from_item, predecessor, retryable, settles
from .message import Appended
from .options import BACKOFF_MAX, BACKOFF_MIN, RETRY_AFTER_MAX
from .v1 import messages_pb2 as v1


@dataclasses.dataclass(eq=False)
class Entry:
    """One unanswered message."""

    id: int
    lane: Lane
    item: Any
    size: int
    started: float
    deadline: float
    answer: asyncio.Future[Appended]
    sent_at: float = 0.0
    attempts: int = 0
    last: Refusal | None = None


@dataclasses.dataclass(eq=False)
class Lane:
    """One conversation with unanswered messages. Ids grow in the order of enqueueing."""

    parent: str
    waiting: deque[Entry] = dataclasses.field(default_factory=deque)
    in_flight: dict[int, Entry] = dataclasses.field(default_factory=dict)
    #: Refused for now; sent again once nothing is in flight.
    failed: list[Entry] = dataclasses.field(default_factory=list)
    #: Refusals in a row.
    refused: int = 0
    delayed_until: float | None = None

    def recall(self) -> None:
        """Puts what is in flight or refused back in front of what waits, in order."""
        back = sorted([*self.in_flight.values(), *self.failed], key=lambda entry: entry.id)
        self.in_flight.clear()
        self.failed.clear()
        self.waiting.extendleft(reversed(back))


@dataclasses.dataclass
class Summary:
    """What the results of one frame were."""

    acked: int = 0
    deduplicated: int = 0
    failed: int = 0
    #: Refused because this node cannot reach a quorum: another may.
    unavailable: int = 0


class Window:
    """All lanes of a stream."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._lanes: dict[str, Lane] = {}
        #: Lanes with something to send, nothing in flight and no delay; a dict for its order.
        self._ready: dict[Lane, None] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def push(
        self,
        parent: str,
        message: Any,
        started: float,
        deadline: float,
        answer: asyncio.Future[Appended],
        fence_token: str = "",
    ) -> None:
        """Takes a message in."""
        lane = self._lanes.setdefault(parent, Lane(parent))
        self._count += 1
        item = v1.AppendItem(
            correlation_id=self._count, parent=parent, message=message, fence_token=fence_token
        )
        entry = Entry(self._count, lane, item, item.ByteSize(), started, started + deadline, answer)
        self._entries[entry.id] = entry
        lane.waiting.append(entry)
        self._place(lane)

    def _place(self, lane: Lane) -> None:
        """Brings a lane to where it belongs: in flight, delayed, ready or gone."""
        if lane.waiting and not lane.in_flight and not lane.failed and lane.delayed_until is None:
            # One that is ready keeps its turn.
            self._ready.setdefault(lane)
            return
        self._ready.pop(lane, None)
        if not lane.waiting and not lane.in_flight and not lane.failed:
            self._lanes.pop(lane.parent, None)

    def has_ready(self) -> bool:
        """Whether something may go out."""
        return bool(self._ready)

    def take(self, now: float, items_max: int, bytes_max: int) -> tuple[list[Any], int]:
        """The next frame, up to `items_max` items and past `bytes_max` no more; how many had been sent before."""
        items: list[Any] = []
        size = again = 0
        while self._ready and len(items) < items_max and size < bytes_max:
            lane = next(iter(self._ready))
            while lane.waiting and len(items) < items_max and size < bytes_max:
                entry = lane.waiting.popleft()
                entry.item.timeout_ms = max(round((entry.deadline - now) * 1000), 1)
                items.append(entry.item)
                size += entry.size
                again += entry.attempts > 0
                entry.attempts += 1
                entry.sent_at = now
                lane.in_flight[entry.id] = entry
            del self._ready[lane]
        return items, again

    def answer(self, results: Any, now: float) -> Summary:
        """Takes in the results of one frame."""
        summary = Summary()
        for result in results:
            entry = self._entries.get(result.correlation_id)
            if entry is None or entry.lane.in_flight.pop(entry.id, None) is None:
                continue
            if result.WhichOneof("outcome") == "appended":
                self._acked(entry, result.appended, now, summary)
            else:
                self._refused(entry, from_item(result.error), summary)
            self._settle(entry.lane, now)
        return summary

    def _acked(self, entry: Entry, one: Any, now: float, summary: Summary) -> None:
        summary.acked += 1
        summary.deduplicated += one.deduplicated
        entry.lane.refused = 0
        took = now - entry.started
        acked = Appended(one.seq, one.revision, one.create_time_ms, one.deduplicated, took, entry.attempts)
        self._resolve(entry, acked)

    def _refused(self, entry: Entry, refusal: Refusal, summary: Summary) -> None:
        if retryable(refusal):
            summary.unavailable += refusal.code == grpc.StatusCode.UNAVAILABLE
            entry.last = refusal
            entry.lane.failed.append(entry)
            return
        summary.failed += 1
        self._resolve(entry, Refused(refusal, entry.attempts > 1 and not settles(refusal)))
        if refusal.code == grpc.StatusCode.INTERNAL:
            # It may have been done or not, and may yet be: nothing may overtake it.
            summary.failed += self._fail_behind(entry)

    def _settle(self, lane: Lane, now: float) -> None:
        if lane.failed and not lane.in_flight:
            asked = max((one.last.retry_after or 0.0) for one in lane.failed if one.last is not None)
            wait = min(BACKOFF_MIN * 2 ** min(lane.refused, 16), BACKOFF_MAX)
            lane.refused += 1
            lane.recall()
            lane.delayed_until = now + max(wait, min(asked, RETRY_AFTER_MAX))
        self._place(lane)

    def rewind(self) -> None:
        """Makes everything unanswered wait again, in the order of enqueueing: the stream broke."""
        self._ready.clear()
        for lane in self._lanes.values():
            lane.recall()
            lane.delayed_until = None
        for lane in sorted((one for one in self._lanes.values() if one.waiting), key=lambda one: one.waiting[0].id):
            self._ready[lane] = None

    def _fail_behind(self, before: Entry) -> int:
        """Ends what was enqueued behind an entry in its conversation: with the outcome of that unknown, whatever came
        behind it might come before it. Gives how many."""
        lane = before.lane
        all = [*lane.in_flight.values(), *lane.failed, *lane.waiting]
        behind = sorted((one for one in all if one.id > before.id), key=lambda one: one.id)
        for one in behind:
            self._remove(one)
            self._resolve(one, Refused(predecessor(), one.attempts > 0))
        return len(behind)

    def _remove(self, entry: Entry) -> None:
        lane = entry.lane
        lane.in_flight.pop(entry.id, None)
        if entry in lane.failed:
            lane.failed.remove(entry)
        if entry in lane.waiting:
            lane.waiting.remove(entry)

    def expire(self, now: float) -> int:
        """Ends everything whose deadline has passed; gives how many."""
        ended = 0
        for entry in [one for one in self._entries.values() if one.deadline <= now]:
            if entry.id not in self._entries:
                continue
            self._remove(entry)
            self._resolve(entry, Deadline(entry.attempts > 0, entry.attempts, entry.last))
            ended += 1
            if entry.attempts > 0:
                ended += self._fail_behind(entry)
            self._settle(entry.lane, now)
        return ended

    def refuse_in_flight(self, refusal: Refusal, now: float) -> int:
        """Ends everything in flight with one error: the whole stream was refused for good."""
        flying = [one for lane in self._lanes.values() for one in [*lane.in_flight.values(), *lane.failed] if lane.in_flight]
        for entry in sorted(flying, key=lambda one: one.id):
            self._remove(entry)
            self._resolve(entry, Refused(refusal, True))
        for lane in {id(one.lane): one.lane for one in flying}.values():
            self._settle(lane, now)
        return len(flying)

    def close(self, error: Error) -> None:
        """Ends everything that is left."""
        for entry in list(self._entries.values()):
            self._remove(entry)
            self._resolve(entry, error)
            self._place(entry.lane)

    def wake(self, now: float) -> None:
        """Makes delayed lanes ready whose time has come."""
        for lane in list(self._lanes.values()):
            if lane.delayed_until is not None and lane.delayed_until <= now:
                lane.delayed_until = None
                self._place(lane)

    def next_wake(self) -> float | None:
        """When the first delayed lane becomes ready."""
        return min((one.delayed_until for one in self._lanes.values() if one.delayed_until is not None), default=None)

    def oldest_in_flight(self) -> float | None:
        """When the message that has been in flight longest was sent."""
        firsts = (next(iter(one.in_flight.values()), None) for one in self._lanes.values())
        return min((one.sent_at for one in firsts if one is not None), default=None)

    def _resolve(self, entry: Entry, outcome: Appended | Error) -> None:
        self._entries.pop(entry.id, None)
        # The caller may have stopped listening.
        if entry.answer.done():
            return
        if isinstance(outcome, Appended):
            entry.answer.set_result(outcome)
        else:
            entry.answer.set_exception(outcome)
