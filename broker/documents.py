"""Small documents that an operator changes and every router follows: policies, gates, and whatever comes to them.

A document is a text with versions. A put says which version it was made from, so that no update is lost unseen; what
changed is found by one small question, which a router may ask several times a second.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from broker import keys, replies
from broker.connection import Reply
from broker.pipeline import Pipeline
from broker.types import BrokerError, Change

KEPT_VERSIONS = 50
ANY = "*"  # as an etag: whichever version is current
_COUNTERS_KEPT_MS = 90 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a document."""

    name: str
    version: int  # counts from 1
    etag: str  # names this version, its text included
    author: str
    note: str
    time_ms: int  # of the put, by the server's clock
    text: str  # empty: it was cleared


@dataclass(frozen=True, slots=True)
class Revision:
    """A state of the whole store. Another `store` is one that lost its data: nothing known of the old one holds."""

    store: str = ""
    number: int = 0


class EtagMismatch(BrokerError):
    """The document has changed since the version that the put was made from. `current` is None if there is none."""

    def __init__(self, name: str, current: Document | None) -> None:
        super().__init__(f"{name} is at {current.etag if current else 'no version'} by now")
        self.current = current


class Documents:
    """The store. Every method raises BrokerUnavailable when the server is away; all are safe to repeat."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def put(self, name: str, text: str, *, author: str, etag: str, audit: Change, note: str = "") -> Document:
        """Stores a new version. Any text is taken: whoever puts it has checked it.

        Args:
            etag: of the version that it was made from; "" if there was none, ANY to replace whichever is current.
            audit: for the audit log, where the change is written in the same step, once.

        Raises:
            EtagMismatch: another version is current. Nothing was stored.
        """
        put_keys = [keys.document(name), keys.document_head(), keys.document_changes(), keys.audit()]
        status, line = replies.strings(
            await self._pipeline.run(
                "put_document",
                put_keys,
                *(name, etag, text.encode(), author.encode(), note.encode(), secrets.token_hex(8), KEPT_VERSIONS),
                *(audit.action, audit.tenant, _instead(audit.before), _instead(audit.after)),
            )
        )
        if status == b"conflict":
            raise EtagMismatch(name, _document(name, line + b"\n") if line else None)
        return _document(name, line + b"\n" + text.encode())

    async def get(self, name: str) -> Document | None:
        """The current version; None when there never was one."""
        entry = await self._pipeline.command("LINDEX", keys.document(name), 0)
        return _document(name, cast("bytes", entry)) if entry is not None else None

    async def versions(self, name: str) -> list[Document]:
        """The kept versions, newest first."""
        entries = await self._pipeline.command("LRANGE", keys.document(name), 0, -1)
        return [_document(name, entry) for entry in replies.strings(entries)]

    async def changes(self, since: Revision) -> tuple[Revision, list[str]]:
        """The state now, and the names of what changed since another one; all names if the store is another one."""
        store, number, names = replies.array(
            await self._pipeline.run(
                "changed_documents", [keys.document_head(), keys.document_changes()], since.store, since.number
            )
        )
        revision = Revision(cast("bytes", store).decode(), replies.integer(number))
        return revision, [name.decode() for name in replies.strings(names)]

    async def count(self, name: str, amounts: Mapping[str, int]) -> None:
        """Adds to the counters of this name. Not safe to repeat: a call that failed may have been counted."""
        pairs = [part for pair in amounts.items() for part in pair]
        await self._pipeline.run("count", [keys.counters(name)], _COUNTERS_KEPT_MS, *pairs)

    async def counts(self, name: str) -> dict[str, int]:
        """The counters of this name."""
        reply: Reply = await self._pipeline.command("HGETALL", keys.counters(name))
        flat = replies.strings(reply)
        return {field.decode(): int(amount) for field, amount in zip(flat[::2], flat[1::2], strict=True)}


def _instead(text: str | None) -> bytes:
    """A text that may be missing, told apart from one that is empty."""
    return b"" if text is None else b"=" + text.encode()


def _document(name: str, entry: bytes) -> Document:
    line, _, text = entry.partition(b"\n")
    head = json.loads(line)
    return Document(
        name=name,
        version=int(head["version"]),
        etag=head["etag"],
        author=head["author"],
        note=head["note"],
        time_ms=int(head["time_ms"]),
        text=text.decode(),
    )
