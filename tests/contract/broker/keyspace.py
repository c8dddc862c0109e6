"""The whole keyspace of a shard, read in one round trip, as the invariants look at it."""

from dataclasses import dataclass, field
from typing import TypeAlias, cast

from broker import Broker
from broker.connection import Reply

Hash: TypeAlias = dict[str, bytes]

# Test-only: production code never enumerates keys.
_DUMP = """
local dump = {}
for _, name in ipairs(redis.call('KEYS', ARGV[1])) do
  local kind = redis.call('TYPE', name).ok
  local value
  if kind == 'hash' then value = redis.call('HGETALL', name)
  elseif kind == 'list' then value = redis.call('LRANGE', name, 0, -1)
  elseif kind == 'zset' then value = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
  elseif kind == 'stream' then value = redis.call('XRANGE', name, '-', '+')
  else value = redis.call('GET', name) end
  dump[#dump + 1] = {name, kind, value}
end
return dump
"""


@dataclass
class Keyspace:
    """By the part of the name behind the hash tag."""

    hashes: dict[str, Hash] = field(default_factory=dict[str, Hash])
    lists: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])
    sorted_sets: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    streams: dict[str, list[tuple[bytes, list[bytes]]]] = field(
        default_factory=dict[str, list[tuple[bytes, list[bytes]]]]
    )

    def named(self, prefix: str) -> dict[str, Hash]:
        """The hashes whose name starts with a prefix, by the rest of their name."""
        return {name.removeprefix(prefix): value for name, value in self.hashes.items() if name.startswith(prefix)}

    def sets(self, prefix: str) -> dict[str, dict[str, float]]:
        """The sorted sets whose name starts with a prefix, by the rest of their name."""
        return {n.removeprefix(prefix): value for n, value in self.sorted_sets.items() if n.startswith(prefix)}

    def accounts(self) -> dict[tuple[str, str, str], Hash]:
        """The hashes of all accounts by tenant, key and model; a tenant's own has neither."""
        own = {(tenant, "", ""): book for tenant, book in self.named("tenant:").items()}
        further: dict[tuple[str, str, str], Hash] = {}
        for name, book in self.named("quota:").items():
            tenant, key, model = name.split(":")
            further[tenant, key, model] = book
        return own | further


async def read_keyspace(broker: Broker, shard: int = 0) -> Keyspace:
    tag = f"bl:{{{shard}}}:"
    dump = await broker._shards[shard].command("EVAL", _DUMP, 0, f"bl:{{{shard}}}:*")  # pyright: ignore[reportPrivateUsage]
    space = Keyspace()
    for name, kind, value in cast("list[tuple[bytes, bytes, list[bytes]]]", dump):
        short = name.decode().removeprefix(tag)
        match kind:
            case b"hash":
                space.hashes[short] = dict(zip((k.decode() for k in value[::2]), value[1::2], strict=True))
            case b"list":
                space.lists[short] = value
            case b"zset":
                members = (member.decode() for member in value[::2])
                space.sorted_sets[short] = dict(zip(members, map(float, value[1::2]), strict=True))
            case b"stream":
                space.streams[short] = cast("list[tuple[bytes, list[bytes]]]", value)
            case _:
                assert short == "clock", f"a key that nobody knows: {name!r}"
    return space


async def all_bytes(broker: Broker) -> bytes:
    """Everything that a shard holds, for 'is this text anywhere?'."""
    reply: Reply = await broker._shards[0].command("EVAL", _DUMP, 0, "*")  # pyright: ignore[reportPrivateUsage]
    return repr(reply).encode()
