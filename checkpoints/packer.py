"""The built-in packer: a Llama-like checkpoint to NVFP4 or FP8 in ModelOpt's tensor layout, in NumPy, layer by layer.

Weights are rounded to nearest. With samples, static scales of activations are found by running the model, and the
checkpoint says W4A4 (NVFP4) or W8A8 (FP8). Without, NVFP4 is weight-only, and FP8 finds scales while it runs.
Projections that read the same input share the scale of a tensor, as engines fuse them.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from checkpoints.calibration import Largest
from checkpoints.failures import CheckpointProblem
from checkpoints.files import Description
from precision.formats import fp8, nvfp4
from precision.formats.minifloat import E2M1, E4M3, SMALLEST_SCALE, Float32s
from workers.engines.reference.safetensors_file import NotSafetensors, SafetensorsFile, Stored, bf16, codes, f32, write
from workers.engines.reference.sources import HF_NAMES, HF_NORMS, Source

FUSED = {"qkv": ("q", "k", "v"), "out": ("out",), "gate_up": ("gate", "up"), "down": ("down",)}

FORMATS = ("nvfp4", "fp8", "bf16")


def algorithm(form: str, largest: Largest | None) -> str:
    """ModelOpt's name of what is written; "" for BF16."""
    if form == "nvfp4":
        return "W4A16_NVFP4" if largest is None else "NVFP4"
    if form == "fp8":
        return "FP8_PER_CHANNEL_PER_TOKEN" if largest is None else "FP8"
    return ""


def pack(
    source: Source,
    digest: str,
    out: Path,
    form: str,
    largest: Largest | None,
    description: Description,
    *,
    advance: Callable[[], None],
) -> None:
    """Writes a checkpoint's folder: a file a layer, one for the rest, and its description last.

    Files that an earlier run of the same work left are kept. `advance` is called for each file.

    Raises:
        CheckpointProblem: a tensor cannot be quantized; it is named.
        OSError: a file cannot be written.
    """
    layers = source.architecture.layers
    note = {"of": digest, "to": f"{form} {json.dumps(largest, sort_keys=True)}"}
    total = layers + 1
    index: dict[str, str] = {}
    size = 0
    for number in range(total):
        path = out / f"model-{number + 1:05}-of-{total:05}.safetensors"
        if not _is_done(path, note):
            tensors = _rest(source) if number == layers else _layer(source, number, form, largest)
            write(path, tensors, note)
        file = SafetensorsFile(path)
        index |= dict.fromkeys(file.names, path.name)
        size += path.stat().st_size
        advance()
    written = {"metadata": {"total_size": size}, "weight_map": index}
    (out / "model.safetensors.index.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    description.write(out, algorithm(form, largest))


def _is_done(path: Path, note: dict[str, str]) -> bool:
    try:
        found = SafetensorsFile(path).note
    except (OSError, NotSafetensors):
        return False
    return {key: found.get(key) for key in note} == note


def _rest(source: Source) -> Iterator[tuple[str, Stored]]:
    yield "model.embed_tokens.weight", bf16(source.embedding())
    yield f"{HF_NORMS['final']}.weight", bf16(source.norm("final"))


def _layer(source: Source, layer: int, form: str, largest: Largest | None) -> Iterator[tuple[str, Stored]]:
    for name in ("attention", "mlp"):
        yield f"{HF_NORMS[name].format(layer)}.weight", bf16(source.norm(name, layer))
    for inputs, parts in FUSED.items():
        matrices = [source.matrix(part, layer) for part in parts]
        names = [f"model.layers.{layer}.{HF_NAMES[part]}" for part in parts]
        amax = None if largest is None else largest[inputs][layer]
        try:
            yield from _quantized(names, matrices, form, amax)
        except ValueError as error:
            raise CheckpointProblem(f"{' + '.join(names)}: {error}") from error


def _quantized(
    names: list[str], matrices: list[Float32s], form: str, amax: float | None
) -> Iterator[tuple[str, Stored]]:
    """Matrices that read the same input. `amax`: the input's greatest magnitude, if it was measured."""
    if form == "bf16":
        yield from ((f"{name}.weight", bf16(matrix)) for name, matrix in zip(names, matrices, strict=True))
        return
    whole = np.concatenate(matrices)
    rows = np.cumsum([matrix.shape[0] for matrix in matrices])[:-1]
    if form == "nvfp4":
        packed = nvfp4.quantize(whole)
        parts = zip(names, np.split(packed.packed, rows), np.split(packed.block_scale, rows), strict=True)
        for name, weight, scale in parts:
            yield f"{name}.weight", codes("U8", weight)
            yield f"{name}.weight_scale", codes("F8_E4M3", scale)
            yield f"{name}.weight_scale_2", f32(packed.scale)
            if amax is not None:
                yield f"{name}.input_scale", f32(_scale(amax, float(E2M1.largest * E4M3.largest)))
        return
    rounded = fp8.quantize(whole, per_row=amax is None)
    scales = [rounded.scale] * len(names) if amax is not None else np.split(rounded.scale, rows)
    for name, weight, scale in zip(names, np.split(rounded.codes, rows), scales, strict=True):
        yield f"{name}.weight", codes("F8_E4M3", weight)
        yield f"{name}.weight_scale", f32(scale)
        if amax is not None:
            yield f"{name}.input_scale", f32(_scale(amax, float(E4M3.largest)))


def _scale(amax: float, greatest: float) -> Float32s:
    return np.asarray(max(amax / greatest, float(SMALLEST_SCALE)), dtype=np.float32)
