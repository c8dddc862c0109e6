"""Scripts that count their own work: what a call costs, in units that no busy machine changes."""

import hashlib
from collections.abc import Awaitable

from broker import Broker, BrokerOptions
from broker.scripts import Script, load_scripts

_WORK = "bl:{0}:work"
# Stands before each script, which then finds this `redis` and not the server's.
_COUNTED = """
local server = redis
local function size(reply)
  if type(reply) ~= 'table' then return 1 end
  local sum = 0
  for _, item in ipairs(reply) do sum = sum + size(item) end
  return sum
end
local redis = setmetatable({call = function(...)
  local reply = server.call(...)
  server.call('INCRBY', 'bl:{0}:work', select('#', ...) + size(reply))
  return reply
end}, {__index = server})
"""


def counting_scripts(options: BrokerOptions) -> dict[str, Script]:
    """All transitions, which add up what they do.

    One unit is one argument given to a command, its name included, or one item that came back: a command that reads or
    deletes a whole list costs as much as the list is long.
    """
    return {name: _counting(script) for name, script in load_scripts(options).items()}


def _counting(script: Script) -> Script:
    text = _COUNTED.encode() + script.text
    return Script(script.name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


async def work_of(broker: Broker, call: Awaitable[object]) -> int:
    """The units of a call to a broker of one shard that has the counting scripts."""
    await broker._shards[0].command("DEL", _WORK)  # pyright: ignore[reportPrivateUsage]
    await call
    counted = await broker._shards[0].command("GET", _WORK)  # pyright: ignore[reportPrivateUsage]
    assert isinstance(counted, bytes), "no script ran"
    return int(counted)
