"""Following a conversation: every message once and in order, over any number of broken streams."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import Error, Fault, Gap
from .options import CLIENT, TAIL_GAPS_MAX
from .read import LINEARIZABLE
from .reconnect import Reconnect
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
        self._stream = Reconnect(client)
        self._gaps = 0
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
        while not self._stream.over:
            try:
                if self._stream.call is None:
                    await self._connect()
                    continue
                response = await self._stream.read()
                event = None if response is None else await self._take(response)
            except Error:
                self.close()
                raise
            if event is not None:
                return event
        return None

    def close(self) -> None:
        """Stops following."""
        self._stream.close()

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
        self.cursor = response.cursor or self.cursor
        if kind == "reconnect":
            await self._stream.sent_away(response.reconnect.after_ms)
        return event

    def _gap(self, expected: int, found: int) -> None:
        self._gaps += 1
        if self._gaps > TAIL_GAPS_MAX:
            raise Gap(expected, found)
        # The cursor may be what is wrong: go on by number.
        self.cursor = ""
        self._stream.leave(Fault.NONE)

    async def _connect(self) -> None:
        self._stream.begin()
        if self._new and self.next_seq is None and not self.cursor:
            # "New" is fixed once, so that nothing is missed when the first stream breaks.
            conversation = await self._client.get_conversation(self._parent, LINEARIZABLE)
            self.next_seq = conversation.last_seq + 1
        request = v1.TailRequest(parent=self._parent, cursor=self.cursor, start_seq=self.next_seq or 0)
        await self._stream.connect(lambda node: node.stub("messages").Tail(request, metadata=(CLIENT,)))
