"""Each call of the client against real nodes.   conformance.py NODES CA (JSON: address, dc, pid of each; the file of
the authority that has certified them: they take connections with TLS and without)"""

import asyncio
import json
import pathlib
import sys
import time

import firebreak
from firebreak import LOCAL, Client, Config, Edit, From, Level, ListOptions, Message, Tenant
from firebreak.v1 import messages_pb2 as v1

NODES = json.loads(sys.argv[1])
CA = pathlib.Path(sys.argv[2])
ADDRESSES = [node["address"] for node in NODES]
RUN = f"{time.time_ns():x}"


def room(name):
    return f"tenants/py{RUN}/conversations/{name}"


async def refused(call, reason, kind=firebreak.Refused):
    try:
        await call
    except kind as error:
        assert error.reason == reason, f"{error.reason} instead of {reason}: {error}"
        return error
    raise AssertionError(f"nothing was refused with {reason}")


async def appends(client):
    one = await client.append(room("a"), Message.text("ann", "one").id("id-1"))
    assert (one.seq, one.deduplicated) == (1, False) and one.create_time_ms > 0 and one.attempts >= 1
    again = await client.append(room("a"), Message.text("ann", "one").id("id-1"))
    assert (again.seq, again.revision, again.deduplicated) == (1, one.revision, True)
    await refused(client.append(room("a"), Message.text("ann", "other").id("id-1")), "CLIENT_MESSAGE_ID_REUSED")
    wrong = await refused(client.append(room("a"), Message.text("ann", "x"), expected_last_seq=7), "SEQ_MISMATCH")
    assert wrong.metadata["last_seq"] == "1" and not wrong.outcome_unknown and not wrong.retryable
    two = await client.append(room("a"), Message.text("ann", "two"), expected_last_seq=1)
    assert two.seq == 2
    bad = await refused(client.append("nonsense", Message("")), "INVALID_FIELDS")
    assert {one.field for one in bad.violations} >= {"parent"}, bad.violations
    batch = [Message("ben", b"\0\xff", "blob", attributes={"k": "v"}, reply_to_seq=1).id(f"b{n}") for n in range(3)]
    assert [one.seq for one in await client.append_batch(room("a"), batch)] == [3, 4, 5]
    assert all(one.deduplicated for one in await client.append_batch(room("a"), batch))
    await refused(client.append_batch(room("a"), [batch[0], Message.text("ben", "new")]), "MIXED_BATCH")


async def rules(client):
    await client.append(room("ruled"), Message.text("ann", "one"), key="mls", expected_last_seq_of_key=0)
    await client.append(room("ruled"), Message.text("ann", "chat"))
    stale = client.append(room("ruled"), Message.text("ben", "x"), key="mls", expected_last_seq_of_key=0)
    assert (await refused(stale, "KEY_SEQ_MISMATCH")).metadata["last_seq"] == "1"
    await client.set_rules(room("ruled"), fence_token="w1", expected_fence_token="")
    await refused(client.append(room("ruled"), Message.text("ann", "x")), "FENCED")
    fenced = Message("ann", b"two", "text", fence_token="w1")
    assert (await client.append(room("ruled"), fenced)).seq == 3
    stream = client.append_stream()
    assert (await stream.send(room("ruled"), fenced)).seq == 4
    await refused(stream.send(room("ruled"), Message.text("ann", "x")), "FENCED")
    await stream.close()
    await client.set_rules(room("ruled"), fence_token="", ttl=3600.0, legal_hold=True)
    head = await client.get_conversation(room("ruled"))
    assert head.legal_hold and head.ttl.seconds == 3600 and not head.fence_token
    short = await client.append(room("fading"), Message("ann", b"gone soon", "text", ttl=1.0))
    until = asyncio.get_running_loop().time() + 20
    while (found := await client.get_message(room("fading"), short.seq)).body:
        assert asyncio.get_running_loop().time() < until, "it does not expire"
        await asyncio.sleep(0.1)
    assert found.redaction.expired


async def anchors(client):
    await client.append_batch(room("far"), [Message.text("ann", str(n)) for n in range(1, 21)])
    page = await client.list(room("far"), ListOptions(5, unread_after=11, context_before=2))
    assert [m.seq for m in page.messages] == [10, 11, 12, 13, 14, 15, 16] and page.anchor_seq == 12
    before = await client.list(room("far"), ListOptions(5, page_token=page.prev_page_token))
    assert [m.seq for m in before.messages] == [5, 6, 7, 8, 9]
    at = page.messages[0].create_time.ToMilliseconds()
    newest = await client.list(room("far"), ListOptions(2, descending=True, start_time_ms=at + 60_000))
    assert [m.seq for m in newest.messages] == [20, 19]


async def reads(client):
    await client.append_batch(room("r"), [Message.text("ann", str(n)) for n in range(1, 26)])
    for descending in (False, True):
        numbers = [int(m.body) async for m in client.messages(room("r"), ListOptions(7, descending=descending))]
        assert numbers == sorted(range(1, 26), reverse=descending), numbers
    page = await client.list(room("r"), ListOptions(page_size=3, start_seq=20))
    assert [m.seq for m in page.messages] == [20, 21, 22] and page.last_seq == 25 and page.min_seq == 1
    assert page.served_by and page.next_page_token and page.session_token
    session = client.session()
    said = await session.append(room("r"), Message.text("ann", "26"))
    for level in (Level.session(session.token()), Level.bounded(30.0), firebreak.LINEARIZABLE):
        newest = await client.list(room("r"), ListOptions(1, descending=True, level=level))
        if level.name != "BOUNDED":
            assert newest.messages[0].seq == said.seq == 26
        assert newest.staleness is None or newest.staleness < 30.0
    assert (await client.list(room("r"), ListOptions(level=LOCAL))).staleness is not None
    missing = await refused(client.list(room("none")), "CONVERSATION_NOT_FOUND")
    assert missing.is_not_found and missing.code == firebreak.Code.NOT_FOUND


async def sessions(client):
    phone = client.session()
    said = await phone.append(room("s"), Message.text("ann", "from my phone"))
    await phone.append_batch(room("s2"), [Message.text("ann", "both")])
    laptop = client.resume(phone.token())
    assert (await laptop.list(room("s"))).messages[0].seq == said.seq
    assert (await laptop.get_conversation(room("s2"))).last_seq == 1
    # A stream's acknowledgement names no token: the client makes the one that the node would have made.
    other = client.session()
    other.wrote(room("s"), said)
    alone = client.session()
    await alone.append(room("s"), Message.text("ann", "again"))
    assert set(other._seen.seen) == set(alone._seen.seen)
    assert (await other.list(room("s"))).last_seq >= 1
    try:
        client.resume("not a token")
    except Config:
        return
    raise AssertionError("a wrong token was taken")


async def conversations(client):
    made = await client.create_conversation(f"py{RUN}", "made", {"topic": "fire"}, "request-1")
    again = await client.create_conversation(f"py{RUN}", "made", {"topic": "fire"}, "request-1")
    assert made.name == again.name == room("made") and made.incarnation == again.incarnation
    await refused(client.create_conversation(f"py{RUN}", "made"), "CONVERSATION_EXISTS")
    got = await client.get_conversation(room("made"))
    assert dict(got.attributes) == {"topic": "fire"} and got.last_seq == 0


async def streams(client):
    async with client.append_stream(unanswered_max=64) as stream:
        acks = []
        for n in range(500):
            acks.append(await stream.enqueue(room(f"stream{n % 5}"), Message.text("ann", str(n)).id(f"s{n}")))
            assert stream.unanswered <= 64
        seqs = [(await ack).seq for ack in acks]
        assert seqs == [n // 5 + 1 for n in range(500)]
        assert (await stream.send(room("stream0"), Message.text("ann", "0").id("s0"))).deduplicated
        await refused(stream.send(room("stream0"), Message.text("", "")), "INVALID_FIELDS")
    try:
        await stream.enqueue(room("stream0"), Message.text("ann", "x"))
    except firebreak.Closed:
        return
    raise AssertionError("a closed stream took a message")


async def tails(client):
    await client.append_batch(room("t"), [Message.text("ann", str(n)) for n in range(1, 4)])
    fresh = client.tail(room("t"))
    assert (await fresh.next()).caught_up == 3
    tail, seen = client.tail(room("t"), From.seq(2)), []
    async for event in tail:
        if event.caught_up is not None:
            break
        seen.append(event.message.seq)
    assert seen == [2, 3]
    # Whoever waits may give up and wait again: nothing is lost by that.
    try:
        await asyncio.wait_for(tail.next(), 0.05)
        raise AssertionError("a tail gave what nobody has said")
    except asyncio.TimeoutError:
        pass
    moves = client.stats().failovers
    await client.append(room("t"), Message.text("ann", "4"))
    for one in (tail, fresh):
        assert (await one.next()).message.seq == 4
    assert client.stats().failovers == moves
    cursor, waiting = tail.cursor, asyncio.ensure_future(tail.next())
    await asyncio.sleep(0)
    tail.close()
    assert await waiting is None
    fresh.close()
    await client.append(room("t"), Message.text("ann", "5"))
    resumed = client.tail(room("t"), From.cursor(cursor))
    # A replica that has not heard of it yet has caught up before it.
    while (event := await resumed.next()).message is None:
        assert event.caught_up == 4
    assert event.message.seq == 5
    resumed.close()
    ahead = client.tail(room("t"), From.seq(99))
    error = await refused(ahead.next(), "AHEAD_OF_HEAD")
    assert error.metadata["last_seq"] == "5" and await ahead.next() is None


async def changes(client):
    """Edits, redactions, reactions and conversations that change."""
    first = await client.append(room("c"), Message.text("ann", "Hello Bem"))
    tail = client.tail(room("c"), From.seq(1))
    while (await tail.next()).caught_up is None:
        pass
    edited = await client.edit(room("c"), 1, Edit.text("Hello Ben").id("e-1"))
    assert edited.seq == 1 and edited.revision > first.revision
    assert (await client.edit(room("c"), 1, Edit.text("Hello Ben").id("e-1"))).deduplicated
    await refused(client.edit(room("c"), 1, Edit.text("other").id("e-1")), "REQUEST_ID_REUSED")
    await refused(client.edit(room("c"), 1, Edit(b"x", expected_revision=1)), "REVISION_MISMATCH")
    assert (await client.react(room("c"), 1, "ben", "👍")).count == 1
    got = await client.get_message(room("c"), 1, reader="ben")
    assert got.body == b"Hello Ben" and got.reactions[0].kind == "👍" and got.reactions[0].mine
    page = await client.list(room("c"), ListOptions(reader="ben"))
    assert page.messages[0].reactions[0].mine
    await client.react(room("c"), 1, "cho", "🔥")
    who, more = await client.list_reactions(room("c"))
    assert {(one.seq, one.user, one.kind) for one in who} == {(1, "ben", "👍"), (1, "cho", "🔥")} and more == ""
    assert await client.list_reactions(room("c"), 2) == ([], "")
    await refused(client.list_reactions(room("none")), "CONVERSATION_NOT_FOUND")
    assert (await client.react(room("c"), 1, "ben", "👍", remove=True)).count == 0
    await client.redact(room("c"), 1)
    erased = await client.get_message(room("c"), 1)
    assert erased.HasField("redaction") and not erased.body and not erased.sender
    await refused(client.edit(room("c"), 1, Edit.text("back")), "MESSAGE_REDACTED")
    await refused(client.get_message(room("c"), 9), "MESSAGE_NOT_FOUND")
    event = await tail.next()
    while not event.changed.HasField("redaction"):
        event = await tail.next()
    tail.close()
    updated = await client.update_conversation(room("c"), {"topic": "water"})
    assert dict(updated.conversation.attributes) == {"topic": "water"}
    names, token = set(), ""
    while True:
        page, token = await client.list_conversations(f"py{RUN}", 3, token)
        names.update(one.name for one in page)
        if not token:
            break
    assert {room("c"), room("a"), room("made")} <= names, names
    await client.delete_conversation(room("c"))
    await refused(client.get_conversation(room("c")), "CONVERSATION_NOT_FOUND")


async def came(follow, enough):
    """The events of a Follow until there are enough."""
    events = []
    while not enough(events):
        events.append(await follow.next())
    return events


def said(events):
    """What was said, of each conversation."""
    rooms = {}
    for message in (event.message for event in events if event.message is not None):
        parent, seq = message.name.split("/messages/")
        rooms.setdefault(parent, []).append((int(seq), message.body.decode()))
    return rooms


async def follows(client):
    """Many conversations over one stream, which are added and removed while it runs."""
    names = [room(f"f{n}") for n in range(5)]
    for name in names[:3]:
        await client.append_batch(name, [Message.text("ann", "one"), Message.text("ann", "two")])
    follow = client.follow()
    assert len(follow) == 0 and follow.cursor == ""
    follow.add_from([(names[0], 1), (names[1], 2)])
    follow.add([names[2], names[3]])
    first = await came(follow, lambda events: events and events[-1].caught_up)
    assert said(first) == {names[0]: [(1, "one"), (2, "two")], names[1]: [(2, "two")]} and len(follow) == 4
    assert follow.cursor
    # Whoever waits may give up and wait again: nothing is lost by that.
    try:
        await asyncio.wait_for(follow.next(), 0.05)
        raise AssertionError("a follow gave what nobody has said")
    except asyncio.TimeoutError:
        pass
    # While somebody waits for the next event, one is added that has something to say, and one is removed.
    await client.append(names[4], Message.text("ben", "was here"))
    waiting = asyncio.ensure_future(came(follow, lambda events: names[4] in said(events)))
    await asyncio.sleep(0)
    follow.add_from([(names[4], 1)])
    assert said(await waiting) == {names[4]: [(1, "was here")]}
    follow.remove([names[0]])
    await client.append(names[0], Message.text("ann", "unheard"))
    await client.append(names[2], Message.text("ann", "three"))
    await client.edit(names[1], 2, Edit.text("two!"))
    await client.create_conversation(f"py{RUN}", "f3")
    await client.set_rules(names[3], attributes={"topic": "fire"})
    await client.delete_conversation(names[4])
    kinds = lambda events: {  # noqa: E731
        "said": {name: [body for _, body in all] for name, all in said(events).items()},
        "changed": [event.changed.body for event in events if event.changed is not None],
        "settings": [*{event.settings.name for event in events if event.settings is not None}],
        "deleted": [event.deleted for event in events if event.deleted is not None],
    }
    expected = {"said": {names[2]: ["three"]}, "changed": [b"two!"], "settings": [names[3]], "deleted": [names[4]]}
    events = await came(follow, lambda events: all(kinds(events).values()))
    assert kinds(events) == expected, kinds(events)
    # A cursor that is behind all of that: kept by somebody else, it goes on there.
    while (cursor := follow.cursor) == "" or await behind(client, cursor, names[1:]):
        await client.append(names[1], Message.text("ann", "more"))
        await follow.next()
    follow.close()
    assert await follow.next() is None
    await client.append(names[2], Message.text("ann", "four"))
    resumed = client.follow(cursor)
    resumed.add(names[1:])
    events = await came(resumed, lambda events: names[2] in said(events))
    assert said(events) == {names[2]: [(4, "four")]}
    resumed.close()
    wrong = client.follow("not a cursor")
    wrong.add(names)
    await refused(wrong.next(), "INVALID_FIELDS")
    assert await wrong.next() is None
    # More than a request takes.
    many = client.follow()
    many.add(room(f"with-a-name-of-some-length-so-that-requests-have-more-bytes-{n}") for n in range(2_500))
    many.add_from([(names[2], 4)])
    events = await came(many, lambda events: events and events[-1].caught_up)
    assert said(events) == {names[2]: [(4, "four")]} and len(many) == 2_501
    many.close()


async def behind(client, cursor, names):
    """Whether something of these conversations comes behind a cursor."""
    other = client.follow(cursor)
    other.add(names)
    events = await came(other, lambda events: events and events[-1].caught_up)
    other.close()
    return len(events) > 1


async def feeds(client):
    """What is changed in a tenant, resumed at a cursor."""
    tenant, name = f"feed{RUN}", f"tenants/feed{RUN}/conversations/a"
    feed = client.changes(tenant)
    assert await feed.poll(firebreak.LINEARIZABLE) == [] and feed.caught_up
    waiting = asyncio.ensure_future(feed.next())
    await client.append_batch(name, [Message.text("ann", str(n)) for n in range(1, 4)])
    first = await asyncio.wait_for(waiting, 20)
    while len(first) < 3:
        first += await asyncio.wait_for(feed.next(), 20)
    assert [one.message.seq for one in first] == [1, 2, 3] and {one.conversation for one in first} == {name}
    cursor = feed.cursor
    await client.edit(name, 2, Edit.text("two"))
    resumed = client.changes(tenant, cursor)
    (edited,) = await asyncio.wait_for(resumed.next(), 20)
    assert (edited.message.seq, edited.message.body) == (2, b"two") and edited.id not in {one.id for one in first}
    assert await client.changes(tenant, resumed.cursor).poll(firebreak.LINEARIZABLE) == []
    await refused(client.changes(tenant, "not a cursor").poll(), "INVALID_FIELDS")


async def tenants(client):
    id = f"t{RUN}"
    acme = Tenant(display_name="Acme", messages_per_second=1_000, ttl=3600.0)
    made = await client.create_tenant(id, acme.id(f"t-{RUN}"))
    assert made.tenant.name == f"tenants/{id}" and not made.deduplicated
    assert (await client.create_tenant(id, acme.id(f"t-{RUN}"))).deduplicated
    await refused(client.create_tenant(id), "TENANT_EXISTS")
    versions = {"rust": "0.0.1"}
    await client.update_tenant(id, Tenant(user_messages_per_second=20, min_client_versions=versions, upgrade_url="u"))
    got = await client.get_tenant(id)
    assert (got.display_name, got.ttl.seconds, got.upgrade_url) == ("Acme", 3600, "u"), got
    assert (got.quotas.messages_per_second, got.quotas.user_messages_per_second) == (1_000, 20)
    assert dict(got.min_client_versions) == versions and got.revision > made.tenant.revision
    stale = Tenant(ttl=0.0, expected_revision=made.tenant.revision)
    await refused(client.update_tenant(id, stale), "REVISION_MISMATCH")
    # This client is too old for it now, and is told where newer ones are.
    await client.update_tenant(id, Tenant(min_client_versions={"python": "99.0.0"}))
    blocked = client.append(f"tenants/{id}/conversations/c", Message.text("ann", "x"))
    assert (await refused(blocked, "CLIENT_VERSION_BLOCKED")).metadata["upgrade_url"] == "u"
    names, token = [], ""
    while True:
        page, token = await client.list_tenants(1, token)
        names += [one.name for one in page]
        if not token:
            break
    assert f"tenants/{id}" in names and names == sorted(names)
    assert (await client.delete_tenant(id)).tenant.HasField("removal")
    await refused(client.append(f"tenants/{id}/conversations/c", Message.text("ann", "x")), "TENANT_DELETING")
    await refused(client.get_tenant(f"no{RUN}"), "TENANT_UNKNOWN")


async def encrypted():
    """The same nodes take connections with TLS: by a file's name or by its content, for as long as they are few."""
    async with Client(ADDRESSES[:1], ca=CA, class_="export") as one, Client(ADDRESSES, ca=CA.read_bytes()) as other:
        said = await one.append(room("tls"), Message.text("ann", "over TLS"))
        assert (await other.get_message(room("tls"), said.seq)).body == b"over TLS"
        assert (await one.list(room("tls"))).last_seq == 1
        while len(one.nodes()) < len(NODES):
            await asyncio.sleep(0.01)
    try:
        Client(ADDRESSES, class_="soon")
    except Config:
        return
    raise AssertionError("a class that is none was taken")


async def nobody_there():
    async with Client(["127.0.0.1:1"], deadline=0.5) as client:
        for one in (client, client.with_deadline(0.2)):
            error = await refused(one.append(room("x"), Message.text("ann", "x")), "", firebreak.Deadline)
            assert error.retryable and not error.outcome_unknown, error
        assert client.stats().failed == 2
    for endpoints in ([], ["nowhere"], ["host:0"]):
        try:
            Client(endpoints)
        except Config:
            continue
        raise AssertionError(f"{endpoints} were taken")


async def discovers(client):
    """A client that is told one address learns the others."""
    async with Client(ADDRESSES[:1]) as one:
        await one.append(room("d"), Message.text("ann", "x"))
        while len(one.nodes()) < len(NODES):
            await asyncio.sleep(0.01)
        assert {node.dc for node in one.nodes()} == {node["dc"] for node in NODES}
    async with Client(ADDRESSES[:1], discover=False) as alone:
        await alone.append(room("d"), Message.text("ann", "x"))
        assert len(alone.nodes()) == 1


async def main():
    async with Client(ADDRESSES) as client:
        parts = [appends, rules, anchors, reads, sessions, conversations, streams, tails, discovers]
        parts += [follows, feeds, tenants]
        if hasattr(v1, "EditMessageRequest"):
            parts.append(changes)
        for part in parts:
            try:
                await asyncio.wait_for(part(client), 60)
            except BaseException as error:
                raise RuntimeError(f"{part.__name__} failed: {error!r}") from error
    await asyncio.wait_for(encrypted(), 60)
    await asyncio.wait_for(nobody_there(), 60)
    print(f"{len(parts) + 2} parts" + ("" if changes in parts else ", no changes of messages: the .proto has none"))


asyncio.run(main())
