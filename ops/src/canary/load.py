"""Canaries of a drill that are plain Python clients: a thread per sender, each of which waits for one
answer before it sends the next message. Ends when stdin does.

    load.py PLAN.json      {"senders": [{"name", "addresses", "conversations"}], "pause_ms", "deadline_ms",
                            "options", "service_config"}

A line for each call: sender, conversation, id, sent, ended (Unix µs), seq (0: it failed), gateway or error.
"""

import json
import sys
import threading
import time

import grpc

from firebreak.v1 import messages_pb2 as api
from firebreak.v1 import messages_pb2_grpc as rpc

OUT = threading.Lock()


def tell(*fields):
    with OUT:
        sys.stdout.write("\t".join(str(field).replace("\t", " ").replace("\n", " ") for field in fields) + "\n")
        sys.stdout.flush()


def send(plan, sender, over):
    options = list(plan["options"].items()) + [
        ("grpc.service_config", plan["service_config"]),
        # Senders must not share connections: each is a client of its own.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    messages = rpc.MessagesStub(grpc.insecure_channel("ipv4:" + sender["addresses"], options))
    rooms, count = sender["conversations"], 0
    while not over.wait(plan["pause_ms"] / 1000):
        room, ident = rooms[count % len(rooms)], f"{sender['name']}-{count}"
        count += 1
        message = api.Message(sender=sender["name"], type="text", body=ident.encode(), client_message_id=ident)
        request = api.AppendMessageRequest(parent=room, message=message)
        sent = time.time_ns() // 1000
        try:
            answer = messages.AppendMessage(request, timeout=plan["deadline_ms"] / 1000)
            seq, what = answer.message.seq, answer.info.served_by
        except grpc.RpcError as error:
            seq, what = 0, f"{error.code().name}: {error.details()}"
        tell(sender["name"], room, ident, sent, time.time_ns() // 1000, seq, what)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    over = threading.Event()
    threads = [threading.Thread(target=send, args=(plan, sender, over)) for sender in plan["senders"]]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()


main()
