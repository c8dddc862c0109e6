"""Changes of documents by the admin API: made from the current version, told in the audit log, acted on at once."""

from collections.abc import Callable

from broker.documents import Document, Documents, EtagMismatch
from broker.types import Change
from router.documents import DocumentWatch
from router.faults import Fault, etag_mismatch

# Of a change for which no etag was given: each time somebody was faster.
_TRIES = 5


class Editor:
    """Writes documents for one room. Every method raises BrokerUnavailable."""

    def __init__(self, documents: Documents, watch: DocumentWatch) -> None:
        self._documents = documents
        self._watch = watch

    async def create(
        self, name: str, text: str, author: str, change: Change, *, taken: Callable[[Document], Fault | None]
    ) -> Document:
        """Stores a document where there is none, or one that may be replaced.

        Args:
            taken: what to raise about the document that is there; None when it may be replaced.
        """
        for _ in range(_TRIES):
            current = await self._documents.get(name)
            fault = taken(current) if current is not None and current.text else None
            if fault is not None:
                raise fault
            etag = current.etag if current is not None else ""
            try:
                return await self._documents.put(name, text, author=author, etag=etag, audit=change)
            except EtagMismatch:
                continue
        raise etag_mismatch("")

    async def edit(
        self,
        name: str,
        author: str,
        make: Callable[[Document], tuple[str, Change] | None],
        *,
        missing: Fault,
        etag: str = "",
    ) -> Document:
        """Replaces a document's text by what `make` makes of the current version; None leaves it as it is.

        Args:
            missing: raised when there is no such document, or it was cleared.
            etag: of the version that has to be current; empty for any.

        Raises:
            Fault: ABORTED, ETAG_MISMATCH.
        """
        current = None
        for _ in range(_TRIES):
            current = await self._documents.get(name)
            if current is None or not current.text:
                raise missing
            if etag not in ("", current.etag):
                break
            made = make(current)
            if made is None:
                return current
            text, change = made
            try:
                return await self._documents.put(name, text, author=author, etag=current.etag, audit=change)
            except EtagMismatch:
                continue
        raise etag_mismatch(current.etag if current else "")

    async def clear(self, name: str, author: str, change: Change) -> None:
        """Empties a document, if there is one with a text."""
        current = await self._documents.get(name)
        if current is not None and current.text:
            await self._documents.put(name, "", author=author, etag="*", audit=change)

    async def follow(self) -> None:
        """Makes this router act on what was changed, before it is answered; the others do within a second."""
        await self._watch.catch_up()
