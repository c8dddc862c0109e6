"""What operators change at run time, followed by this router: documents of the broker's store, in parsed form.

A question a few times a second finds what changed. What cannot be read never replaces what is good: it is reported, and
the last good one stays; so does everything while the broker is away.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Protocol

import structlog

from broker.documents import Document, Documents, Revision
from broker.types import BrokerUnavailable

_log = structlog.get_logger("bitlane.router")
_PERIOD_S = 0.25
_AT_ONCE = 1000  # documents that are asked for together: each has the broker's timeout
_MOST_LINES = 20  # of documents that change together, in the log


class Follower(Protocol):
    """Keeps the documents of one kind, the first part of their names."""

    @property
    def old_is_good(self) -> bool:
        """Whether an older version stands in for one that cannot be read."""
        ...

    def load(self, key: str, document: Document) -> None:
        """Takes a new version of `<kind>/<key>`. Raises ValueError, its text for the log, when it cannot be used."""

    def reset(self) -> None:
        """Forgets all documents: the store lost them."""


class DocumentWatch:
    """Hands changed documents to the followers of their kind.

    `complete` is called when all that is stored was handed over. It may store what is missing, and says whether it did.
    """

    def __init__(
        self, documents: Documents, followers: Mapping[str, Follower], complete: Callable[[], Awaitable[bool]]
    ) -> None:
        self._documents = documents
        self._followers = followers
        self._complete = complete
        self._seen = Revision()
        self._refreshing = asyncio.Lock()

    async def refresh(self) -> None:
        """Takes over what changed.

        Raises:
            BrokerUnavailable
        """
        # One at a time: an answer that is overtaken by a later one must not undo it.
        async with self._refreshing:
            await self._take_over()
            while await self._complete():
                await self._take_over()

    async def catch_up(self) -> None:
        """Takes over what changed, so that this router acts on a change before its author is answered.

        While the broker is away that waits: the change is stored, and its author shall know.
        """
        with suppress(BrokerUnavailable):
            await self.refresh()

    async def run(self) -> None:
        """Refreshes until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD_S * random.uniform(0.8, 1.2))
            try:
                await self.refresh()
            except BrokerUnavailable:
                continue  # the watch over the pools says so already

    async def _take_over(self) -> None:
        revision, names = await self._documents.changes(self._seen)
        changed: list[Document | None] = []
        for first in range(0, len(names), _AT_ONCE):
            some = names[first : first + _AT_ONCE]
            changed += await asyncio.gather(*(self._documents.get(name) for name in some))
        if self._seen.store and revision.store != self._seen.store:
            _log.error("documents.lost", hint="the store is another one; the configuration applies again")
            for follower in self._followers.values():
                follower.reset()
        for document in changed:
            if document is not None and not self._load(document, quiet=len(changed) > _MOST_LINES):
                await self._load_older(document)
        if len(changed) > _MOST_LINES:
            _log.info("documents.loaded", documents=len(changed))
        self._seen = revision

    def _load(self, document: Document, *, quiet: bool = False) -> bool:
        kind, _, key = document.name.partition("/")
        follower = self._followers.get(kind)
        if follower is None:
            return True  # of a newer release
        try:
            follower.load(key, document)
        except ValueError as error:
            _log.error(
                "document.bad",
                name=document.name,
                version=document.version,
                author=document.author,
                error=str(error)[:500],
                hint="the last good version stays" if follower.old_is_good else "it counts for nothing",
            )
            return not follower.old_is_good
        if not quiet:
            _log.info("document.loaded", name=document.name, version=document.version, author=document.author)
        return True

    async def _load_older(self, bad: Document) -> None:
        """The last good version stays, also for a router that has just started and holds none."""
        for document in await self._documents.versions(bad.name):
            if document.version < bad.version and self._load(document):
                return
