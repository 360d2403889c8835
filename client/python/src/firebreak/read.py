"""What a read asks for, and what it gives."""

from __future__ import annotations

import dataclasses
from typing import Any

from .v1 import messages_pb2 as v1


@dataclasses.dataclass(frozen=True)
class Level:
    """How fresh a read must be: LINEARIZABLE, LOCAL, session(token) or bounded(seconds)."""

    name: str
    #: Of session().
    token: str = ""
    #: Of bounded(), seconds.
    max_staleness: float = 0.0

    @staticmethod
    def session(token: str) -> Level:
        """At least what this token has seen; Session keeps it."""
        return Level("SESSION", token=token)

    @staticmethod
    def bounded(max_staleness: float) -> Level:
        """Not older than so many seconds."""
        return Level("BOUNDED", max_staleness=max_staleness)

    def to_wire(self) -> Any:
        options = v1.ReadOptions(level=self.name, session_token=self.token)
        if self.name == "BOUNDED":
            options.max_staleness.FromNanoseconds(round(self.max_staleness * 1e9))
        return options


#: Everything acknowledged before the read began.
LINEARIZABLE = Level("LINEARIZABLE")
#: Whatever the nearest replica has; its age is labelled.
LOCAL = Level("LOCAL")


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """What a list asks for."""

    #: Messages of one page; 0 = 50, at most 1,000.
    page_size: int = 0
    #: Where the page before ended.
    page_token: str = ""
    #: Newest first.
    descending: bool = False
    #: Where to begin; 0 = the first, or when descending the last.
    start_seq: int = 0
    #: Instead: at the first message of this create time or later, descending at the last of it or earlier; Unix
    #: milliseconds.
    start_time_ms: int | None = None
    #: Instead: at the first unread message, behind this seq.
    unread_after: int | None = None
    #: Messages before that, in the list's order, that the first page holds too; at most 1,000.
    context_before: int = 0
    #: How fresh.
    level: Level = LINEARIZABLE
    #: A user, whose own reactions are marked; empty for nobody.
    reader: str = ""


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a conversation."""

    #: v1.Message, in the order asked for.
    messages: list[Any]
    #: Where the next page begins; empty at the end.
    next_page_token: str
    #: Older ones have expired.
    min_seq: int
    #: The conversation's last seq.
    last_seq: int
    #: Node and data center that answered.
    served_by: str
    #: How old this may be at most, seconds; None when unknown.
    staleness: float | None
    #: For reads at Level.session that must see at least this.
    session_token: str
    #: Where the page before this one begins; empty at the beginning.
    prev_page_token: str = ""
    #: On the first page: where the list begins, without its context; 0 where it begins at an end.
    anchor_seq: int = 0

    @classmethod
    def of(cls, response: Any) -> Page:
        info = response.info
        age = info.staleness.ToNanoseconds() / 1e9 if info.HasField("staleness") else None
        return cls(
            list(response.messages),
            response.next_page_token,
            response.min_seq,
            response.last_seq,
            info.served_by,
            age,
            info.session_token,
            response.prev_page_token,
            response.anchor_seq,
        )
