"""Appends lines from stdin to a conversation through a plain gRPC channel that outlives a data center.

    pip install grpcio grpcio-tools
    python -m grpc_tools.protoc -I ../../proto/proto --python_out . --grpc_python_out . \
        firebreak/v1/messages.proto
    echo "Hi!" | python append.py 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103 tenants/t/conversations/c
"""

import json
import pathlib
import sys
import uuid

import grpc

from firebreak.v1 import messages_pb2 as api
from firebreak.v1 import messages_pb2_grpc as rpc

PUBLISHED = pathlib.Path(__file__).resolve().parent.parent


def channel(addresses):
    """A channel over one address per data center, set up as examples/README.md says."""
    options = list(json.loads((PUBLISHED / "channel_options.json").read_text()).items())
    options.append(("grpc.service_config", (PUBLISHED / "service_config.json").read_text()))
    return grpc.insecure_channel("ipv4:" + addresses, options)


def main(addresses, conversation):
    messages = rpc.MessagesStub(channel(addresses))
    for line in sys.stdin:
        message = api.Message(
            sender="ann",
            type="text",
            body=line.rstrip("\n").encode(),
            # Drawn once: however often the call is sent, the message is appended once.
            client_message_id=uuid.uuid4().hex,
        )
        request = api.AppendMessageRequest(parent=conversation, message=message)
        print(messages.AppendMessage(request, timeout=5).message.seq)


if __name__ == "__main__":
    main(*sys.argv[1:])
