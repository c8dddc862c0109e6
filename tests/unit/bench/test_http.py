"""The little HTTP of the peers' benchmark: what it takes apart comes out whole, however it was cut."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.peers.http import BadHttp, Chunks, read_head


def framed(parts: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(min_value=0, max_value=300), max_size=8))
def test_chunks_come_out_as_they_went_in_however_they_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    whole = framed(parts)
    at = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    chunks = Chunks()
    found = b"".join(chunks.feed(whole[first:last]) for first, last in pairwise(at))
    assert found == b"".join(parts)
    assert chunks.ended


def test_a_body_that_has_not_ended_says_so() -> None:
    chunks = Chunks()
    assert chunks.feed(b"5\r\nhel") == b"hel"
    assert not chunks.ended


def test_what_is_no_chunk_is_told() -> None:
    with pytest.raises(BadHttp, match="'hello' is no chunk's size"):
        Chunks().feed(b"hello\r\n")


def reader_of(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def test_a_head_is_read_and_the_body_left() -> None:
    reader = reader_of(b"POST /v1 HTTP/1.1\r\nContent-Length: 2\r\nX: a:b\r\n\r\n{}")
    head = await read_head(reader)
    assert head is not None
    assert (head.start, head.length, head.chunked) == ("POST /v1 HTTP/1.1", 2, False)
    assert head.headers[b"x"] == b"a:b"
    assert await reader.read() == b"{}"


async def test_a_connection_ends_between_heads_and_not_within_one() -> None:
    assert await read_head(reader_of(b"")) is None
    with pytest.raises(BadHttp, match="within a head"):
        await read_head(reader_of(b"GET / HTTP"))
