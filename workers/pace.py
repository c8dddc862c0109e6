"""How often a worker writes the tokens of its requests. Pure."""

# So the writes of all requests together stay below 2,000 a second, up to a pause that a reader would notice: what a
# write costs worker, broker and router hardly depends on how many tokens are in it.
_S_A_STREAM = 1 / 2000
_LONGEST_S = 0.05


def gap_s(streams: int) -> float:
    """Seconds between two writes of each of so many streams."""
    return min(_LONGEST_S, streams * _S_A_STREAM)
