"""Puts an engine together: its driver, the checkpoint's tokenizer, and the profile it is attested."""

from collections.abc import Callable, Mapping
from pathlib import Path

from precision.profile import Precision, Profile
from precision.quantization import Quantization, UnknownQuantization
from precision.untyped import mapping
from workers.attest import ProfileMismatchError, attest, profile_of
from workers.checkpoint import CheckpointUnreadable, digest_of, quantization_of
from workers.engines.driver import Driver
from workers.engines.hosted import HostedEngine
from workers.engines.options import HostedOptions
from workers.engines.vocabulary import Vocabulary, VocabularyError
from workers.gpu import GpuUnknown, probe


def hosted(
    name: str,
    driver: Driver,
    options: HostedOptions,
    precision: Precision,
    objection: Callable[[Quantization], str] = lambda _: "",
) -> HostedEngine:
    """An engine that is not started yet.

    Checkpoint and GPU are looked at before the engine loads: what cannot serve its pool is refused in a second, not
    after minutes of loading. `objection` says why the engine does not load a checkpoint; empty when it does.
    """
    folder = Path(options.driver.model)

    def prepare() -> Vocabulary:
        attest(profile("", ""), f"of {precision.name}", precision, options.compute_path)
        if why := objection(quantization_of(folder)):
            raise ProfileMismatchError(f"{folder}: {why}")
        try:
            return Vocabulary(folder)
        except VocabularyError as error:
            raise ProfileMismatchError(str(error)) from error

    def profile(version: str, digest: str) -> Profile:
        args = options.driver.engine_args
        try:
            return profile_of(
                folder,
                probe(),
                engine=name,
                version=version,
                digest=digest,
                quantization=str(args.get("quantization") or ""),
                kv_cache_dtype=_cache_dtype(args),
            )
        except (CheckpointUnreadable, UnknownQuantization, GpuUnknown) as error:
            raise ProfileMismatchError(str(error)) from error

    return HostedEngine(
        driver,
        options.driver,
        prepare,
        lambda version: profile(version, digest_of(folder)),
        guided=options.guided,
        until_limit=options.until_limit,
    )


def _cache_dtype(args: Mapping[str, object]) -> str:
    """What an engine was told about its key/value cache: vLLM and SGLang in one argument, TensorRT-LLM in a group."""
    return str(args.get("kv_cache_dtype") or mapping(args.get("kv_cache_config")).get("dtype") or "auto")
