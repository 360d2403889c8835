"""Sessions: whoever writes and reads through one reads what it has written, and never less than it has read, through
any node and in any data center."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import blake3
import xxhash

from .errors import Config
from .message import Appended, Conditions, Message
from .options import SESSION_SLOTS_MAX
from .read import Level, ListOptions, Page

if TYPE_CHECKING:
    from .client import Client

_VERSION, _HEAD, _ENTRY, _CHECK = 1, 3, 10, 4


class Token:
    """What a session has seen: a revision for each of at most 128 slots.

    base64url( version 1 | rest 1 | count 1 | count × ( slot 2 | revision 8 ) | check 4 ), big-endian, slots ascending.
    `rest` is 1 when more was seen than is named: of the slots it does not name, everything must be shown.
    """

    def __init__(self, seen: dict[int, int] | None = None, rest: bool = False) -> None:
        self.seen, self.rest = seen or {}, rest

    @classmethod
    def of_conversation(cls, name: str, revision: int) -> Token:
        """Of a session that was told `revision` of a conversation."""
        parts = name.split("/")
        if len(parts) != 4 or parts[0] != "tenants" or parts[2] != "conversations":
            raise Config(f"{name!r} is not of the form tenants/{{tenant}}/conversations/{{conversation}}")
        key = blake3.blake3(parts[1].encode() + b"\0" + parts[3].encode()).digest()
        return cls({int.from_bytes(key[:2], "big"): revision})

    def merge(self, other: Token) -> None:
        """Takes in what another token has seen."""
        both = dict(self.seen)
        for slot, revision in other.seen.items():
            both[slot] = max(revision, both.get(slot, 0))
        # A slot that only one of them names may be among the rest of the other: it must stay there.
        for token in (self, other):
            if token.rest:
                both = {slot: revision for slot, revision in both.items() if slot in token.seen}
        self.rest = self.rest or other.rest or len(both) > SESSION_SLOTS_MAX
        self.seen = dict(sorted(both.items())[:SESSION_SLOTS_MAX])

    def encode(self) -> str:
        """As text; empty when it has seen nothing."""
        if not self.seen and not self.rest:
            return ""
        data = bytes([_VERSION, self.rest, len(self.seen)])
        for slot, revision in sorted(self.seen.items()):
            data += slot.to_bytes(2, "big") + revision.to_bytes(8, "big")
        return base64.urlsafe_b64encode(data + _check(data)).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Token:
        """Reads a token; the empty text is that of a session that has seen nothing."""
        if not text:
            return cls()
        malformed = Config("the session token is not one this cluster gave")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise malformed from None
        data, check = raw[:-_CHECK], raw[-_CHECK:]
        if len(data) < _HEAD or _check(data) != check:
            raise malformed
        if data[0] != _VERSION:
            raise Config("the session token was given by a later version")
        entries = [data[at : at + _ENTRY] for at in range(_HEAD, len(data), _ENTRY)]
        if data[1] > 1 or data[2] > SESSION_SLOTS_MAX or len(data) != _HEAD + data[2] * _ENTRY:
            raise malformed
        seen = {int.from_bytes(one[:2], "big"): int.from_bytes(one[2:], "big") for one in entries}
        if len(seen) != data[2]:
            raise malformed
        return cls(seen, data[1] == 1)


def _check(data: bytes) -> bytes:
    low = xxhash.xxh3_128_intdigest(data) & 0xFFFF_FFFF
    return low.to_bytes(_CHECK, "little")


class Session:
    """Calls that keep what they have seen. What another device of the same person has seen is handed on as a token, a
    short text: token() there, saw() here."""

    def __init__(self, client: Client) -> None:
        self._client, self._seen = client, Token()

    def token(self) -> str:
        """What was seen so far: for this session elsewhere, through any client."""
        return self._seen.encode()

    def saw(self, token: str) -> None:
        """Takes in what another session has seen, or any answer that carried a token."""
        self._seen.merge(Token.decode(token))

    def wrote(self, parent: str, appended: Appended) -> None:
        """Takes in an acknowledgement that came another way, of a stream, say."""
        self._seen.merge(Token.of_conversation(parent, appended.revision))

    async def append(
        self,
        parent: str,
        message: Message,
        *,
        expected_last_seq: int | None = None,
        key: str = "",
        expected_last_seq_of_key: int | None = None,
        fence_token: str = "",
    ) -> Appended:
        """Client.append; reads of this session see it from then on."""
        conditions = Conditions(expected_last_seq, key, expected_last_seq_of_key, fence_token or message.fence_token)
        appended, token = await self._client.append_seen(parent, message, conditions)
        self._answered(token)
        return appended

    async def append_batch(
        self,
        parent: str,
        batch: Sequence[Message],
        *,
        expected_last_seq: int | None = None,
        key: str = "",
        expected_last_seq_of_key: int | None = None,
        fence_token: str = "",
    ) -> Sequence[Appended]:
        """Client.append_batch; reads of this session see it from then on."""
        conditions = Conditions(expected_last_seq, key, expected_last_seq_of_key, fence_token)
        appended, token = await self._client.append_batch_seen(parent, batch, conditions)
        self._answered(token)
        return appended

    async def list(self, parent: str, options: ListOptions = ListOptions()) -> Page:
        """Client.list at the level SESSION, whatever `options` say of it."""
        page = await self._client.list(parent, dataclasses.replace(options, level=Level.session(self.token())))
        self._answered(page.session_token)
        return page

    async def get_conversation(self, name: str) -> Any:
        """Client.get_conversation at the level SESSION."""
        conversation = await self._client.get_conversation(name, Level.session(self.token()))
        self._answered(conversation.info.session_token)
        return conversation

    def _answered(self, token: str) -> None:
        try:
            self.saw(token)
        except Config:
            # A node of a later version may write what this one cannot read; it has kept to what it was given.
            pass
