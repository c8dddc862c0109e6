"""Measured tokens per second of one worker, by how many streams run side by side: a JSON file for each profile.

Not a formula, because measurements disagree with them: on a Hopper GPU, weights in NVFP4 give 1.13 times the tokens of
FP8 to a single stream, and 0.7 times to 64.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from precision.profile import ComputePath, Precision
from precision.untyped import integer, items, mapping, text


class BadThroughput(ValueError):
    """A file of measurements cannot be used; the message names the field and what is wrong."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was measured on one kind of GPU, in one precision. `points` are (streams, tokens/s), in order of streams."""

    gpu: str
    sm: str
    engine: str
    engine_version: str
    precision: Precision
    compute_path: ComputePath
    model: str  # the class of model that was measured, such as "8B dense"
    points: tuple[tuple[int, float], ...]

    def tokens_per_s(self, streams: int) -> float:
        """Of all streams together; between two measurements on the line between them, and flat beyond the ends."""
        first, last = self.points[0], self.points[-1]
        if streams <= first[0]:
            # Fewer streams than were measured: each as quick as it was.
            return first[1] * max(streams, 0) / first[0]
        for (low, low_rate), (high, high_rate) in pairwise(self.points):
            if streams <= high:
                return low_rate + (high_rate - low_rate) * (streams - low) / (high - low)
        return last[1]


def read_throughput(document: Mapping[str, object]) -> Throughput:
    """Reads `{"profile": {...}, "model": ..., "measured": [{"streams": 1, "tokens_per_s": 234}, ...]}`.

    Raises:
        BadThroughput: a field is missing or makes no sense.
    """
    profile = mapping(document.get("profile"))
    points = [_point(mapping(point), place) for place, point in enumerate(items(document.get("measured")))]
    points.sort()
    if not points or len({streams for streams, _ in points}) != len(points):
        raise BadThroughput("measured: want at least one measurement, and one for each number of streams")
    try:
        precision = Precision[text(profile.get("precision")).upper()]
        path = ComputePath(text(profile.get("compute_path")))
    except (KeyError, ValueError) as error:
        raise BadThroughput(f"profile: precision or compute_path is no good: {error}") from error
    return Throughput(
        gpu=text(profile.get("gpu")),
        sm=text(profile.get("sm")),
        engine=text(profile.get("engine")),
        engine_version=text(profile.get("engine_version")),
        precision=precision,
        compute_path=path,
        model=text(document.get("model")),
        points=tuple(points),
    )


def _point(point: Mapping[str, object], place: int) -> tuple[int, float]:
    streams, rate = integer(point.get("streams")), point.get("tokens_per_s")
    if streams < 1 or isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0:
        raise BadThroughput(
            f"measured[{place}]: want streams of at least 1 and tokens_per_s above 0, got {dict(point)}"
        )
    return streams, float(rate)
