"""Following a conversation: every message once and in order, over any number of broken streams."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import grpc

from .errors import Deadline, Error, Fault, Gap, Refusal, Refused, fault_of, from_rpc, retryable, silent
from .nodes import Node, Tried
from .options import CLIENT, TAIL_BACKOFF_MAX, TAIL_GAPS_MAX
from .read import LINEARIZABLE
from .retry import Backoff
from .v1 import messages_pb2 as v1

if TYPE_CHECKING:
    from .client import Client


@dataclasses.dataclass(frozen=True)
class From:
    """Where a tail begins: From.NEW, From.seq(1) or From.cursor(text)."""

    next_seq: int | None = None
    after: str = ""
    #: With what is appended from now on.
    NEW: ClassVar[From]

    @staticmethod
    def seq(seq: int) -> From:
        """With this seq; 1 is the first."""
        return From(next_seq=max(seq, 1))

    @staticmethod
    def cursor(cursor: str) -> From:
        """After the event that this cursor came with."""
        return From(after=cursor)


From.NEW = From()


@dataclasses.dataclass(frozen=True)
class Event:
    """What a tail gives: one of these is set."""

    #: The next message, a v1.Message.
    message: Any = None
    #: A message that came before was edited, erased or reacted to; this is how it is now. After a break a change may
    #: come twice.
    changed: Any = None
    #: Everything up to this seq has been given; what follows is new.
    caught_up: int | None = None


class Tail:
    """A conversation being followed. Nothing happens until it is asked for the next event."""

    def __init__(self, client: Client, parent: str, from_: From) -> None:
        self._client, self._parent = client, parent
        self._new = from_.next_seq is None and not from_.after
        #: Resumes after the last event given, on any node, in any process; empty before the first.
        self.cursor = from_.after
        #: The seq of the next message; None while it is not known.
        self.next_seq = from_.next_seq
        self._node: Node | None = None
        self._call: Any = None
        #: The read that is under way: whoever waits for it may be cancelled, and it goes on.
        self._reading: asyncio.Task[Any] | None = None
        self._tried, self._backoff = Tried(), Backoff()
        self._lost_at: float | None = None
        self._connected_before, self._gaps, self._over = False, 0, False
        self._caught_up: int | None = None

    def __aiter__(self) -> Tail:
        return self

    async def __anext__(self) -> Event:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self) -> Event | None:
        """The next event; None once the tail was closed or has raised an error. May be cancelled and called again
        without losing one."""
        while not self._over:
            try:
                if self._call is None:
                    await self._connect()
                    continue
                event = await self._step()
            except Error:
                self.close()
                raise
            if event is not None:
                return event
        return None

    def close(self) -> None:
        """Stops following."""
        self._over = True
        self._drop()

    async def _step(self) -> Event | None:
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._call.read())
        reading = self._reading
        await asyncio.wait([reading])
        if self._over:
            return None
        self._reading = None
        try:
            response = reading.result()
            if response is grpc.aio.EOF:
                # Raises what the stream ended with, if that was an error.
                if await self._call.code() != grpc.StatusCode.OK:
                    raise await _error_of(self._call)
                self._leave(Fault.REFUSED)
                return None
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc(error)
            if not retryable(refusal):
                raise Refused(refusal) from None
            self._leave(fault_of(refusal))
            return None
        if self._node is not None:
            self._node.succeeded()
        return await self._take(response)

    async def _take(self, response: Any) -> Event | None:
        kind, event = response.WhichOneof("event"), None
        if kind == "message":
            message = response.message
            if self.next_seq is not None and message.seq < self.next_seq:
                return None
            if self.next_seq is not None and message.seq > self.next_seq:
                self._gap(self.next_seq, message.seq)
                return None
            self._gaps, self.next_seq = 0, message.seq + 1
            event = Event(message=message)
        elif kind == "changed":
            event = Event(changed=response.changed)
        elif kind == "caught_up":
            last = response.caught_up.last_seq
            # A node that lags behind what this tail has seen has nothing to say about it.
            if self.next_seq is not None and last + 1 < self.next_seq:
                return None
            if self.next_seq is not None and last >= self.next_seq:
                self._gap(self.next_seq, last)
                return None
            self.next_seq = last + 1
            # Each new stream says it again; the caller hears it when it is news.
            event = Event(caught_up=last) if self._caught_up != last else None
            self._caught_up = last
        elif kind == "reconnect":
            after = response.reconnect.after_ms / 1000
            self._leave(Fault.LEAVING)
            self.cursor = response.cursor or self.cursor
            await asyncio.sleep(min(after, TAIL_BACKOFF_MAX))
            return None
        self.cursor = response.cursor or self.cursor
        return event

    def _gap(self, expected: int, found: int) -> None:
        self._gaps += 1
        if self._gaps > TAIL_GAPS_MAX:
            raise Gap(expected, found)
        # The cursor may be what is wrong: go on by number.
        self.cursor = ""
        self._leave(Fault.NONE)

    async def _connect(self) -> None:
        pool = self._client.pool
        if self._lost_at is None:
            self._lost_at = pool.clock()
        if self._new and self.next_seq is None and not self.cursor:
            # "New" is fixed once, so that nothing is missed when the first stream breaks.
            conversation = await self._client.get_conversation(self._parent, LINEARIZABLE)
            self.next_seq = conversation.last_seq + 1
        node = pool.choose(self._tried)
        request = v1.TailRequest(parent=self._parent, cursor=self.cursor, start_seq=self.next_seq or 0)
        refusal: Refusal
        try:
            call = node.stub("messages").Tail(request, metadata=(CLIENT,))
            try:
                await asyncio.wait_for(call.initial_metadata(), self._client.attempt_timeout)
            except asyncio.TimeoutError:
                call.cancel()
                refusal = silent(self._client.attempt_timeout)
            except asyncio.CancelledError:
                call.cancel()
                raise
            else:
                # A call that is refused ends with no more than metadata.
                if not call.done() or await call.code() == grpc.StatusCode.OK:
                    self._client.counters.failovers += self._connected_before
                    self._connected_before, self._call, self._node = True, call, node
                    node.active += 1
                    return
                refusal = from_rpc(await _error_of(call))
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc(error)
        fault = fault_of(refusal)
        node.failed(fault, pool.clock())
        self._tried.ended(node, fault)
        if not retryable(refusal):
            raise Refused(refusal)
        if not self._connected_before and pool.clock() - self._lost_at >= self._client.deadline:
            raise Deadline(False, len(self._tried.addresses), refusal)
        asked = min(refusal.retry_after or 0.0, TAIL_BACKOFF_MAX)
        await asyncio.sleep(max(self._backoff.next(self._client.random), asked))

    def _leave(self, fault: Fault) -> None:
        """Leaves the node; the next step goes to another."""
        if self._node is not None:
            self._node.failed(fault, self._client.pool.clock())
            self._tried.forget()
            self._tried.ended(self._node, fault)
        self._drop()
        self._lost_at = None
        self._backoff.reset()

    def _drop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            # What it ended with is of no interest any more.
            self._reading.add_done_callback(lambda one: one.cancelled() or one.exception())
            self._reading = None
        if self._call is not None:
            self._call.cancel()
        if self._node is not None:
            self._node.active -= 1
        self._call = self._node = None


async def _error_of(call: Any) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), details=await call.details()
    )
