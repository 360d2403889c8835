"""What is appended, and what comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .v1 import messages_pb2 as v1


@dataclasses.dataclass(frozen=True)
class Message:
    """A message to append."""

    #: Who sends it: 1 to 256 bytes.
    sender: str
    #: Opaque content: at most 64 KiB.
    body: bytes = b""
    #: "text", "image", …: opaque to the store. A message needs a kind or a body.
    kind: str = ""
    #: Makes retries safe. Left empty, the client draws one; give your own where your program may itself start again.
    client_message_id: str = ""
    #: At most 16, 4 KiB together.
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: The seq it replies to, 0 for none.
    reply_to_seq: int = 0
    #: Not counted as unread.
    silent: bool = False
    #: When it was first said, Unix milliseconds, for imports.
    original_time_ms: int | None = None
    #: It expires so many seconds after its append, 1 s to 100 years; None = as the conversation says.
    ttl: float | None = None
    #: The conversation's fence token, where it has one; of a batch the call's own counts.
    fence_token: str = ""

    @classmethod
    def text(cls, sender: str, text: str) -> Message:
        """A message of kind "text"."""
        return cls(sender, text.encode(), "text")

    def id(self, client_message_id: str) -> Message:
        """The same, with this client message id."""
        return dataclasses.replace(self, client_message_id=client_message_id)

    def to_wire(self, drawn: str) -> Any:
        """As it goes over the wire, with the id that was `drawn` where it has none."""
        wire = v1.Message(
            sender=self.sender,
            client_message_id=self.client_message_id or drawn,
            type=self.kind,
            body=self.body,
            attributes=dict(self.attributes),
            reply_to_seq=self.reply_to_seq,
            silent=self.silent,
        )
        if self.original_time_ms is not None:
            wire.original_time.FromMilliseconds(self.original_time_ms)
        if self.ttl is not None:
            wire.ttl.FromMilliseconds(round(self.ttl * 1e3))
        return wire


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What an append asks of its conversation."""

    expected_last_seq: int | None = None
    key: str = ""
    expected_last_seq_of_key: int | None = None
    fence_token: str = ""

    def to_wire(self) -> Any:
        return None if self == Conditions() else v1.Precondition(**dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Appended:
    """The acknowledgement of one message: it is durable on a quorum."""

    #: Its number in the conversation, from 1.
    seq: int
    #: The shard's revision at its append.
    revision: int
    #: When the leader took it, Unix milliseconds; never decreases in a conversation.
    create_time_ms: int
    #: An earlier attempt (of this client or another) had appended it; the numbers are its.
    deduplicated: bool
    #: From the call to the acknowledgement, seconds, all attempts and waiting included.
    latency: float
    #: How often it was sent.
    attempts: int


@dataclasses.dataclass(frozen=True)
class Edit:
    """What a message is to say from now on; what is None stays."""

    body: bytes | None = None
    attributes: Mapping[str, str] | None = None
    #: Only if the message's revision is still this one; else REVISION_MISMATCH.
    expected_revision: int | None = None
    #: Makes a retry by the caller safe. Left empty, the client draws one.
    request_id: str = ""

    @classmethod
    def text(cls, text: str) -> Edit:
        """Another text."""
        return cls(body=text.encode())

    def id(self, request_id: str) -> Edit:
        """The same, under this request id."""
        return dataclasses.replace(self, request_id=request_id)


@dataclasses.dataclass(frozen=True)
class Changed:
    """The acknowledgement of a change: it is durable on a quorum."""

    #: The message's number.
    seq: int
    #: Its revision after the change.
    revision: int
    #: When it was appended, Unix milliseconds.
    create_time_ms: int
    #: Of a reaction: users who have set this kind.
    count: int
    #: An earlier attempt (of this client or another) had done it; the numbers are its.
    deduplicated: bool
    #: For reads at Level.session that must see the change.
    session_token: str
