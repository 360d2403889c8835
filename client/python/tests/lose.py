"""A node is lost in the middle of streams, of calls, of tails and of a feed.   lose.py NODES SIGNAL (NODES: JSON with
the address, dc and pid of each)

No call fails, and afterwards each conversation holds each message once and in order, and so did whoever followed it.
"""

import asyncio
import json
import os
import signal
import sys
import time

from firebreak import Client, From, ListOptions, Message

NODES = json.loads(sys.argv[1])
LOST_BY = signal.Signals[sys.argv[2]]
RUN = f"{time.time_ns():x}"
ROOMS = [f"tenants/kill{RUN}/conversations/room-{n}" for n in range(8)]
# Messages that must be acknowledged before that, and after it.
BEFORE, AFTER = 500, 1_000


async def main():
    async with Client([node["address"] for node in NODES]) as client:
        sent = {room: [] for room in ROOMS}
        acked = {room: {} for room in ROOMS}
        over, longest = asyncio.Event(), [0.0]

        async def send(room, stream):
            while not over.is_set():
                id = f"m{len(sent[room])}"
                sent[room].append(id)
                message = Message.text("ann", id).id(id)
                if stream is None:
                    said = await client.append(room, message)
                else:
                    # A few at once, so that there is something to keep in order.
                    more = [f"m{len(sent[room]) + n}" for n in range(4)]
                    sent[room].extend(more)
                    acks = [await stream.enqueue(room, Message.text("ann", one).id(one)) for one in [id, *more]]
                    for one, ack in zip([id, *more], acks):
                        acked[room][one] = (await ack).seq
                        longest[0] = max(longest[0], ack.result().latency)
                    continue
                acked[room][id] = said.seq
                longest[0] = max(longest[0], said.latency)

        async def follow(room):
            seqs = []
            async for event in (tail := client.tail(room, From.seq(1))):
                if event.message is not None:
                    seqs.append((event.message.seq, event.message.client_message_id))
                if seqs and seqs[-1][1] == "end":
                    tail.close()
            return seqs

        async def follow_all(follow):
            """All of them over one stream: half from the beginning, half once some of it has come."""
            follow.add_from((room, 1) for room in ROOMS[:4])
            ids, added = {room: [] for room in ROOMS}, False
            async for event in follow:
                if event.message is not None:
                    ids[event.message.name.partition("/messages/")[0]].append(event.message.client_message_id)
                if not added and event.message is not None:
                    follow.add_from((room, 1) for room in ROOMS[4:])
                    added = True
                if all(one and one[-1] == "end" for one in ids.values()):
                    follow.close()
            return ids

        async def feed():
            """All that is said in the tenant, page by page; the same reader goes on at its cursor."""
            ids = {room: [] for room in ROOMS}
            async for page in client.changes(f"kill{RUN}"):
                for change in page:
                    if change.WhichOneof("what") == "message":
                        ids[change.conversation].append(change.message.client_message_id)
                if all(one and one[-1] == "end" for one in ids.values()):
                    return ids

        async def until(count):
            while sum(map(len, acked.values())) < count:
                for task in tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)

        for room in ROOMS:
            await client.create_conversation(f"kill{RUN}", room.rsplit("/", 1)[1])
        async with client.append_stream() as stream:
            tasks = [asyncio.create_task(send(room, stream if n % 2 else None)) for n, room in enumerate(ROOMS)]
            # What it tails is sent to until the end, so that the last event comes behind the last append.
            tails = [asyncio.create_task(follow(room)) for room in ROOMS[:4]]
            following = client.follow()
            others = [asyncio.create_task(follow_all(following)), asyncio.create_task(feed())]
            await asyncio.wait_for(until(BEFORE), 60)
            # The node where all of them are followed; or the one that the client uses most: its stream, tails and calls
            # break.
            busiest = max(client.nodes(), key=lambda node: node.active).address
            lost = following._stream.node.address if LOST_BY == signal.SIGKILL else busiest
            pid = next(node["pid"] for node in NODES if node["address"] == lost)
            unanswered = stream.unanswered
            os.kill(pid, LOST_BY)
            await asyncio.wait_for(until(sum(map(len, acked.values())) + AFTER), 60)
            over.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 60)
        # One more each: who waits for news hears that it is over.
        for room in ROOMS:
            sent[room].append("end")
            acked[room]["end"] = (await client.append(room, Message.text("ann", "end").id("end"))).seq
        followed = await asyncio.wait_for(asyncio.gather(*tails), 60)
        for what, ids in zip(("follow", "feed"), await asyncio.wait_for(asyncio.gather(*others), 60)):
            for room in ROOMS:
                assert ids[room] == sent[room], f"the {what} of {room} is not what was sent, once and in order"
        if LOST_BY == signal.SIGKILL:
            assert next(node for node in client.nodes() if node.address == lost).lost, "the loss was not noticed"
        for room in ROOMS:
            held = [m async for m in client.messages(room, ListOptions(page_size=1_000))]
            assert [m.seq for m in held] == list(range(1, len(held) + 1)), f"{room} has gaps"
            assert [m.client_message_id for m in held] == sent[room], f"{room} is not what was sent, once and in order"
            assert all(held[seq - 1].client_message_id == id for id, seq in acked[room].items()), "a wrong seq"
            assert len(acked[room]) == len(sent[room])
        for room, seqs in zip(ROOMS, followed):
            assert [id for _, id in seqs] == sent[room], f"the tail of {room} is not what was sent"
        stats = client.stats()
        assert stats.failed == 0, stats
        assert stats.failovers > 0, "the loss was not noticed"
        count = sum(map(len, sent.values()))
        print(
            f"{count} messages, 0 calls failed, 0 lost, 0 twice, nor in the follow and the feed; "
            f"{unanswered} under way on the stream at the loss, {stats.failovers} moves, "
            f"longest wait {longest[0]:.2f} s"
        )


asyncio.run(main())
