"""How nodes are reached: with TLS where an authority is named, and with an API key or a token where there is one."""

from __future__ import annotations

import os
import pathlib
import ssl
from collections.abc import Iterable
from typing import Any, Union

import grpc

from . import options
from .errors import Config

#: A file's path, or its content as bytes: PEM.
Pem = Union[str, "os.PathLike[str]", bytes]

_CHANNEL = [
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_000),
    # Libraries on gRPC's C core wait a minute for the answer to a ping otherwise.
    ("grpc.http2.ping_timeout_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # The client retries itself, over nodes; a channel knows only one.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", options.FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", options.FRAME_BYTES_MAX),
]


class Dialer:
    """Opens channels that are all alike."""

    def __init__(
        self,
        api_key: str | None = None,
        ca: Pem | None = None,
        cert: Pem | None = None,
        cert_key: Pem | None = None,
    ) -> None:
        self._carried = _carried((api_key or "").strip())
        self._tls: Any = None
        if (cert is None) != (cert_key is None) or (cert is not None and ca is None):
            raise Config("a certificate needs its private key (cert, cert_key) and an authority to trust (ca)")
        if ca is not None:
            trusted = _read("ca", ca, b"CERTIFICATE-----")
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=trusted.decode())
            except (ssl.SSLError, ValueError) as error:
                raise Config(f"ca: it holds no certificate that can be read: {error}") from None
            shown = None if cert is None else _read("cert", cert, b"CERTIFICATE-----")
            key = None if cert_key is None else _read("cert_key", cert_key, b"PRIVATE KEY-----")
            self._tls = grpc.ssl_channel_credentials(trusted, key, shown)

    def dial(self, address: str) -> Any:
        """A channel to `host:port`, which connects when it is first used."""
        if self._tls is None:
            return grpc.aio.insecure_channel(address, _CHANNEL)
        return grpc.aio.secure_channel(address, self._tls, _CHANNEL)

    def stub(self, make: Any, channel: Any) -> Any:
        """A stub on a channel, whose calls carry the key or token, if there is one."""
        stub = make(channel)
        return _Carrying(stub, self._carried) if self._carried else stub


class _Carrying:
    """A stub whose calls carry an API key or a token."""

    def __init__(self, stub: Any, carried: tuple[tuple[str, str], ...]) -> None:
        self._stub, self._carried = stub, carried

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._stub, method)

        def carrying(*args: Any, metadata: Iterable[tuple[str, str]] = (), **options: Any) -> Any:
            return call(*args, metadata=(*metadata, *self._carried), **options)

        return carrying


def _carried(api_key: str) -> tuple[tuple[str, str], ...]:
    if not all("!" <= character <= "~" for character in api_key):
        # Not what it is: that would be in logs.
        raise Config("the API key or token has characters that no such text has")
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()


def _read(what: str, pem: Pem, holds: bytes) -> bytes:
    """The PEM, which must hold something of this kind."""
    try:
        content = pem if isinstance(pem, bytes) else pathlib.Path(pem).read_bytes()
    except (OSError, ValueError) as error:
        raise Config(f"{what}: it cannot be read: {error}") from None
    if holds not in content:
        kind = "private key" if b"KEY" in holds else "certificate"
        raise Config(f"{what}: it holds no {kind} in PEM")
    return content
