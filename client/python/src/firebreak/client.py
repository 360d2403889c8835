"""A client of one cluster: calls that go from node to node, under one id, until one answers."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from . import options
from .dialer import Dialer, Pem
from .errors import Closed, Config, Deadline, Fault, Refusal, Refused
from .errors import fault_of, from_rpc, never_sent, retryable, settles, silent
from .feed import Changes
from .follow import Follow
from .message import Appended, Changed, Conditions, Edit, Message
from .nodes import Node, NodeHealth, Nodes, Tried
from .read import LINEARIZABLE, Level, ListOptions, Page
from .retry import Backoff, Budget, Random
from .session import Session
from .stream import AppendStream
from .tail import From, Tail
from .tenants import Tenant
from .v1 import messages_pb2 as v1
from .v1 import tenants_pb2


@dataclasses.dataclass
class Stats:
    """What a client has counted since it was made."""

    #: Unary calls begun.
    calls: int = 0
    #: Messages acknowledged, unary and streamed.
    acked: int = 0
    #: Of these, how many had been appended by an earlier attempt.
    deduplicated: int = 0
    #: Attempts after the first: of unary calls, and messages sent again on streams.
    retries: int = 0
    #: Moves of a call, stream or tail from one node to another.
    failovers: int = 0
    #: Calls and streamed messages that ended with an error.
    failed: int = 0


class Client:
    """A client of one cluster. Make it inside a running event loop, and end it with `async with` or close().

    `endpoints`: nodes to begin with, as host:port; name one of each data center.
    `deadline`: how long a call may take, seconds, all attempts together.
    `attempt_timeout`: how long a node may be silent before another is asked, seconds.
    `discover`: whether to use nodes that the endpoints tell of; False keeps to the endpoints.
    `imports`: whether the appends belong to an import: ids that begin with "import:" are remembered for ever.
    `class_`: how long all its calls can wait where a node has too much to do: "sync", "history" or "export".
    `ca`: the authority whose nodes are trusted, PEM: a file's path, or its content as bytes. Connections have TLS then.
    `cert`, `cert_key`: the client's own certificate and its private key, in the same way.
    `api_key`: an API key or a token, for nodes that let in nobody without. Without TLS it can be read on its way.
    `seed`: of jitter and ids; two clients of one cluster must not share one. For tests.
    """

    def __init__(
        self,
        endpoints: Iterable[str],
        *,
        deadline: float = options.DEADLINE_DEFAULT,
        attempt_timeout: float = options.ATTEMPT_TIMEOUT_DEFAULT,
        discover: bool = True,
        imports: bool = False,
        class_: str = "",
        ca: Pem | None = None,
        cert: Pem | None = None,
        cert_key: Pem | None = None,
        api_key: str | None = None,
        seed: int | None = None,
    ) -> None:
        self.deadline, self.attempt_timeout = deadline, attempt_timeout
        self.random, self.budget, self.counters = Random(seed), Budget(), Stats()
        self.pool = Nodes(endpoints, self.random, discover, dialer=Dialer(api_key, ca, cert, cert_key))
        self.import_metadata = (options.CLIENT, (options.IMPORT, "1")) if imports else (options.CLIENT,)
        if class_ not in ("", "sync", "history", "export"):
            raise Config(f"{class_!r} is no class: sync, history or export is needed")
        self._class = ((options.CLASS, class_),) if class_ else ()
        self._streams: set[AppendStream] = set()
        self._maintenance = asyncio.get_running_loop().create_task(self.pool.maintain())

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends streams as AppendStream.close does, and closes all connections."""
        if self.pool.closed:
            return
        await asyncio.gather(*(stream.close() for stream in list(self._streams)))
        self.pool.closed = True
        self._maintenance.cancel()
        await asyncio.gather(self._maintenance, return_exceptions=True)
        await self.pool.close()

    def with_deadline(self, deadline: float) -> Client:
        """The same client, with the same connections and counts, whose calls may take `deadline` seconds."""
        other = copy.copy(self)
        other.deadline = deadline
        return other

    def stats(self) -> Stats:
        """What this client has counted."""
        return dataclasses.replace(self.counters)

    def nodes(self) -> Sequence[NodeHealth]:
        """The nodes that the client knows, by address, and how they are doing."""
        return self.pool.health()

    # Appending.

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
        """Appends one message to `parent`, tenants/{t}/conversations/{c}. However often it is sent on the way, it has
        one effect. `expected_last_seq`: refuse (SEQ_MISMATCH) unless this is the conversation's last seq. `key`: the
        message counts as the last of it; `expected_last_seq_of_key`: refuse (KEY_SEQ_MISMATCH) unless this is the last
        seq of `key`, 0 = there is none yet. `fence_token`: the conversation's, which all must give (FENCED) once it has
        one."""
        conditions = Conditions(expected_last_seq, key, expected_last_seq_of_key, fence_token or message.fence_token)
        return (await self.append_seen(parent, message, conditions))[0]

    async def append_seen(self, parent: str, message: Message, conditions: Conditions) -> tuple[Appended, str]:
        """append, with the session token of its answer."""
        request = v1.AppendMessageRequest(
            parent=parent, message=message.to_wire(self.random.id()), precondition=conditions.to_wire()
        )
        answer = await self.call("messages.AppendMessage", request, writes=True, metadata=self.import_metadata)
        response = answer.value
        self.count(1, response.deduplicated)
        return answer.appended(response.message, response.deduplicated), response.info.session_token

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
        """Appends up to 1,000 messages (1 MiB) to one conversation: all of them, next to each other and in order, or
        none. The rest as in append."""
        conditions = Conditions(expected_last_seq, key, expected_last_seq_of_key, fence_token)
        return (await self.append_batch_seen(parent, batch, conditions))[0]

    async def append_batch_seen(
        self, parent: str, batch: Sequence[Message], conditions: Conditions
    ) -> tuple[Sequence[Appended], str]:
        """append_batch, with the session token of its answer."""
        request = v1.BatchAppendMessagesRequest(
            parent=parent,
            messages=[message.to_wire(self.random.id()) for message in batch],
            precondition=conditions.to_wire(),
        )
        answer = await self.call("messages.BatchAppendMessages", request, writes=True, metadata=self.import_metadata)
        response = answer.value
        self.count(len(response.messages), response.deduplicated)
        all = [answer.appended(message, response.deduplicated) for message in response.messages]
        return all, response.info.session_token

    def append_stream(
        self, *, unanswered_max: int = options.UNANSWERED_DEFAULT, deadline: float | None = None
    ) -> AppendStream:
        """Opens a stream of appends; it connects with the first message."""
        if self.pool.closed:
            raise Closed
        stream = AppendStream(self, unanswered_max, self.deadline if deadline is None else deadline)
        self._streams.add(stream)
        stream.driver.add_done_callback(lambda _: self._streams.discard(stream))
        return stream

    # Reading.

    async def list(self, parent: str, options: ListOptions = ListOptions()) -> Page:
        """A page of `parent`'s messages."""
        request = v1.ListMessagesRequest(
            parent=parent,
            page_size=options.page_size,
            page_token=options.page_token,
            descending=options.descending,
            start_seq=options.start_seq,
            read=options.level.to_wire(),
        )
        if options.reader:
            request.reader = options.reader
        if options.start_time_ms is not None:
            request.start_time.FromMilliseconds(options.start_time_ms)
        if options.unread_after is not None:
            request.unread_after = options.unread_after
        request.context_before = options.context_before
        return Page.of((await self.call("messages.ListMessages", request)).value)

    async def pages(self, parent: str, options: ListOptions = ListOptions()) -> AsyncIterator[Page]:
        """All pages of `parent` from `options` on, one after another."""
        while True:
            page = await self.list(parent, options)
            yield page
            if not page.next_page_token:
                return
            options = dataclasses.replace(options, page_token=page.next_page_token)
            if options.level.name == "SESSION" and page.session_token:
                options = dataclasses.replace(options, level=Level.session(page.session_token))

    async def messages(self, parent: str, options: ListOptions = ListOptions()) -> AsyncIterator[Any]:
        """All messages of `parent` from `options` on, fetched page by page."""
        async for page in self.pages(parent, options):
            for message in page.messages:
                yield message

    async def get_message(self, parent: str, seq: int, level: Level = LINEARIZABLE, *, reader: str = "") -> Any:
        """Message `seq` of `parent` as it is now, a v1.Message."""
        request = v1.GetMessageRequest(name=_name(parent, seq), read=level.to_wire(), reader=reader)
        return (await self.call("messages.GetMessage", request)).value.message

    def tail(self, parent: str, from_: From = From.NEW) -> Tail:
        """Follows `parent`: `async for event in client.tail(...)`. Until the first node answers, the client's
        deadline holds; after that the tail reconnects for as long as it takes."""
        return Tail(self, parent, from_)

    def follow(self, cursor: str = "") -> Follow:
        """Follows what is then added: `async for event in follow`. `cursor` resumes where another follow was, of the
        same conversations; empty begins anew. Until the first node answers, the client's deadline holds; after that it
        reconnects for as long as it takes."""
        return Follow(self, cursor)

    def changes(self, tenant: str, cursor: str = "") -> Changes:
        """Changes of `tenant` behind a cursor, `async for changes in client.changes(...)`; with an empty one all that
        there is."""
        return Changes(self, tenant, cursor)

    def session(self) -> Session:
        """A session that has seen nothing yet."""
        return Session(self)

    def resume(self, token: str) -> Session:
        """A session that goes on where the one of `token` was."""
        session = Session(self)
        session.saw(token)
        return session

    # Changing messages.

    async def edit(self, parent: str, seq: int, edit: Edit) -> Changed:
        """Changes what message `seq` of `parent` says."""
        request = v1.EditMessageRequest(
            name=_name(parent, seq),
            request_id=edit.request_id or self.random.id(),
            expected_revision=edit.expected_revision,
            body=edit.body,
            attributes=None if edit.attributes is None else v1.Attributes(values=dict(edit.attributes)),
        )
        return _changed((await self.call("messages.EditMessage", request, writes=True)).value)

    async def redact(self, parent: str, seq: int, request_id: str = "") -> Changed:
        """Erases message `seq` of `parent`: a tombstone keeps its number."""
        request = v1.RedactMessageRequest(name=_name(parent, seq), request_id=request_id or self.random.id())
        return _changed((await self.call("messages.RedactMessage", request, writes=True)).value)

    async def react(
        self, parent: str, seq: int, user: str, kind: str, *, remove: bool = False, request_id: str = ""
    ) -> Changed:
        """Sets a reaction of `user` to message `seq` of `parent`, or takes it back."""
        drawn = request_id or self.random.id()
        request = v1.ReactRequest(name=_name(parent, seq), request_id=drawn, user=user, kind=kind, remove=remove)
        return _changed((await self.call("messages.React", request, writes=True)).value)

    async def list_reactions(
        self, parent: str, first_seq: int = 0, last_seq: int = 0, page_token: str = "", level: Level = LINEARIZABLE
    ) -> tuple[Sequence[Any], str]:
        """A page of who has set which reactions to the messages `first_seq` to `last_seq` (0 = the last) of `parent`,
        each a v1.Reaction, and the token of the next page; empty at the end."""
        request = v1.ListReactionsRequest(
            parent=parent,
            first_seq=first_seq,
            last_seq=last_seq,
            page_size=options.PAGE_SIZE_MAX,
            page_token=page_token,
            read=level.to_wire(),
        )
        page = (await self.call("messages.ListReactions", request)).value
        return [*page.reactions], page.next_page_token

    # Conversations.

    async def get_conversation(self, name: str, level: Level = LINEARIZABLE) -> Any:
        """The conversation, a v1.Conversation: its head, its shard, its content hash."""
        request = v1.GetConversationRequest(name=name, read=level.to_wire())
        return (await self.call("conversations.GetConversation", request)).value

    async def create_conversation(
        self, tenant: str, conversation_id: str, attributes: Mapping[str, str] | None = None, request_id: str = ""
    ) -> Any:
        """Creates a conversation; only needed for settings, since the first append creates it too."""
        request = v1.CreateConversationRequest(
            parent=f"tenants/{tenant}",
            conversation_id=conversation_id,
            conversation=v1.Conversation(attributes=dict(attributes or {})),
            request_id=request_id or self.random.id(),
        )
        return (await self.call("conversations.CreateConversation", request, writes=True)).value

    async def update_conversation(self, name: str, attributes: Mapping[str, str], request_id: str = "") -> Any:
        """Sets the attributes of the conversation `name`, in place of all that there are."""
        return await self.set_rules(name, attributes=attributes, request_id=request_id)

    async def set_rules(
        self,
        name: str,
        *,
        attributes: Mapping[str, str] | None = None,
        fence_token: str | None = None,
        expected_fence_token: str | None = None,
        ttl: float | None = None,
        legal_hold: bool | None = None,
        request_id: str = "",
    ) -> Any:
        """Sets what is given of the conversation `name`, all of it at once; the rest stays. Appends must give
        `fence_token` from then on, empty = none; it is set only if it was `expected_fence_token` (FENCED). Messages
        expire `ttl` seconds after their append, 0 = they do not, and none while `legal_hold` is set."""
        request = v1.UpdateConversationRequest(
            name=name, request_id=request_id or self.random.id(), legal_hold=legal_hold
        )
        if attributes is not None:
            request.attributes.CopyFrom(v1.Attributes(values=dict(attributes)))
        if fence_token is not None:
            request.fence.CopyFrom(v1.Fence(token=fence_token, expected_token=expected_fence_token))
        if ttl is not None:
            request.ttl.FromMilliseconds(round(ttl * 1e3))
        return (await self.call("conversations.UpdateConversation", request, writes=True)).value

    async def delete_conversation(self, name: str, request_id: str = "") -> Any:
        """Deletes the conversation `name` with all that is in it."""
        request = v1.DeleteConversationRequest(name=name, request_id=request_id or self.random.id())
        return (await self.call("conversations.DeleteConversation", request, writes=True)).value

    async def list_conversations(
        self, tenant: str, page_size: int = 0, page_token: str = "", level: Level = LINEARIZABLE
    ) -> tuple[Sequence[Any], str]:
        """A page of the conversations of `tenant`, and the token of the next page; empty at the end. A page may hold
        fewer than `page_size`, or none, before the last."""
        request = v1.ListConversationsRequest(
            parent=f"tenants/{tenant}", page_size=page_size, page_token=page_token, read=level.to_wire()
        )
        page = (await self.call("conversations.ListConversations", request)).value
        return [*page.conversations], page.next_page_token

    # Tenants.

    async def create_tenant(self, id: str, tenant: Tenant = Tenant()) -> Any:
        """Creates the tenant `id` (TENANT_EXISTS, TENANT_DELETING, TENANTS_FULL); a v1.TenantResponse."""
        wire, _ = tenant.to_wire()
        request = tenants_pb2.CreateTenantRequest(
            tenant_id=id, tenant=wire, request_id=tenant.request_id or self.random.id()
        )
        return (await self.call("tenants.CreateTenant", request, writes=True)).value

    async def get_tenant(self, id: str) -> Any:
        """The tenant `id`, a v1.Tenant, and while it is being deleted how far that is (TENANT_UNKNOWN)."""
        return (await self.call("tenants.GetTenant", tenants_pb2.GetTenantRequest(name=f"tenants/{id}"))).value

    async def list_tenants(self, page_size: int = 0, page_token: str = "") -> tuple[Sequence[Any], str]:
        """Tenants that were created, in the order of their names: a page, and the token of the next one; empty behind
        the last."""
        request = tenants_pb2.ListTenantsRequest(page_size=page_size, page_token=page_token)
        page = (await self.call("tenants.ListTenants", request)).value
        return [*page.tenants], page.next_page_token

    async def update_tenant(self, id: str, tenant: Tenant) -> Any:
        """Sets what `tenant` gives of the tenant `id`; the rest stays (TENANT_UNKNOWN, REVISION_MISMATCH)."""
        wire, paths = tenant.to_wire(f"tenants/{id}")
        request = tenants_pb2.UpdateTenantRequest(
            tenant=wire,
            update_mask=FieldMask(paths=paths),
            request_id=tenant.request_id or self.random.id(),
            expected_revision=tenant.expected_revision,
        )
        return (await self.call("tenants.UpdateTenant", request, writes=True)).value

    async def delete_tenant(self, id: str, allow_missing: bool = False, request_id: str = "") -> Any:
        """Begins to remove the tenant `id` with everything in it; get_tenant says how far that is, and does not find it
        any more once it is done. `allow_missing`: also where it was never created."""
        request = tenants_pb2.DeleteTenantRequest(
            name=f"tenants/{id}", request_id=request_id or self.random.id(), allow_missing=allow_missing
        )
        return (await self.call("tenants.DeleteTenant", request, writes=True)).value

    # How calls are made.

    async def call(
        self, method: str, request: Any, *, writes: bool = False, metadata: tuple[tuple[str, str], ...] = (options.CLIENT,)
    ) -> Answer:
        """Calls `method` (stub.Method) on nodes until one answers, an answer is final, or the deadline passes."""
        if self.pool.closed:
            raise Closed
        self.counters.calls += 1
        try:
            return await self._attempts(method, request, writes, metadata)
        except Exception:
            self.counters.failed += 1
            raise

    async def _attempts(
        self, method: str, request: Any, writes: bool, metadata: tuple[tuple[str, str], ...]
    ) -> Answer:
        clock, tried, backoff = self.pool.clock, Tried(), Backoff()
        started, patience, attempts, maybe_done = clock(), self.attempt_timeout, 0, False
        deadline = started + self.deadline
        while True:
            attempts += 1
            self.counters.retries += attempts > 1
            node, began = self.pool.choose(tried), clock()
            timeout = max(min(patience, deadline - began), 0.001)
            outcome = await _attempt(node, method, request, timeout, (*metadata, *self._class))
            if not isinstance(outcome, Refusal):
                value, leaving = outcome
                node.succeeded()
                if leaving:
                    node.failed(Fault.LEAVING, clock())
                self.budget.earn()
                return Answer(value, attempts, clock() - started)
            fault = fault_of(outcome)
            was_silent = fault is Fault.NODE and outcome.code == grpc.StatusCode.DEADLINE_EXCEEDED
            if was_silent:
                patience = min(patience * 1.5, options.ATTEMPT_TIMEOUT_MAX)
            # A caller in a hurry says nothing about the node.
            if fault is Fault.NONE:
                node.succeeded()
            elif not (was_silent and timeout < self.attempt_timeout):
                node.failed(fault, clock())
            if not retryable(outcome):
                raise Refused(outcome, maybe_done and not settles(outcome))
            maybe_done = maybe_done or (writes and not never_sent(outcome))
            tried.ended(node, fault)
            wait = 0.0
            if attempts > 1 or not self.pool.has_fresh(tried):
                wait = self.budget.pause(backoff, self.random, outcome.retry_after or 0.0, deadline - clock())
            if clock() + wait >= deadline:
                raise Deadline(maybe_done, attempts, outcome)
            self.counters.failovers += 1
            await asyncio.sleep(wait)

    def count(self, messages: int, deduplicated: bool) -> None:
        """So many messages were acknowledged."""
        self.counters.acked += messages
        self.counters.deduplicated += messages if deduplicated else 0


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer, and what it took."""

    value: Any
    attempts: int
    latency: float

    def appended(self, message: Any, deduplicated: bool) -> Appended:
        created = message.create_time.ToMilliseconds()
        return Appended(message.seq, message.revision, created, deduplicated, self.latency, self.attempts)


async def _attempt(
    node: Node, method: str, request: Any, timeout: float, metadata: tuple[tuple[str, str], ...]
) -> tuple[Any, bool] | Refusal:
    """One attempt on one node: its answer and whether it goes away, or its refusal."""
    service, name = method.split(".")
    send: Callable[..., Any] = getattr(node.stub(service), name)
    node.active += 1
    try:
        call = send(request, timeout=timeout, metadata=metadata)
        value = await call
        headers: Awaitable[Any] = call.initial_metadata()
        keys = {key for key, _ in await headers or ()} | {key for key, _ in await call.trailing_metadata() or ()}
        return value, options.GOING_AWAY in keys
    except grpc.aio.AioRpcError as error:
        refusal = from_rpc(error)
        if refusal.code == grpc.StatusCode.DEADLINE_EXCEEDED and not refusal.reason:
            return silent(timeout)
        return refusal
    finally:
        node.active -= 1


def _name(parent: str, seq: int) -> str:
    return f"{parent}/messages/{seq}"


def _changed(response: Any) -> Changed:
    message = response.message
    return Changed(
        message.seq,
        message.revision,
        message.create_time.ToMilliseconds(),
        message.reactions[0].count if message.reactions else 0,
        response.deduplicated,
        response.info.session_token,
    )
