"""The text of a reply: whole characters, and nothing of a stop text."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.text import TextStream


def collect(pieces: list[str] | list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    stream = TextStream(stop)
    out = [stream.push(piece) for piece in pieces]
    return [*out, stream.flush()], stream.stopped


def test_an_unfinished_character_is_held_back() -> None:
    bits = [bytes([b]) for b in "é😀".encode()]
    assert collect(bits) == (["", "é", "", "", "", "😀", ""], False)


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert collect([b"a\xff", b"b\xf0\x9f"]) == (["a\ufffd", "b", "\ufffd"], False)


def test_a_stop_text_over_several_pieces_never_shows() -> None:
    assert collect(["one ", "E", "N", "D two"], ("END",)) == (["one ", "", "", "", ""], True)


def test_what_might_have_been_a_stop_text_comes_later() -> None:
    assert collect(["a E", "N", "X"], ("END",)) == (["a ", "", "ENX", ""], False)
    assert collect(["a E", "N"], ("END",)) == (["a ", "", "EN"], False)


def test_the_stop_text_that_is_complete_first_counts() -> None:
    assert collect(["xabcd"], ("bcd", "c", "abc")) == (["x", ""], True)
    assert collect(["xab"], ("b", "ab")) == (["x", ""], True)


def test_nothing_comes_after_the_end() -> None:
    stream = TextStream(["."])
    assert stream.push("a. b") == "a"
    assert stream.push(" c") == ""
    assert stream.flush() == ""


def test_an_unfinished_character_before_a_stop_text() -> None:
    assert collect([b"a\xf0", b"!b"], ("!",)) == (["a", "\ufffd", ""], True)


@settings(max_examples=50, deadline=None)
@given(
    text=st.text(alphabet="ab😀é", max_size=24),
    stop=st.lists(st.text(alphabet="ab😀", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_the_joined_text_does_not_depend_on_the_cuts(text: str, stop: list[str], cuts: list[int]) -> None:
    data = text.encode()
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    whole, stopped = collect([data], tuple(stop))
    out, also_stopped = collect(pieces, tuple(stop))
    assert ("".join(out), also_stopped) == ("".join(whole), stopped)
    assert text.startswith("".join(out))
    assert not any(s in "".join(out) for s in stop)
    # Stopped at the end that comes first, if there is one.
    ends = [text.find(s) + len(s) for s in stop if s in text]
    assert stopped == bool(ends)
    if ends:
        assert len("".join(out)) == min(min(ends) - len(s) for s in stop if text[: min(ends)].endswith(s))


@pytest.mark.parametrize("stop", [(), ("zz",), ("b", "ab")])
def test_a_new_stream_gets_into_the_same_state_by_the_same_pieces(stop: tuple[str, ...]) -> None:
    pieces = [b"a\xf0\x9f", b"\x98\x80z", b"z?", b"ab"]
    for cut in range(len(pieces) + 1):
        first, second = TextStream(stop), TextStream(stop)
        begun = [first.push(p) for p in pieces[:cut]]
        assert [second.push(p) for p in pieces[:cut]] == begun
        rest = [first.push(p) for p in pieces[cut:]] + [first.flush()]
        assert [second.push(p) for p in pieces[cut:]] + [second.flush()] == rest
