"""Following many conversations over one stream that resumes anywhere."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import grpc

from .errors import Error
from .options import CLIENT, FOLLOW_BYTES_MAX, FOLLOW_NAMES_MAX
from .reconnect import Reconnect
from .v1 import messages_pb2 as v1

if TYPE_CHECKING:
    from .client import Client
    from .nodes import Node


@dataclasses.dataclass(frozen=True)
class Trimmed:
    """Messages of `parent` before `min_seq` have expired before they came."""

    parent: str
    min_seq: int


@dataclasses.dataclass(frozen=True)
class Followed:
    """What happened in one of the conversations that are followed: one of these is set."""

    #: A v1.Message, once, in the order of its conversation's seqs.
    message: Any = None
    #: A message that came before was edited, erased, reacted to, or has expired; this is how it is now. After a break
    #: a change may come twice.
    changed: Any = None
    #: A conversation's attributes or rules were set, a v1.Conversation.
    settings: Any = None
    #: This conversation was deleted; its next life comes from seq 1.
    deleted: str | None = None
    #: Messages that have expired before they came.
    trimmed: Trimmed | None = None
    #: Everything that was asked for and is there has come.
    caught_up: bool = False


@dataclasses.dataclass
class Room:
    """A conversation that is followed."""

    #: Where it was to begin; 0 = as the cursor says.
    start: int
    #: The next message; 0 while none came.
    next: int = 0
    #: Something of it came: the cursors that come from then on are behind its beginning.
    came: bool = False
    #: There is a cursor that says where it is.
    covered: bool = False


class Follow:
    """Many conversations being followed. Nothing happens until it is asked for the next event."""

    def __init__(self, client: Client, cursor: str) -> None:
        #: Resumes behind all that was given, on any node, in any process: Client.follow with it, and add of the same
        #: conversations. Empty until all has come that there was.
        self.cursor = cursor
        #: The same of all that came; some of it may not have been given yet.
        self._reached = cursor
        self._rooms: dict[str, Room] = {}
        #: What came, each with the cursor behind it, if there is one.
        self._ready: deque[tuple[Followed, str]] = deque()
        self._stream = Reconnect(client)
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        #: More was added while this stream ran: when it says that it has caught up, that may be without it.
        self._added = False

    def add(self, parents: Iterable[str]) -> None:
        """Follows these conversations too, tenants/{t}/conversations/{c}: behind the cursor, or what is new of them
        where that says nothing."""
        self.add_from((parent, 0) for parent in parents)

    def add_from(self, parents: Iterable[tuple[str, int]]) -> None:
        """The same, each from this seq on; 0 as add."""
        added = []
        for parent, start in parents:
            # A cursor that was given is one of the same conversations.
            covered = self._stream.call is None and bool(self._reached)
            self._rooms[parent] = Room(start, covered=covered)
            added.append(v1.FollowAdd(parent=parent, start_seq=start))
        # A stream that begins sends all that there are.
        if self._stream.call is not None and added:
            self._added = True
            self._send(_adding(added))

    def remove(self, parents: Iterable[str]) -> None:
        """Follows these no more. What is on its way of them may still come."""
        parents = list(parents)
        for parent in parents:
            self._rooms.pop(parent, None)
        if self._stream.call is not None:
            self._send([v1.FollowRequest(remove=chunk) for chunk in _chunks(parents, len)])

    def __len__(self) -> int:
        """Conversations that are followed."""
        return len(self._rooms)

    def __bool__(self) -> bool:
        return True

    def __aiter__(self) -> Follow:
        return self

    async def __anext__(self) -> Followed:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self) -> Followed | None:
        """The next event; None once it was closed or has raised an error. May be cancelled and called again without
        losing one. Raises Refused when something that was added is refused for good, Deadline when no node was ever
        reached."""
        while not self._stream.over:
            if self._ready:
                event, cursor = self._ready.popleft()
                self.cursor = cursor or self.cursor
                return event
            try:
                if self._stream.call is None:
                    await self._connect()
                    continue
                answer = await self._stream.read()
                if answer is not None:
                    await self._take(answer)
            except Error:
                self.close()
                raise
        return None

    def close(self) -> None:
        """Stops following."""
        self._stream.close()
        if self._writer is not None:
            self._writer.cancel()

    async def _take(self, answer: Any) -> None:
        events = [event for event in map(self._event, answer.events) if event is not None]
        if answer.caught_up:
            events.append(Followed(caught_up=True))
        if answer.cursor:
            self._reached = answer.cursor
            whole = answer.caught_up and not self._added
            for room in self._rooms.values():
                # Everything that came is behind it.
                if whole or room.came:
                    room.start = 0
                    room.covered = True
        for at, event in enumerate(events, 1):
            self._ready.append((event, answer.cursor if at == len(events) else ""))
        if not self._ready:
            self.cursor = self._reached
        if answer.HasField("reconnect"):
            await self._stream.sent_away(answer.reconnect.after_ms)

    def _event(self, wire: Any) -> Followed | None:
        """What an event is to the caller; None where it came before, or is of a conversation that was removed."""
        kind = wire.WhichOneof("event")
        if kind == "message":
            message = wire.message
            room = self._room(message.name.partition("/messages/")[0])
            if room is None or message.seq < room.next:
                return None
            room.next = message.seq + 1
            if room.start or not room.covered:
                room.start = room.next
            return Followed(message=message)
        if kind == "changed":
            return Followed(changed=wire.changed) if self._room(wire.changed.name.partition("/messages/")[0]) else None
        if kind == "settings":
            return Followed(settings=wire.settings) if self._room(wire.settings.name) else None
        if kind == "deleted":
            room = self._room(wire.deleted)
            if room is None:
                return None
            # Its next life is behind the cursor, where there is one that knows of it.
            start = 1 if room.start or not room.covered else 0
            self._rooms[wire.deleted] = Room(start, came=True, covered=room.covered)
            return Followed(deleted=wire.deleted)
        if kind == "trimmed":
            known = self._room(wire.trimmed.parent)
            return None if known is None else Followed(trimmed=Trimmed(wire.trimmed.parent, wire.trimmed.min_seq))
        # A later version's.
        return None

    def _room(self, parent: str) -> Room | None:
        room = self._rooms.get(parent)
        if room is not None:
            room.came = True
        return room

    async def _connect(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None

        def open(node: Node) -> Any:
            return node.stub("messages").Follow(metadata=(CLIENT,))

        if not await self._stream.connect(open):
            return
        for room in self._rooms.values():
            room.came = False
        self._added = False
        first, *more = _adding([v1.FollowAdd(parent=name, start_seq=room.start) for name, room in self._rooms.items()])
        first.cursor = self._reached
        self._requests = asyncio.Queue()
        self._send([first, *more])
        self._writer = asyncio.get_running_loop().create_task(_write(self._stream.call, self._requests))

    def _send(self, requests: Iterable[Any]) -> None:
        for request in requests:
            self._requests.put_nowait(request)


async def _write(call: Any, requests: asyncio.Queue[Any]) -> None:
    """Sends what is asked for, until the stream ends: whoever reads hears why it did."""
    try:
        while True:
            await call.write(await requests.get())
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return


def _chunks(all: list[Any], size: Any) -> list[list[Any]]:
    """In parts that a request takes."""
    parts: list[list[Any]] = [[]]
    room = FOLLOW_BYTES_MAX
    for one in all:
        # Its tag and its length are beside it.
        needs = size(one) + 8
        if len(parts[-1]) >= FOLLOW_NAMES_MAX or needs > room:
            parts.append([])
            room = FOLLOW_BYTES_MAX
        parts[-1].append(one)
        room -= needs
    return parts


def _adding(all: list[Any]) -> list[Any]:
    """The requests that add conversations; one at least."""
    requests = [v1.FollowRequest(add=chunk, more=True) for chunk in _chunks(all, lambda one: one.ByteSize())]
    requests[-1].more = False
    return requests
