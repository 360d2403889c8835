"""Pipelined appends to many conversations over one stream, which moves between nodes.

When a stream breaks, all unanswered messages go out again elsewhere, each under its own id and before anything that
came after it. A node that goes away is sent nothing more, is given a second for what it owes, and then is left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc

from . import options
from .errors import Closed, Fault, Refusal, fault_of, from_rpc, retryable, silent
from .message import Appended, Message
from .nodes import Node, Tried
from .retry import Backoff
from .v1 import messages_pb2 as v1
from .window import Window

if TYPE_CHECKING:
    from .client import Client

Ack = asyncio.Future[Appended]


class Moves:
    """When a stream may move although nothing forces it to: at once, then ever more slowly while that does not help."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._interval = 0.0

    def may(self, now: float) -> bool:
        since = None if self._last is None else now - self._last
        if since is None or since > options.MOVE_FORGET:
            self._interval = 0.0
        if since is not None and since < self._interval:
            return False
        self._last = now
        self._interval = min(max(self._interval * 2, options.MOVE_INTERVAL_MIN), options.MOVE_INTERVAL_MAX)
        return True


class AppendStream:
    """Pipelined appends, from Client.append_stream()."""

    def __init__(self, client: Client, unanswered_max: int, deadline: float) -> None:
        self._client, self._deadline = client, deadline
        self._most = min(max(unanswered_max, 1), options.UNANSWERED_MAX)
        self._window, self._moves = Window(), Moves()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False
        #: Set when there may be something to send, or the stream was closed.
        self._changed = asyncio.Event()
        #: Set when there is something to look after again.
        self._busy = asyncio.Event()
        self.driver = asyncio.get_running_loop().create_task(self._run())

    async def __aenter__(self) -> AppendStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def unanswered(self) -> int:
        """Messages that are not answered yet."""
        return len(self._window)

    async def send(self, parent: str, message: Message) -> Appended:
        """Appends one message: enqueue() and then its answer."""
        return await (await self.enqueue(parent, message))

    async def enqueue(self, parent: str, message: Message) -> Ack:
        """Waits for room in the window and puts the message into it; its place in the conversation is settled when
        this returns. The future gives the answer; cancelling it does not call the message back. The deadline begins
        here."""
        started = self._client.pool.clock()
        while not self._closed and (len(self._window) >= self._most or self._waiting):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
                break
            except asyncio.CancelledError:
                if turn.done():
                    self._admit()
                else:
                    self._waiting.remove(turn)
                raise
        if self._closed:
            raise Closed
        ack: Ack = asyncio.get_running_loop().create_future()
        # Nobody need listen; a failure that nobody hears is counted all the same.
        ack.add_done_callback(lambda one: one.cancelled() or one.exception())
        wire = message.to_wire(self._client.random.id())
        self._window.push(parent, wire, started, self._deadline, ack, message.fence_token)
        self._changed.set()
        self._busy.set()
        self._admit()
        return ack

    async def close(self) -> None:
        """Takes no more messages, and returns when what was enqueued is answered or its time is up."""
        self._closed = True
        self._changed.set()
        self._busy.set()
        while self._waiting:
            self._waiting.popleft().cancel()
        await asyncio.wait([self.driver])

    def _admit(self) -> None:
        """Lets as many of those who wait go on as there is room for."""
        room = self._most - len(self._window)
        while room > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1

    async def _run(self) -> None:
        client = self._client
        tried, backoff, failures = Tried(), Backoff(), 0
        try:
            while await self._work():
                self._window.rewind()
                node = client.pool.choose(tried)
                attempt = _Attempt(self, node)
                try:
                    fault, asked, worked = await attempt.run()
                finally:
                    attempt.end()
                if not self._window and self._closed:
                    return
                node.failed(fault, client.pool.clock())
                if worked:
                    tried.forget()
                    backoff.reset()
                    failures = 0
                tried.ended(node, fault)
                failures += 1
                client.counters.failovers += 1
                if failures > 1 or not client.pool.has_fresh(tried):
                    await self._wait(client.budget.pause(backoff, client.random, asked, float("inf")))
        finally:
            self._closed = True
            self._window.close(Closed())
            self._admit()

    async def _work(self) -> bool:
        """Waits until there is something to send; false when there never will be."""
        while not self._window:
            if self._closed:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    async def _wait(self, seconds: float) -> None:
        """Waits while deadlines go on passing."""
        until = self._client.pool.clock() + seconds
        while (left := until - self._client.pool.clock()) > 0:
            await asyncio.sleep(min(left, options.TICK))
            self.expire()

    def expire(self) -> None:
        """Ends what is late, and makes what was delayed ready."""
        now = self._client.pool.clock()
        self._client.counters.failed += self._window.expire(now)
        self._window.wake(now)
        self._admit()

    def heard(self, results: Any) -> bool:
        """Takes the answers of a frame in; true when another node may do better."""
        client, now = self._client, self._client.pool.clock()
        summary = self._window.answer(results, now)
        client.counters.acked += summary.acked
        client.counters.deduplicated += summary.deduplicated
        client.counters.failed += summary.failed
        client.budget.earn(summary.acked)
        self._admit()
        self._changed.set()
        return summary.unavailable > 0 and self._moves.may(now)


class _Attempt:
    """A stream to one node, until the node is left."""

    def __init__(self, stream: AppendStream, node: Node) -> None:
        self._stream, self._node, self._client = stream, node, stream._client
        self._window = stream._window
        self._worked, self._leaving_until = False, 0.0
        self._heard = self._client.pool.clock()
        node.active += 1
        self._call = node.stub("messages").AppendStream(metadata=self._client.import_metadata)
        loop = asyncio.get_running_loop()
        self._reader = loop.create_task(self._read())
        self._writer = loop.create_task(self._write())

    def end(self) -> None:
        self._node.active -= 1
        for task in (self._reader, self._writer):
            task.cancel()
            # What it ended with is known already, or is no longer of interest.
            task.add_done_callback(lambda one: one.cancelled() or one.exception())
        self._call.cancel()

    async def run(self) -> tuple[Fault, float, bool]:
        """Serves until the node is left: why, how long it asks to wait, and whether it had answered anything."""
        while True:
            done = await self._tick()
            self._stream.expire()
            if not self._window and self._stream._closed:
                return Fault.NONE, 0.0, self._worked
            if self._reader in done:
                return self._broke(*self._reader.result())
            if self._writer in done and self._writer.exception() is not None:
                # The reader says why the stream ended.
                await asyncio.wait([self._reader], timeout=options.TICK)
                if self._reader.done():
                    return self._broke(*self._reader.result())
                return self._broke(Fault.NODE, None)
            left = self._look()
            if left is not None:
                return left
            self._stream._changed.set()

    async def _tick(self) -> set[Any]:
        """Waits for a tick, or while nothing is unanswered for what changes that; gives the tasks that ended."""
        tasks: list[asyncio.Task[Any]] = [self._reader, self._writer]
        idle = None
        if not self._window and not self._stream._closed and not self._leaving_until:
            self._stream._busy.clear()
            idle = asyncio.get_running_loop().create_task(self._stream._busy.wait())
            tasks.append(idle)
        timeout = options.TICK if idle is None else None
        try:
            done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if idle is not None:
                idle.cancel()
        return done

    def _broke(self, fault: Fault, refusal: Refusal | None) -> tuple[Fault, float, bool]:
        if refusal is not None and not retryable(refusal):
            now = self._client.pool.clock()
            self._client.counters.failed += self._window.refuse_in_flight(refusal, now)
            self._stream._admit()
        asked = 0.0 if refusal is None else refusal.retry_after or 0.0
        return fault, asked, self._worked

    def _look(self) -> tuple[Fault, float, bool] | None:
        """Looks for what is late; why the node is left, if it is."""
        now = self._client.pool.clock()
        oldest = self._window.oldest_in_flight()
        if self._leaving_until and (oldest is None or now >= self._leaving_until):
            return Fault.LEAVING, 0.0, self._worked
        if oldest is None:
            return None
        if now - max(self._heard, oldest) >= self._client.attempt_timeout:
            return self._broke(Fault.NODE, silent(now - self._heard))
        if now - oldest >= options.STUCK_AFTER and self._stream._moves.may(now):
            return self._broke(Fault.REFUSED, None)
        return None

    async def _write(self) -> None:
        """Sends frames of whatever may go out."""
        while not self._leaving_until:
            items, again = self._window.take(
                self._client.pool.clock(), options.FRAME_ITEMS_MAX, options.FRAME_BYTES
            )
            if items:
                self._client.counters.retries += again
                await self._call.write(v1.AppendStreamRequest(items=items))
                continue
            self._stream._changed.clear()
            await self._stream._changed.wait()

    async def _read(self) -> tuple[Fault, Refusal | None]:
        """Takes answers in; why the stream ended."""
        try:
            while True:
                frame = await self._call.read()
                if frame is grpc.aio.EOF:
                    if await self._call.code() == grpc.StatusCode.OK:
                        return Fault.NONE, None
                    code, details = await self._call.code(), await self._call.details()
                    trailing, initial = await self._call.trailing_metadata(), await self._call.initial_metadata()
                    refusal = from_rpc(grpc.aio.AioRpcError(code, initial, trailing, details=details))
                    return fault_of(refusal), refusal
                self._heard = self._client.pool.clock()
                if frame.going_away and not self._leaving_until:
                    self._leaving_until = self._heard + 1.0
                    self._node.failed(Fault.LEAVING, self._heard)
                    self._stream._busy.set()
                better = self._stream.heard(frame.results)
                if not self._worked and frame.results:
                    self._worked = True
                    self._node.succeeded()
                if better:
                    return Fault.REFUSED, None
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc(error)
            return fault_of(refusal), refusal
