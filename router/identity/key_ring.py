"""An issuer's keys, kept up to date beside the calls that need them."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from router.identity.config import JwtConfig
from router.identity.key_set import VerifyingKey, parse_key_set
from router.identity.sources import TIMEOUT_S, FileSource, Source, UrlSource, in_thread

_log = structlog.get_logger("bitlane.router")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a source is asked, in seconds."""

    usual: float
    after_failure: float
    soonest: float  # after the last time, when a token has a key that is not known


_FILE = Pace(usual=1.0, after_failure=1.0, soonest=1.0)
_URL = Pace(usual=300.0, after_failure=15.0, soonest=5.0)


class KeyRing:
    """The keys by their id. What cannot be read never replaces what is good; the last good keys stay for ever."""

    def __init__(self, name: str, source: Source, pace: Pace) -> None:
        self._name = name
        self._source = source
        self._pace = pace
        self._keys: Mapping[str, VerifyingKey] = {}
        self._missed = asyncio.Event()
        self._reading: asyncio.Task[bytes | None] | None = None
        self._failed = False
        self.ready = False  # keys were read at least once
        self.generation = 0  # grows when the keys change

    def find(self, kid: str) -> VerifyingKey | None:
        """From memory. An unknown key makes `run` ask for the set soon: the issuer may have changed its keys."""
        key = self._keys.get(kid)
        if key is None:
            self.want()
        return key

    def want(self) -> None:
        """Makes `run` ask soon."""
        self._missed.set()

    async def refresh(self) -> None:
        """Asks once. Failures are logged; never raises."""
        self._missed.clear()
        try:
            text = await self._read()
            keys = parse_key_set(text) if text is not None else None
        except (OSError, ValueError) as error:
            self._failed = True
            _log.error("jwks.bad", issuer=self._name, error=str(error) or type(error).__name__, hint=self._hint)
            return
        self._failed = False
        if keys is None or (self.ready and keys == self._keys):
            return
        self._keys = keys
        self.ready = True
        self.generation += 1
        log = _log.info if keys else _log.error
        log("jwks.loaded", issuer=self._name, keys=len(keys))

    async def run(self) -> None:
        """Keeps the keys up to date until cancelled."""
        while True:
            asked = time.monotonic()
            pause = self._pace.after_failure if self._failed else self._pace.usual
            try:
                async with asyncio.timeout(pause * random.uniform(0.8, 1.0)):
                    await self._missed.wait()
                    await asyncio.sleep(asked + self._pace.soonest - time.monotonic())
            except TimeoutError:
                pass
            await self.refresh()

    async def _read(self) -> bytes | None:
        """Bounded in time. A reader that hangs is waited for, rather than joined by another one each time."""
        if self._reading is None:
            self._reading = asyncio.create_task(in_thread(self._source))
        done, _ = await asyncio.wait([self._reading], timeout=TIMEOUT_S)
        if not done:
            raise TimeoutError("no answer in time")
        reading, self._reading = self._reading, None
        return reading.result()

    @property
    def _hint(self) -> str:
        return "the last good keys stay" if self.ready else "its tokens are refused as UNAVAILABLE until it answers"


def key_ring(config: JwtConfig) -> KeyRing:
    """The keys of an issuer of the configuration."""
    if config.jwks_file is not None:
        return KeyRing(config.name, FileSource(config.jwks_file), _FILE)
    assert config.jwks_url is not None  # the configuration has one of both
    return KeyRing(config.name, UrlSource(config.jwks_url), _URL)
