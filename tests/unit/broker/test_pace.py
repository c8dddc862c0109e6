"""How often tokens are written."""

import pytest

from broker.pace import gap_s


@pytest.mark.parametrize("streams", [1, 2, 8, 64, 99])
def test_writes_of_all_streams_are_bounded(streams: int) -> None:
    assert streams / gap_s(streams) <= 2000 * 1.001


def test_no_pause_becomes_one_that_a_reader_notices() -> None:
    assert [gap_s(streams) for streams in (0, 1, 10_000)] == [0.0, 0.0005, 0.05]
