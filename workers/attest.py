"""What an engine computes in, found out from its checkpoint and its GPU, and whether that is what its pool says."""

import os
from collections.abc import Mapping
from pathlib import Path

from precision.gpus import NATIVE_FROM, Gpu, compute_path, parse_sm
from precision.profile import ComputePath, Precision, Profile
from precision.quantization import quantized_by_engine
from workers.checkpoint import quantization_of

# Settings by which an engine widens weights although the GPU could multiply them as they are.
_WIDENING = {
    "NVFP4": ("SGLANG_FORCE_NVFP4_MARLIN", "VLLM_USE_NVFP4_CT_EMULATIONS"),
    "FP8_E4M3": ("SGLANG_FORCE_FP8_MARLIN", "VLLM_TEST_FORCE_FP8_MARLIN"),
}


class ProfileMismatchError(Exception):
    """The worker must not serve this pool; the message says what was found and what to do."""


def profile_of(
    folder: Path,
    gpu: Gpu,
    *,
    engine: str,
    version: str,
    digest: str,
    quantization: str = "",
    kv_cache_dtype: str = "auto",
    environment: Mapping[str, str] = os.environ,
) -> Profile:
    """The profile of an engine that serves a checkpoint on a GPU.

    `digest` is the checkpoint's; `quantization` and `kv_cache_dtype` are what the engine was told beside it.

    Raises:
        workers.checkpoint.CheckpointUnreadable: there is no readable config.json.
        precision.quantization.UnknownQuantization: no pool serves this checkpoint.
    """
    found = quantized_by_engine(quantization_of(folder), quantization, kv_cache_dtype)
    layers = found.narrowest
    widened = any(environment.get(name, "0") not in {"", "0"} for name in _WIDENING.get(layers.weights, ()))
    return Profile(
        precision=found.precision,
        weight_format=found.weight_format,
        activation_format=found.activation_format,
        kv_cache_format=found.kv_cache,
        group_size=layers.group_size,
        compute_path=compute_path(layers.weights, layers.activations or found.wide, gpu.sm, widened=widened),
        checkpoint_digest=digest,
        calibrated=found.calibrated,
        engine=engine,
        engine_version=version,
        gpu=gpu.label,
        sm=gpu.capability,
    )


def attest(profile: Profile, pool: str, precision: Precision, claimed: ComputePath | None = None) -> None:
    """Checks a profile against the pool it is to serve.

    `claimed` is how the operator says that the pool multiplies; None: as it comes.

    Raises:
        ProfileMismatchError: it computes in another precision, or not in the way that was claimed, or it claims what
            its GPU cannot do.
    """
    found = (
        f"{profile.weight_format} weights, {profile.activation_format} activations, {profile.compute_path.value} on "
        f"{profile.gpu or 'a CPU'}{f' (SM {profile.sm})' if profile.sm else ''}"
    )
    if profile.precision is not precision:
        raise ProfileMismatchError(
            f"pool {pool} is {precision.name}, and this engine computes in {profile.precision.name} "
            f"({profile.weight_format} weights); serve pool "
            f"{pool.rpartition('/')[0]}/{profile.precision.name.lower()}, or load a {precision.name} checkpoint"
        )
    narrow = profile.weight_format.split("+")[0]
    needed = NATIVE_FROM.get(narrow)
    native = profile.compute_path is ComputePath.NATIVE and precision is not Precision.BF16
    if native and needed is not None and parse_sm(profile.sm) < needed:
        raise ProfileMismatchError(
            f"native {precision.name} needs compute capability {needed[0]}.{needed[1]}, and this worker's GPU "
            f"({profile.gpu or 'none'}) has {profile.sm or 'none'}; run it weight-only, or on another GPU"
        )
    if claimed is None or claimed is profile.compute_path:
        return
    if claimed is ComputePath.NATIVE:
        raise ProfileMismatchError(
            f"pool {pool} is to compute natively, and this worker would not: found {found}. "
            f"{_why_not_native(profile, narrow)}, or set compute_path to {profile.compute_path.value}"
        )
    raise ProfileMismatchError(
        f"pool {pool} is to compute {claimed.value}, and this worker would compute {profile.compute_path.value}: found "
        f"{found}; set compute_path to {profile.compute_path.value}"
    )


def _why_not_native(profile: Profile, narrow: str) -> str:
    needed = NATIVE_FROM.get(narrow)
    if needed is not None and parse_sm(profile.sm) < needed:
        return f"Native {narrow} needs compute capability {needed[0]}.{needed[1]}: use another GPU"
    if profile.activation_format.split("+")[0] != narrow:
        return (
            f"The checkpoint keeps activations in {profile.activation_format}: its weights are widened on every GPU; "
            f"use one whose activations are {narrow} too"
        )
    return "A setting of the engine widens the weights: remove it"
