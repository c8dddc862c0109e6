"""What a pool's tokens cost, from measured speed and the price of its GPU. Prices are in any currency, for an hour."""

from precision.throughput import Throughput


def per_million(price_per_hour: float, tokens_per_s: float) -> float:
    """The price of a million tokens on hardware of this price and speed. Raises ValueError for a speed of 0."""
    if tokens_per_s <= 0:
        raise ValueError(f"tokens_per_s: want more than 0, got {tokens_per_s}")
    return price_per_hour / (tokens_per_s * 3600) * 1_000_000


def price_at(measured: Throughput, price_per_hour: float, streams: int) -> float:
    """Of a million output tokens while so many streams share one worker."""
    return per_million(price_per_hour, measured.tokens_per_s(streams))


def cheaper_up_to(one: Throughput, one_hour: float, other: Throughput, other_hour: float) -> int:
    """The most streams a worker up to which `one` is never dearer than `other`: 0 if it is so at once.

    Looked for up to the most that was measured of both.
    """
    most = min(one.points[-1][0], other.points[-1][0])
    for streams in range(1, most + 1):
        if price_at(one, one_hour, streams) > price_at(other, other_hour, streams):
            return streams - 1
    return most
