"""Tenants: what is to be set of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .v1 import tenants_pb2 as v1

_QUOTAS = (
    "messages_per_second",
    "bytes_per_second",
    "conversations",
    "user_messages_per_second",
    "conversation_messages_per_second",
)


@dataclasses.dataclass(frozen=True)
class Tenant:
    """What is to be set of a tenant; what is None stays, or is as a new tenant has it."""

    #: What people call it, at most 256 bytes.
    display_name: str | None = None
    #: Messages a second of all its users; 0 = as many as they like, as with all of these.
    messages_per_second: int | None = None
    #: Bytes of messages a second.
    bytes_per_second: int | None = None
    #: Conversations at a time.
    conversations: int | None = None
    #: Messages a second of each sender.
    user_messages_per_second: int | None = None
    #: Messages a second in each conversation.
    conversation_messages_per_second: int | None = None
    #: Messages without a time to live of their own, or of their conversation, expire so many seconds after their
    #: append: 1 s to 100 years; 0 = they do not.
    ttl: float | None = None
    #: The oldest version that is served of each kind of client, such as {"python": "0.2.0"}, in place of all there are.
    min_client_versions: Mapping[str, str] | None = None
    #: Where newer clients are, at most 256 bytes.
    upgrade_url: str | None = None
    #: Only if the tenant's revision is still this one; else REVISION_MISMATCH. Of changes only.
    expected_revision: int | None = None
    #: 1 to 128 bytes, so that a program that starts again can send it again. Left empty, the client draws one.
    request_id: str = ""

    def id(self, request_id: str) -> Tenant:
        """The same, under this request id."""
        return dataclasses.replace(self, request_id=request_id)

    def to_wire(self, name: str = "") -> tuple[Any, list[str]]:
        """As it goes over the wire, and the paths of what is set."""
        wire, paths = v1.Tenant(name=name), []
        for field in ("display_name", "upgrade_url"):
            value = getattr(self, field)
            if value is not None:
                setattr(wire, field, value)
                paths.append(field)
        for field in _QUOTAS:
            value = getattr(self, field)
            if value is not None:
                setattr(wire.quotas, field, value)
                paths.append(f"quotas.{field}")
        if self.ttl is not None:
            wire.ttl.FromMilliseconds(round(self.ttl * 1e3))
            paths.append("ttl")
        if self.min_client_versions is not None:
            wire.min_client_versions.update(self.min_client_versions)
            paths.append("min_client_versions")
        return wire, paths
