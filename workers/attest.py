"""Whether an engine is what its pool says it is."""

from precision.profile import ComputePath, Precision, Profile

# Compute capability from which a GPU multiplies in a precision.
_NATIVE_FROM = {Precision.FP4: (10, 0), Precision.FP8: (8, 9)}


class ProfileMismatchError(Exception):
    """The worker must not serve this pool; the message says what was found and what to do."""


def attest(profile: Profile, pool: str, precision: Precision) -> None:
    """Checks a profile against the pool it is to serve.

    Raises:
        ProfileMismatchError: it computes in another precision, or claims what its GPU cannot do.
    """
    if profile.precision is not precision:
        raise ProfileMismatchError(
            f"pool {pool} is {precision.name}, and this engine computes in {profile.precision.name} "
            f"({profile.weight_format} weights); serve pool "
            f"{pool.rpartition('/')[0]}/{profile.precision.name.lower()}, or load a {precision.name} checkpoint"
        )
    needed = _NATIVE_FROM.get(precision)
    if profile.compute_path is ComputePath.NATIVE and needed is not None:
        sm = tuple(int(part) for part in profile.sm.split(".")) if profile.sm else (0, 0)
        if sm < needed:
            raise ProfileMismatchError(
                f"native {precision.name} needs compute capability {needed[0]}.{needed[1]}, and this worker's GPU "
                f"({profile.gpu or 'none'}) has {profile.sm or 'none'}; run it weight-only, or on another GPU"
            )
