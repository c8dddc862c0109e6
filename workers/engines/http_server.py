"""An OpenAI-compatible server as a client sees it: requests that stream, health, load, and what its errors mean."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from precision.untyped import integer, items, mapping, text
from workers.engine import EngineDead, Load

_CONNECT_S = 5.0
_HEALTH_S = 5.0
_SILENT_S = 600.0
_SLOW_ANSWERS = 3
_REFUSED = frozenset({400, 413, 422})

# Gauges of the servers that have them, for (running, waiting, share of the key/value cache).
_GAUGES = (
    ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"),
    ("sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:token_usage"),
    ("llamacpp:requests_processing", "llamacpp:requests_deferred", "llamacpp:kv_cache_usage_ratio"),
)


class ServerRefused(Exception):
    """The server does not take a request as it is. Its own words are the cause: they may hold the request."""


class ServerFailed(Exception):
    """The server failed at one request, and works otherwise."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What /v1/models says of a model. `context_tokens` 0 and `root` "": it does not say."""

    name: str
    context_tokens: int
    root: str


class HttpServer:
    """`url` ends in /v1. `key` is sent as a bearer token, unless it is empty."""

    def __init__(self, url: str, key: str, connections: int) -> None:
        self._url = url.rstrip("/")
        self._root = self._url.removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._slow = 0
        self._has_health = True
        self._load: Load | None = None

    async def open(self) -> None:
        """Call it in the running loop, first."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENT_S)
        connector = aiohttp.TCPConnector(limit=self._connections + 4)  # some for health
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector, headers=self._headers)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def load(self) -> Load | None:
        """As the last health check found it; None for a server that has no metrics."""
        return self._load

    async def model(self, name: str) -> ServedModel:
        """The model of that name; of an empty one, the only one.

        Raises:
            EngineDead: the server does not answer.
            LookupError: it does not serve that model; the message names those that it does.
        """
        served = [mapping(entry) for entry in items(mapping(await self._get(f"{self._url}/models")).get("data"))]
        names = [text(entry.get("id")) for entry in served]
        if not name and len(names) != 1:
            raise LookupError(f"the server serves {', '.join(names) or 'no model'}: set served_model to one of them")
        for entry, found in zip(served, names, strict=True):
            if name in {"", found}:
                length = integer(entry.get("max_model_len")) or integer(mapping(entry.get("meta")).get("n_ctx_train"))
                return ServedModel(found, length, text(entry.get("root")))
        raise LookupError(f"the server serves {', '.join(names) or 'no model'}, not {name}")

    async def version(self) -> str:
        """What /version says; "" for a server that does not have it."""
        try:
            said = mapping(await self._get(f"{self._root}/version"))
        except (ServerFailed, EngineDead):
            return ""
        return text(said.get("version"))

    async def stream(
        self, path: str, body: Mapping[str, object], headers: Mapping[str, str]
    ) -> AsyncGenerator[Mapping[str, object]]:
        """The events of a streamed answer. Closing it drops the connection, on which servers stop generating.

        Raises:
            ServerRefused, ServerFailed, EngineDead
        """
        try:
            async with self._opened().post(f"{self._url}/{path}", json=body, headers=headers) as response:
                if response.status != 200:
                    await _raise(response)
                async for line in response.content:
                    if not line.startswith(b"data:"):
                        continue
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        return
                    event = mapping(json.loads(data))
                    if "error" in event:
                        raise ServerFailed("the server ended the stream with an error") from RuntimeError(str(event))
                    yield event
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            await self._raise_if_dead(error)
            raise ServerFailed(f"the connection failed: {type(error).__name__}") from error

    async def health(self) -> None:
        """Asks whether the server can work, and for its load.

        Raises:
            EngineDead: it refuses connections, says that it is not well, or was silent three times.
        """
        try:
            await self._ask_health()
        except aiohttp.ClientConnectorError as error:
            raise EngineDead("the server takes no connections") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            self._slow += 1
            if self._slow >= _SLOW_ANSWERS:
                raise EngineDead(f"the server did not answer {_SLOW_ANSWERS} times") from error
        else:
            self._slow = 0

    async def _ask_health(self) -> None:
        path = f"{self._root}/health" if self._has_health else f"{self._url}/models"
        async with self._brief(path) as response:
            if response.status in {404, 405} and self._has_health:
                self._has_health = False
                return
            if response.status >= 500:
                raise EngineDead(f"the server says that it is not well: {response.status}")
        async with self._brief(f"{self._root}/metrics") as response:
            self._load = _load_of(await response.text()) if response.status == 200 else None

    async def _raise_if_dead(self, cause: Exception) -> None:
        try:
            await self._ask_health()
        except (aiohttp.ClientError, TimeoutError, EngineDead) as error:
            raise EngineDead(f"the server is gone: {type(cause).__name__}") from error

    async def _get(self, url: str) -> object:
        try:
            async with self._brief(url) as response:
                if response.status != 200:
                    raise ServerFailed(f"{url} answered {response.status}")
                return json.loads(await response.text())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineDead(f"the server does not answer at {url}: {type(error).__name__}") from error
        except ValueError as error:
            raise ServerFailed(f"{url} is no JSON") from error

    @asynccontextmanager
    async def _brief(self, url: str) -> AsyncGenerator[aiohttp.ClientResponse]:
        async with asyncio.timeout(_HEALTH_S), self._opened().get(url) as response:
            yield response

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            raise EngineDead("the connection to the server was closed")
        return self._session


async def _raise(response: aiohttp.ClientResponse) -> None:
    said = RuntimeError(f"{response.status}: {(await response.text())[:2000]}")
    if response.status in _REFUSED:
        raise ServerRefused(f"the server answered {response.status}") from said
    raise ServerFailed(f"the server answered {response.status}") from said


def _load_of(metrics: str) -> Load | None:
    """From Prometheus text: sums over labels, but the fullest cache."""
    values: dict[str, list[float]] = {}
    wanted = {name for names in _GAUGES for name in names}
    for line in metrics.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in wanted:
            try:
                values.setdefault(name, []).append(float(line.rsplit(" ", 1)[1]))
            except (ValueError, IndexError):
                continue
    for running, waiting, cache in _GAUGES:
        if running in values:
            full = max(values[cache]) if cache in values else None
            return Load(int(sum(values[running])), int(sum(values.get(waiting, [0]))), full)
    return None
