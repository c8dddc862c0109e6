"""How often tokens are written and read: by workers, routers and the inbox between them. Pure."""

# What a write costs hardly depends on how many tokens are in it: so those of all streams of a process together stay
# below 1,000 a second, up to a pause that a reader would notice.
_S_A_STREAM = 1 / 1000
_LONGEST_S = 0.05
# The same for reads of what all streams share: as long as many events come, a read finds several of them.
_S_AN_EVENT = 1 / 1000
_LONGEST_READ_S = 0.005


def gap_s(streams: int) -> float:
    """Seconds between two writes of each of so many streams."""
    return min(_LONGEST_S, streams * _S_A_STREAM)


def read_gap_s(events: int) -> float:
    """Seconds between a read that found so many events and the next one."""
    return min(_LONGEST_READ_S, events * _S_AN_EVENT)
