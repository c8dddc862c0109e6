"""How often tokens are written and read."""

import pytest

from broker.pace import gap_s, read_gap_s


@pytest.mark.parametrize("streams", [1, 2, 8, 32, 49])
def test_writes_of_all_streams_are_bounded(streams: int) -> None:
    assert streams / gap_s(streams) <= 1000 * 1.001


def test_no_pause_becomes_one_that_a_reader_notices() -> None:
    assert [gap_s(streams) for streams in (0, 1, 10_000)] == [0.0, 0.001, 0.05]


@pytest.mark.parametrize("events_a_second", [10, 500, 2_000, 20_000])
def test_reads_are_bounded_whatever_comes(events_a_second: int) -> None:
    found = 1
    for _ in range(20):
        gap = read_gap_s(found)
        found = max(1, round(events_a_second * gap))
    assert read_gap_s(found) >= (0.005 if events_a_second >= 2_000 else 0.001)


def test_a_lone_event_is_read_soon_after_the_last_one() -> None:
    assert read_gap_s(1) == 0.001
