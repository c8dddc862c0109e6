"""A worker that is not what its pool says refuses, and says what it found and what to do."""

from dataclasses import replace

import pytest

from precision.profile import ComputePath, Precision, Profile
from workers.attest import ProfileMismatchError, attest

FP4 = Profile(
    Precision.FP4, "NVFP4", "NVFP4", "FP8", 16, ComputePath.NATIVE, "sha256:0", True, "e", "1", "B200", "10.0"
)
FP8 = Profile(
    Precision.FP8, "FP8_E4M3", "FP8_E4M3", "FP8", 0, ComputePath.NATIVE, "sha256:0", True, "e", "1", "H100", "9.0"
)


@pytest.mark.parametrize(
    ("profile", "pool"),
    [
        (FP4, "m/fp4"),
        (FP8, "m/fp8"),
        (replace(FP4, gpu="RTX 5090", sm="12.0"), "m/fp4"),
        (replace(FP4, gpu="H100", sm="9.0", compute_path=ComputePath.WEIGHT_ONLY), "m/fp4"),
        (replace(FP4, gpu="", sm="", compute_path=ComputePath.EMULATED), "m/fp4"),
        (replace(FP8, gpu="RTX 4090", sm="8.9"), "m/fp8"),
    ],
)
def test_honest_profiles_pass(profile: Profile, pool: str) -> None:
    attest(profile, pool, profile.precision)


@pytest.mark.parametrize(
    ("profile", "pool", "precision", "says"),
    [
        (FP8, "m/fp4", Precision.FP4, "serve pool m/fp8"),
        (FP4, "m/fp8", Precision.FP8, "serve pool m/fp4"),
        (replace(FP4, gpu="H100", sm="9.0"), "m/fp4", Precision.FP4, "needs compute capability 10.0"),
        (replace(FP8, gpu="A100", sm="8.0"), "m/fp8", Precision.FP8, "needs compute capability 8.9"),
        (replace(FP4, gpu="", sm=""), "m/fp4", Precision.FP4, "GPU (none)"),
    ],
)
def test_others_are_refused_with_what_to_do(profile: Profile, pool: str, precision: Precision, says: str) -> None:
    with pytest.raises(ProfileMismatchError, match=says.replace("(", r"\(").replace(")", r"\)")):
        attest(profile, pool, precision)
