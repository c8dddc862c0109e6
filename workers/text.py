"""From pieces of bytes or text to the text of a reply: whole characters, and nothing of a stop text.

Shared by all engines. What comes out is a function of what went in alone: a request that moves to another worker pushes
its logged tokens again and is then in the same state.
"""

import codecs
from collections.abc import Sequence


class TextStream:
    """Joins pieces, holding back what is not final yet.

    Held back are the bytes of an unfinished character, and an ending of the text with which one of `stop` may begin.
    The joined result, flushed, does not depend on how the text was cut into pieces. Bytes that are no UTF-8 become
    U+FFFD.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(s for s in stop if s)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether a stop text has come. Later pieces are ignored."""
        return self._stopped

    def push(self, piece: str | bytes) -> str:
        """Takes the next piece and returns the text that is final now: never a part of a stop text."""
        if self._stopped:
            return ""
        text = self._decoder.decode(piece) if isinstance(piece, bytes) else piece
        if not self._stop:
            return text  # the decoder alone holds back; most replies come this way, token by token
        self._held += text
        end = self._first_stop()
        if end is not None:
            self._stopped = True
            final, self._held = self._held[:end], ""
            return final
        keep = self._possible_stop()
        cut = len(self._held) - keep
        final, self._held = self._held[:cut], self._held[cut:]
        return final

    def flush(self) -> str:
        """Ends the text: returns what was held back. An unfinished character becomes U+FFFD."""
        if self._stopped:
            return ""
        final = self.push(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return final

    def _first_stop(self) -> int | None:
        """Where the stop text begins that is complete first; of several complete at once, the longest."""
        found = [(at + len(s), at) for s in self._stop if (at := self._held.find(s)) >= 0]
        return min(found)[1] if found else None

    def _possible_stop(self) -> int:
        """How many characters at the end could be the beginning of a stop text."""
        longest = 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest
