"""A real Redis Cluster of processes on loopback, to be killed at will."""

import asyncio
import binascii
from contextlib import ExitStack
from typing import Self

from broker import BrokerOptions
from broker.connection import Argument, Connection, Disconnected, Reply, ServerError, pack
from broker.endpoint import parse_endpoint
from deploy.local.server import LocalServer, free_port

_SLOTS = 16384
_SETTLE_S = 30.0


def slot_of(tag: str) -> int:
    """Of all keys with this hash tag: CRC-16/XMODEM, as the cluster's specification has it."""
    return binascii.crc_hqx(tag.encode(), 0) % _SLOTS


async def command(node: LocalServer, *words: Argument) -> Reply:
    """Runs one command at one node, wherever its keys may be. Raises Disconnected and ServerError."""
    connection = await Connection.open(parse_endpoint(BrokerOptions(url=node.url)), 2.0)
    try:
        (reply,) = await connection.run(pack(*words), 1, 2.0)
    finally:
        connection.close()
    if isinstance(reply, ServerError):
        raise reply
    return reply


class Cluster:
    """`count` primaries with an equal share of the slots, each with `replicas` replicas; all keep an append-only file.

    Slots of a node that is gone fail alone: `cluster-require-full-coverage no`.
    """

    def __init__(self, count: int = 3, replicas: int = 0) -> None:
        self._stack = ExitStack()
        nodes = [self._node() for _ in range(count * (1 + replicas))]
        self.primaries, rest = nodes[:count], nodes[count:]
        self.replicas = {number: rest[number::count] for number in range(count)}

    async def start(self) -> Self:
        """Starts all nodes and makes them one cluster."""
        nodes = [*self.primaries, *(each for group in self.replicas.values() for each in group)]
        for node in nodes:
            self._stack.enter_context(node)
        share = _SLOTS // len(self.primaries)
        for number, node in enumerate(nodes):
            await command(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            await command(node, "CLUSTER", "MEET", "127.0.0.1", nodes[0].port or 0, nodes[0].settings["cluster-port"])
        for number, node in enumerate(self.primaries):
            last = _SLOTS - 1 if node is self.primaries[-1] else (number + 1) * share - 1
            await command(node, "CLUSTER", "ADDSLOTSRANGE", number * share, last)
        await self._until(nodes, "CLUSTER INFO", f"cluster_known_nodes:{len(nodes)}\r", "cluster_state:ok")
        for number, group in self.replicas.items():
            primary = await command(self.primaries[number], "CLUSTER", "MYID")
            assert isinstance(primary, bytes)
            for node in group:
                await _retried(node, "CLUSTER", "REPLICATE", primary)
            await self._until(group, "INFO replication", "master_link_status:up")
        return self

    def stop(self) -> None:
        self._stack.close()

    def number_of(self, tag: str) -> int:
        """Which primary had a hash tag's slot at the start."""
        share = _SLOTS // len(self.primaries)
        return min(slot_of(tag) // share, len(self.primaries) - 1)

    async def until_promoted(self, number: int) -> None:
        """Waits until a replica of a primary that is gone has taken its slots."""
        await self._until(self.replicas[number][:1], "INFO replication", "role:master")

    async def _until(self, nodes: list[LocalServer], question: str, *signs: str) -> None:
        async with asyncio.timeout(_SETTLE_S):
            for node in nodes:
                while True:
                    answer = await _retried(node, *question.split())
                    if isinstance(answer, bytes) and all(sign.encode() in answer for sign in signs):
                        break
                    await asyncio.sleep(0.05)

    @staticmethod
    def _node() -> LocalServer:
        settings = {
            "cluster-enabled": "yes",
            "cluster-port": str(free_port()),
            "cluster-node-timeout": "1000",
            "cluster-require-full-coverage": "no",
            # A replica may take over however long it was away: there is no other.
            "cluster-replica-validity-factor": "0",
        }
        return LocalServer(port=0, durable=True, settings=settings)


async def _retried(node: LocalServer, *words: Argument) -> Reply:
    """Nodes that have just met refuse for a moment."""
    async with asyncio.timeout(_SETTLE_S):
        while True:
            try:
                return await command(node, *words)
            except (ServerError, Disconnected):
                await asyncio.sleep(0.05)
