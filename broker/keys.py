"""Every key name of the broker. The Lua scripts get the same templates from `lua_layout`, so there is no second list.

A key of a shard starts with `bl:{<shard>}:`. The braces are a Redis Cluster hash tag: all keys of a shard share a slot,
which is what lets a script derive further keys from the tag of the one it was given. The shard follows from the tenant.
A request is addressed as `<tenant>/<request_id>`, because ids are unique within a tenant only.
"""

import functools
import re
import zlib

from broker.types import Interval, RequestRef

_LAYOUT = {
    "request": "req:%s",
    "log": "log:%s",
    "story": "story:%s",
    "recent": "recent",
    "queue": "q:%s:%s",
    "waiting": "waiting:%s",
    "fair": "fair:%s",
    "fair_batch": "fair:%s:batch",
    "lease": "lease:%s",
    "bell": "bell:%s",
    "leave": "leave:%s",
    "pool": "pool:%s",
    "tenant": "tenant:%s",
    "quota": "quota:%s:%s:%s",
    "usage": "usage:%s:%s:%s",
    "inbox": "in:%s",
    "control": "ctl:%s",
    "dead": "dead",
}

# Names become parts of keys, so nothing may pass that could end a part or a hash tag.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")
_POOL = re.compile(r"[A-Za-z0-9._-]{1,128}/[A-Za-z0-9._-]{1,32}")

# The same few names are asked for with every chunk of a stream.
_cached = functools.lru_cache(maxsize=8192)


def shard_of(tenant: str, shards: int) -> int:
    """The shard of all keys of a tenant. CRC-32 rather than `hash`, which differs between processes."""
    return zlib.crc32(tenant.encode()) % shards


@_cached
def member(ref: RequestRef) -> str:
    """How a request is named inside a shard: in its key, in a queue, in a lease set, in an event."""
    return f"{_name(ref.tenant, 'tenant')}/{_name(ref.request_id, 'request id')}"


@_cached
def parse_member(text: bytes) -> RequestRef:
    """The request that `member` named."""
    tenant, _, request_id = text.decode().partition("/")
    return RequestRef(tenant, request_id)


@_cached
def request(shard: int, ref: RequestRef) -> str:
    """Hash: everything about a request but its log. Expires after the end."""
    return _key(shard, "request", member(ref))


@_cached
def log(shard: int, ref: RequestRef) -> str:
    """List: the numbered chunks of a request. Expires after the end."""
    return _key(shard, "log", member(ref))


def story(shard: int, ref: RequestRef) -> str:
    """List: what happened to a request, and when. Expires with its log."""
    return _key(shard, "story", member(ref))


def recent(shard: int) -> str:
    """List: the requests that were admitted last, newest first. Capped."""
    return _key(shard, "recent")


@_cached
def queue(shard: int, pool: str, tenant: str) -> str:
    """Sorted set: waiting requests of a tenant in a pool by priority, then arrival."""
    return _key(shard, "queue", _pool(pool), _name(tenant, "tenant"))


def waiting(shard: int, pool: str) -> str:
    """Sorted set: waiting requests of a pool by priority, then by when they began to wait."""
    return _key(shard, "waiting", _pool(pool))


def fair(shard: int, pool: str) -> str:
    """Sorted set: tenants with interactive or standard requests waiting, by their virtual time for these."""
    return _key(shard, "fair", _pool(pool))


def fair_batch(shard: int, pool: str) -> str:
    """Sorted set: tenants with batch requests waiting, by their virtual time for these."""
    return _key(shard, "fair_batch", _pool(pool))


@_cached
def lease(shard: int, pool: str) -> str:
    """Sorted set: running requests by the end of their lease, in ms of the server's clock."""
    return _key(shard, "lease", _pool(pool))


def bell(shard: int, pool: str) -> str:
    """List: holds one token while work waits that nobody was woken for."""
    return _key(shard, "bell", _pool(pool))


def leave(shard: int, worker: str) -> str:
    """List: a token that ends the wait of one worker. Expires."""
    return _key(shard, "leave", _name(worker, "worker"))


def pool(shard: int, pool: str) -> str:
    """Hash: arrivals, claims, waiting tokens and the tenants' weights by class, virtual clocks, the rate."""
    return _key(shard, "pool", _pool(pool))


def tenant(shard: int, tenant: str) -> str:
    """Hash: the tenant's own account, and its virtual times, weight and waiting tokens in each pool."""
    return _key(shard, "tenant", _name(tenant, "tenant"))


@_cached
def account(key: str, model: str) -> str:
    """How an account is named among those of its tenant; an empty part stands for all."""
    return f"{key and _name(key, 'key')}:{model and _name(model, 'model')}"


@_cached
def account_hash(shard: int, tenant: str, key: str, model: str) -> str:
    """Hash: waiting, running, reserved tokens and cost, buckets, spent in this day and month."""
    if not key and not model:
        return _key(shard, "tenant", _name(tenant, "tenant"))
    return _key(shard, "quota", _name(tenant, "tenant"), *account(key, model).split(":"))


def usage(shard: int, tenant: str, interval: Interval, number: int) -> str:
    """Hash: what ended in one interval, counted from the epoch, by key, pool, task and metric. Expires."""
    return _key(shard, "usage", _name(tenant, "tenant"), interval.value, str(number))


def inbox(shard: int, router: str) -> str:
    """Stream: chunks and endings for one router process. Expires when the router stops reading."""
    return _key(shard, "inbox", _name(router, "router"))


def control(shard: int, worker: str) -> str:
    """List: requests that were ended, or taken away, under a worker. Capped; expires."""
    return _key(shard, "control", _name(worker, "worker"))


def dead(shard: int) -> str:
    """Stream: dead letters."""
    return _key(shard, "dead")


def workers(pool: str) -> str:
    """Sorted set: workers of a pool by their last heartbeat. One slot for the whole registry."""
    return f"bl:{{workers}}:{_pool(pool)}"


def worker_info(pool: str) -> str:
    """Hash: what each worker said with its last heartbeat."""
    return f"bl:{{workers}}:{_pool(pool)}:info"


def fitness(pool: str) -> str:
    """Hash: how each worker does of late, and whether it is ejected."""
    return f"bl:{{workers}}:{_pool(pool)}:fitness"


def directives(pool: str) -> str:
    """Hash: what operators want of workers, by the worker's name."""
    return f"bl:{{workers}}:{_pool(pool)}:directives"


def document(name: str) -> str:
    """List: the versions of a document, newest first. One slot for the whole store."""
    return f"bl:{{documents}}:doc:{_path(name)}"


def document_head() -> str:
    """Hash: the store's id, made with its first document, and its revision."""
    return "bl:{documents}:head"


def document_changes() -> str:
    """Sorted set: names of documents by the revision of their last change."""
    return "bl:{documents}:changes"


def audit() -> str:
    """Stream: changes that somebody made. Capped."""
    return "bl:{documents}:audit"


def counters(name: str) -> str:
    """Hash: counters that belong to a document."""
    return f"bl:{{documents}}:count:{_path(name)}"


def lua_layout() -> str:
    """The same templates as a Lua function `key(name, ...)`, which reuses the hash tag of KEYS[1]."""
    rows = ", ".join(f"{name} = '{template}'" for name, template in _LAYOUT.items())
    return (
        f"local LAYOUT = {{{rows}}}\n"
        "local TAG = string.match(KEYS[1], '^bl:{[^}]+}:')\n"
        "local function key(name, ...) return TAG .. string.format(LAYOUT[name], ...) end\n"
    )


def label(text: str, what: str) -> str:
    """A name that becomes part of a field. Raises ValueError as for keys; may be empty."""
    return text and _name(text, what)


def _key(shard: int, name: str, *parts: str) -> str:
    return f"bl:{{{shard}}}:{_LAYOUT[name] % parts}"


def _name(text: str, what: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{what} {text!r} cannot be part of a key: use 1 to 256 of A-Z a-z 0-9 . _ -")
    return text


def _path(text: str) -> str:
    """Names with slashes between them."""
    for part in text.split("/"):
        _name(part, "document")
    return text


def _pool(text: str) -> str:
    if _POOL.fullmatch(text) is None:
        raise ValueError(f"pool {text!r} cannot be part of a key: write it model/precision, of A-Z a-z 0-9 . _ -")
    return text
