"""Patterns with `*` and nothing else: no regular expression, so nothing that a user writes can blow up."""


class Glob:
    """A text, or one with `*` for any run of characters. Matching takes time linear in the text for each `*`."""

    __slots__ = ("_first", "_last", "_middle", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._first, *rest = text.split("*")
        self._last = rest.pop() if rest else None  # None: no star, the text itself
        self._middle = tuple(piece for piece in rest if piece)

    def matches(self, text: str) -> bool:
        if self._last is None:
            return text == self._first
        if len(text) < len(self._first) + len(self._last):
            return False
        if not (text.startswith(self._first) and text.endswith(self._last)):
            return False
        # The leftmost place of each piece leaves the most room for the next.
        at, end = len(self._first), len(text) - len(self._last)
        for piece in self._middle:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Glob) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Glob({self.text!r})"
