"""The nodes that the client knows, how each of them is doing, and which to ask next.

A node that does not answer is *lost*: no call goes to it while another node is left, until a probe in the background
succeeds. Next to a lost node, the others of its data center are asked last for a while, since fires take whole ones.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from . import options
from .dialer import Dialer
from .errors import Config, Fault, fault_of, from_rpc
from .retry import Random
from .v1 import admin_pb2, admin_pb2_grpc, changes_pb2_grpc, messages_pb2_grpc, tenants_pb2_grpc

_STUBS: dict[str, Any] = {
    "messages": messages_pb2_grpc.MessagesStub,
    "conversations": messages_pb2_grpc.ConversationsStub,
    "admin": admin_pb2_grpc.AdminStub,
    "changes": changes_pb2_grpc.ChangesStub,
    "tenants": tenants_pb2_grpc.TenantsStub,
}


@dataclasses.dataclass(frozen=True)
class NodeHealth:
    """How a node has been doing, as seen by this client."""

    #: host:port.
    address: str
    #: Its number; 0 while it has not been learnt.
    node_id: int
    name: str
    dc: str
    #: It did not answer when last asked.
    lost: bool
    #: Calls and streams that are using it.
    active: int


@dataclasses.dataclass(eq=False)
class Node:
    """A node that the client knows."""

    address: str
    rank: float
    id: int = 0
    name: str = ""
    dc: str = ""
    active: int = 0
    lost_at: float | None = None
    next_probe: float = 0.0
    probe_interval: float = options.MAINTAIN_INTERVAL
    refusals: int = 0
    leaving_at: float | None = None
    #: The shortest answer to a probe lately, seconds: how far it is.
    round: float | None = None
    dialer: Dialer = dataclasses.field(default_factory=Dialer, repr=False)
    _channel: Any = None
    _stubs: dict[str, Any] = dataclasses.field(default_factory=dict)

    def stub(self, service: str) -> Any:
        """The stub of a service: messages, conversations, admin, changes, tenants. Connects when first used."""
        if self._channel is None:
            self._channel = self.dialer.dial(self.address)
            self._stubs = {name: self.dialer.stub(make, self._channel) for name, make in _STUBS.items()}
        return self._stubs[service]

    def is_leaving(self, now: float) -> bool:
        return self.leaving_at is not None and now - self.leaving_at < options.LEAVING_VALID

    def lose(self, now: float) -> None:
        # Many calls in flight fail together: that is one loss.
        if self.lost_at is None:
            self.lost_at, self.probe_interval = now, options.MAINTAIN_INTERVAL
            self.next_probe = now + self.probe_interval

    def succeeded(self) -> None:
        self.lost_at, self.refusals = None, 0

    def failed(self, fault: Fault, now: float) -> None:
        """What a failed attempt says about the node."""
        if fault is Fault.NODE:
            self.lose(now)
        elif fault is Fault.LEAVING:
            self.leaving_at = now
        elif fault is Fault.REFUSED:
            self.refusals += 1
            if self.refusals >= options.REFUSALS_MAX:
                self.refusals = 0
                self.lose(now)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class Tried:
    """Which nodes one call has tried already."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        #: The data center that failed last.
        self.avoid_dc = ""

    def ended(self, node: Node, fault: Fault) -> None:
        """The node did not help, for this reason; those beside one that goes away still may."""
        self.addresses.append(node.address)
        if fault is not Fault.LEAVING:
            self.avoid_dc = node.dc

    def forget(self) -> None:
        """Forgets which nodes were tried, but not the data center to keep away from."""
        self.addresses.clear()


def distance(round: float) -> int:
    """How far away: a metropolis, a country, a continent, the world. Coarse, so that calls spread over equals."""
    return 0 if round < 0.010 else 1 if round < 0.060 else 2 if round < 0.150 else 3


def best(nodes: Iterable[Node], tried: Tried, now: float) -> Node:
    """The best node for a call that has tried some."""
    nodes = list(nodes)
    suspects = {n.dc for n in nodes if n.dc and n.lost_at is not None and now - n.lost_at < options.DC_SUSPECT}
    rounds: dict[str, float] = {}
    for node in nodes:
        if node.dc and node.round is not None and node.lost_at is None:
            rounds[node.dc] = min(node.round, rounds.get(node.dc, node.round))

    def score(node: Node) -> tuple[Any, ...]:
        shunned = bool(node.dc) and (node.dc == tried.avoid_dc or node.dc in suspects)
        # Unknown is near, so that it becomes known.
        round = node.round if node.round is not None else rounds.get(node.dc, 0.0)
        times = tried.addresses.count(node.address)
        lost, leaving = node.lost_at is not None, node.is_leaving(now)
        return (lost, leaving, times, shunned, distance(round), node.active, node.rank)

    return min(nodes, key=score)


class Nodes:
    """All nodes of a client."""

    def __init__(
        self,
        endpoints: Iterable[str],
        random: Random,
        discover: bool,
        clock: Callable[[], float] = time.monotonic,
        dialer: Dialer | None = None,
    ) -> None:
        self._random, self._discover, self.clock, self._dialer = random, discover, clock, dialer or Dialer()
        self.closed = False
        self.known: dict[str, Node] = {}
        for endpoint in endpoints:
            host, _, port = endpoint.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65_536:
                raise Config(f"{endpoint!r} is no address: host:port is needed")
            self._add(endpoint)
        if not self.known:
            raise Config("no endpoint was given, host:port is needed")

    def _add(self, address: str) -> Node | None:
        if address not in self.known and len(self.known) < options.NODES_MAX:
            self.known[address] = Node(address, self._random.rank(), dialer=self._dialer)
        return self.known.get(address)

    def choose(self, tried: Tried) -> Node:
        return best(self.known.values(), tried, self.clock())

    def has_fresh(self, tried: Tried) -> bool:
        """Whether a node is left that is neither lost nor tried: moving to it needs no wait."""
        return any(n.lost_at is None and n.address not in tried.addresses for n in self.known.values())

    def health(self) -> list[NodeHealth]:
        known = sorted(self.known.values(), key=lambda node: node.address)
        return [NodeHealth(n.address, n.id, n.name, n.dc, n.lost_at is not None, n.active) for n in known]

    def learn(self, asked: Node, status: Any) -> None:
        """Takes in what the node `asked` says about the cluster."""
        for one in status.nodes:
            # An endpoint may be another name for the node's own address.
            itself = one.node_id == status.node_id
            if itself:
                self._describe(asked, one)
            twin = next((n for n in self.known.values() if n.id == one.node_id and n.address != one.address), None)
            if twin is not None and twin.lost_at is None:
                continue
            node = self._add(one.address) if self._discover else self.known.get(one.address)
            if node is not None:
                self._describe(node, one)

    def _describe(self, node: Node, status: Any) -> None:
        node.id, node.name, node.dc = status.node_id, status.name, status.dc
        if status.draining:
            node.leaving_at = self.clock()

    async def probe(self, node: Node) -> bool:
        """Asks one node for the cluster's status, and learns from it; whether it answered."""
        began = self.clock()
        try:
            request = admin_pb2.GetStatusRequest()
            status = await node.stub("admin").GetStatus(request, timeout=options.PROBE_TIMEOUT, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            now = self.clock()
            if fault_of(from_rpc(error)) is Fault.NONE:
                # It answers, and does not let this caller in.
                node.succeeded()
            elif node.lost_at is None:
                node.lose(now)
            else:
                node.probe_interval = min(node.probe_interval * 2, options.PROBE_INTERVAL_MAX)
                node.next_probe = now + node.probe_interval
            return False
        node.succeeded()
        took = self.clock() - began
        # Longer rounds count little by little: an answer waits now and then.
        node.round = took if node.round is None else min(took, node.round * 1.5 + 0.001)
        self.learn(node, status)
        return True

    async def maintain(self) -> None:
        """Learns nodes and probes the lost ones, until cancelled."""
        discover_at = self.clock()
        while True:
            now = self.clock()
            due = [n for n in self.known.values() if n.lost_at is not None and n.next_probe <= now]
            if discover_at <= now:
                asked = self.choose(Tried())
                if await self.probe(asked):
                    discover_at = now + options.DISCOVER_INTERVAL
                    # One of each other data center: its connection stays open for whoever has to go there.
                    spares = {n.dc: n for n in self.known.values() if n.dc and n.dc != asked.dc and n.lost_at is None}
                    due.extend(spares.values())
            await asyncio.gather(*(self.probe(node) for node in due))
            await asyncio.sleep(options.MAINTAIN_INTERVAL)

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self.known.values()))
