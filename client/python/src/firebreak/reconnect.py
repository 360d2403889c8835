"""A stream that is followed at one node after another: which is next, how long to wait, and when to give up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from .errors import Deadline, Fault, Refusal, Refused, fault_of, from_rpc, retryable, silent
from .nodes import Node, Tried
from .options import TAIL_BACKOFF_MAX
from .retry import Backoff

if TYPE_CHECKING:
    from .client import Client


class Reconnect:
    """The node that such a stream is at, or its search for one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.node: Node | None = None
        self.call: Any = None
        #: The read that is under way: whoever waits for it may be cancelled, and it goes on.
        self._reading: asyncio.Task[Any] | None = None
        self._tried, self._backoff = Tried(), Backoff()
        #: When it was lost last; None while it is live.
        self._lost_at: float | None = None
        self._connected_before = False
        self.over = False

    def begin(self) -> None:
        """The search begins, unless it has."""
        if self._lost_at is None:
            self._lost_at = self._client.pool.clock()

    async def connect(self, open: Callable[[Node], Any]) -> bool:
        """One attempt at the best node; whether that has taken the stream. Where not, this waits for the next.
        Raises Refused when none would take it, Deadline when no node was ever reached in time."""
        self.begin()
        pool = self._client.pool
        node = pool.choose(self._tried)
        refusal: Refusal
        try:
            call = open(node)
            try:
                await asyncio.wait_for(call.initial_metadata(), self._client.attempt_timeout)
            except asyncio.TimeoutError:
                call.cancel()
                refusal = silent(self._client.attempt_timeout)
            except asyncio.CancelledError:
                call.cancel()
                raise
            else:
                if self.over:
                    call.cancel()
                    return False
                # A call that is refused ends with no more than metadata.
                if not call.done() or await call.code() == grpc.StatusCode.OK:
                    self._client.counters.failovers += self._connected_before
                    self._connected_before, self.call, self.node = True, call, node
                    node.active += 1
                    return True
                refusal = from_rpc(await _error_of(call))
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc(error)
        fault = fault_of(refusal)
        node.failed(fault, pool.clock())
        self._tried.ended(node, fault)
        if not retryable(refusal):
            raise Refused(refusal)
        lost_at = pool.clock() if self._lost_at is None else self._lost_at
        if not self._connected_before and pool.clock() - lost_at >= self._client.deadline:
            raise Deadline(False, len(self._tried.addresses), refusal)
        asked = min(refusal.retry_after or 0.0, TAIL_BACKOFF_MAX)
        await asyncio.sleep(max(self._backoff.next(self._client.random), asked))
        return False

    async def read(self) -> Any:
        """What comes next; None when the node was left, or it is over. Raises Refused when it is refused for good."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self.call.read())
        reading = self._reading
        await asyncio.wait([reading])
        if self.over:
            return None
        self._reading = None
        try:
            response = reading.result()
            if response is grpc.aio.EOF:
                # Raises what the stream ended with, if that was an error.
                if await self.call.code() != grpc.StatusCode.OK:
                    raise await _error_of(self.call)
                self.leave(Fault.REFUSED)
                return None
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc(error)
            if not retryable(refusal):
                raise Refused(refusal) from None
            self.leave(fault_of(refusal))
            return None
        if self.node is not None:
            self.node.succeeded()
        return response

    async def sent_away(self, after_ms: int) -> None:
        """The node asks to go on elsewhere, after so long."""
        self.leave(Fault.LEAVING)
        await asyncio.sleep(min(after_ms / 1000, TAIL_BACKOFF_MAX))

    def leave(self, fault: Fault) -> None:
        """Leaves the node; the next attempt goes to another."""
        if self.node is not None:
            self.node.failed(fault, self._client.pool.clock())
            self._tried.forget()
            self._tried.ended(self.node, fault)
        self.drop()
        self._lost_at = None
        self._backoff.reset()

    def close(self) -> None:
        """Ends it: whoever waits hears that it is over."""
        self.over = True
        self.drop()

    def drop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            # What it ended with is of no interest any more.
            self._reading.add_done_callback(lambda one: one.cancelled() or one.exception())
            self._reading = None
        if self.call is not None:
            self.call.cancel()
        if self.node is not None:
            self.node.active -= 1
        self.call = self.node = None


async def _error_of(call: Any) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), details=await call.details()
    )
