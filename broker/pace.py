"""How often tokens are written: by a worker to the token log, and by a router to its clients. Pure."""

# What a write costs hardly depends on how many tokens are in it: so those of all streams of a process together stay
# below 2,000 a second, up to a pause that a reader would notice.
_S_A_STREAM = 1 / 2000
_LONGEST_S = 0.05


def gap_s(streams: int) -> float:
    """Seconds between two writes of each of so many streams."""
    return min(_LONGEST_S, streams * _S_A_STREAM)
