"""A node is lost in the middle of a stream, of calls and of tails.   lose.py NODES SIGNAL (NODES: JSON with the
address, dc and pid of each)

No call fails, and afterwards each conversation holds each message once and in order.
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
            await asyncio.wait_for(until(BEFORE), 60)
            # The node that the client uses most: its stream, tails and calls break.
            busiest = max(client.nodes(), key=lambda node: node.active)
            pid = next(node["pid"] for node in NODES if node["address"] == busiest.address)
            unanswered = stream.unanswered
            os.kill(pid, LOST_BY)
            await asyncio.wait_for(until(sum(map(len, acked.values())) + AFTER), 60)
            over.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 60)
        # One more each: a tail that waits for news hears that it is over.
        for room in ROOMS[:4]:
            sent[room].append("end")
            acked[room]["end"] = (await client.append(room, Message.text("ann", "end").id("end"))).seq
        followed = await asyncio.wait_for(asyncio.gather(*tails), 60)
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
            f"{count} messages, 0 calls failed, 0 lost, 0 twice, {unanswered} under way on the stream at the loss, "
            f"{stats.failovers} moves, longest wait {longest[0]:.2f} s"
        )


asyncio.run(main())
