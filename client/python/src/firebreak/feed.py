"""Following what is changed in a tenant."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .options import FEED_POLL, FEED_STALENESS, PAGE_SIZE_MAX
from .read import Level
from .v1 import changes_pb2 as v1

if TYPE_CHECKING:
    from .client import Client


class Changes:
    """The changes of a tenant, from a cursor on.

    Keep `cursor` when what came was dealt with, and begin there again after a restart: then nothing is missing, and
    what was on its way may come again, under the same id.
    """

    def __init__(self, client: Client, tenant: str, cursor: str) -> None:
        self._client, self._tenant = client, tenant
        #: Where to go on behind what came last.
        self.cursor = cursor
        #: Whether there was nothing else when the last ones were read.
        self.caught_up = False

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> list[Any]:
        return await self.next()

    async def poll(self, level: Level = Level.bounded(FEED_STALENESS)) -> list[Any]:
        """What comes next, each a v1.Change; empty when there is nothing now. Goes from node to node as every call
        does; after an error the same can be asked for again. A cursor of another cluster is refused (SESSION_AHEAD)."""
        request = v1.ReadChangesRequest(
            parent=f"tenants/{self._tenant}", cursor=self.cursor, page_size=PAGE_SIZE_MAX, read=level.to_wire()
        )
        answer = (await self._client.call("changes.ReadChanges", request)).value
        self.cursor, self.caught_up = answer.cursor, answer.caught_up
        return list(answer.changes)

    async def next(self) -> list[Any]:
        """What comes next; waits for it."""
        while True:
            changes = await self.poll()
            if changes:
                return changes
            if self.caught_up:
                await asyncio.sleep(FEED_POLL)
