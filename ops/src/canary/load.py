"""Canaries of a drill that are plain Python clients: a thread per sender, each of which waits for one
answer before it sends the next message. Ends when stdin does.

    load.py PLAN.json      {"senders": [{"name", "addresses", "conversations"}], "pause_ms", "deadline_ms",
                            "options", "service_config"}

Nodes are reached as the command reaches them: with TLS where FIREBREAK_CA names a file (FIREBREAK_CERT and
FIREBREAK_CERT_KEY: the caller's own), and as who FIREBREAK_API_KEY says, or the file FIREBREAK_API_KEY_FILE.
FIREBREAK_TLS_NAME is a name that the certificates of all nodes have: gRPC checks a channel's addresses against one.

A line for each call: sender, conversation, id, sent, ended (Unix µs), seq (0: it failed), gateway or error.
"""

import json
import os
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


def read(variable):
    """The content of the file that a variable names; none where it names none."""
    name = os.environ.get(variable)
    if not name:
        return None
    with open(name, "rb") as file:
        return file.read()


def key():
    """What says who calls, as metadata."""
    text = os.environ.get("FIREBREAK_API_KEY", "").strip() or (read("FIREBREAK_API_KEY_FILE") or b"").decode().strip()
    return [("authorization", f"Bearer {text}")] if text else []


def connect(addresses, options):
    ca = read("FIREBREAK_CA")
    if ca is None:
        return grpc.insecure_channel("ipv4:" + addresses, options)
    hosts = {address.rpartition(":")[0] for address in addresses.split(",")}
    name = os.environ.get("FIREBREAK_TLS_NAME") or (hosts.pop() if len(hosts) == 1 else None)
    if name:
        options = [*options, ("grpc.ssl_target_name_override", name)]
    credentials = grpc.ssl_channel_credentials(ca, read("FIREBREAK_CERT_KEY"), read("FIREBREAK_CERT"))
    return grpc.secure_channel("ipv4:" + addresses, credentials, options)


def send(plan, sender, over, metadata):
    options = list(plan["options"].items()) + [
        ("grpc.service_config", plan["service_config"]),
        # Senders must not share connections: each is a client of its own.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    messages = rpc.MessagesStub(connect(sender["addresses"], options))
    rooms, count = sender["conversations"], 0
    while not over.wait(plan["pause_ms"] / 1000):
        room, ident = rooms[count % len(rooms)], f"{sender['name']}-{count}"
        count += 1
        message = api.Message(sender=sender["name"], type="text", body=ident.encode(), client_message_id=ident)
        request = api.AppendMessageRequest(parent=room, message=message)
        sent = time.time_ns() // 1000
        try:
            answer = messages.AppendMessage(request, timeout=plan["deadline_ms"] / 1000, metadata=metadata)
            seq, what = answer.message.seq, answer.info.served_by
        except grpc.RpcError as error:
            seq, what = 0, f"{error.code().name}: {error.details()}"
        tell(sender["name"], room, ident, sent, time.time_ns() // 1000, seq, what)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    over, metadata = threading.Event(), key()
    threads = [threading.Thread(target=send, args=(plan, sender, over, metadata)) for sender in plan["senders"]]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()


main()
