"""The weights of a Llama-like model in the layout that the forward pass wants, in one of three profiles.

From the checkpoint: embedding and norms, always in float32. Linear layers: as they are ("none"), or rounded to a format
("fp8", "nvfp4") and widened to float32 again, so that BLAS can multiply them. The rounded form is what is cached, or
what the checkpoint already is.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from precision.formats import fp8, nvfp4
from precision.formats.minifloat import Float32s
from workers.engines.reference import cache
from workers.engines.reference.sources import Architecture, Source

logger = logging.getLogger("bitlane.worker")

Arrays = dict[str, NDArray[np.generic]]

PROJECTIONS = ("q", "k", "v", "out", "gate", "up", "down")
# Projections with the same input are multiplied at once.
_FUSED = {"qkv": ("q", "k", "v"), "out": ("out",), "gate_up": ("gate", "up"), "down": ("down",)}


@dataclass(frozen=True, slots=True)
class Layer:
    """One block. Matrices are [inputs, outputs], so that rows of activations are multiplied from the left."""

    attention_norm: Float32s  # [hidden]
    qkv: Float32s  # [hidden, (heads + 2 * kv_heads) * head_size]
    out: Float32s  # [heads * head_size, hidden]
    mlp_norm: Float32s  # [hidden]
    gate_up: Float32s  # [hidden, 2 * mlp]
    down: Float32s  # [mlp, hidden]


@dataclass(frozen=True, slots=True)
class Weights:
    """All of a model. `embedding` [hidden, vocabulary] is the output layer as well."""

    architecture: Architecture
    embedding: Float32s
    layers: tuple[Layer, ...]
    final_norm: Float32s  # [hidden]


def load_weights(source: Source, digest: str, profile: str) -> Weights:
    """Weights of a checkpoint in a profile: "none", "fp8" or "nvfp4". `digest` names its entry in the cache.

    Raises:
        ValueError: the checkpoint lacks something, or is stored in another profile.
    """
    architecture = source.architecture
    matrix = _matrices(source, digest, profile)
    layers: list[Layer] = []
    for index in range(architecture.layers):
        fused = {name: _fuse([matrix(part, index) for part in parts]) for name, parts in _FUSED.items()}
        norms = {f"{name}_norm": source.norm(name, index) for name in ("attention", "mlp")}
        layers.append(Layer(**norms, **fused))
    embedding = np.ascontiguousarray(source.embedding().T)
    return Weights(architecture, embedding, tuple(layers), source.norm("final"))


def _matrices(source: Source, digest: str, profile: str) -> Callable[[str, int], Float32s]:
    """Gives each linear layer in the profile."""
    if source.stored is not None and source.stored != profile:
        raise ValueError(f"the checkpoint is stored in {source.stored} and cannot be run in {profile}")
    if profile == "none" or source.stored is not None:
        return source.matrix
    form = _FORMATS[profile]
    return _Quantized(form, _quantized(source, digest, form))


def _fuse(matrices: list[Float32s]) -> Float32s:
    """[outputs, inputs] matrices to one [inputs, all outputs]."""
    fused = np.empty((matrices[0].shape[1], sum(m.shape[0] for m in matrices)), dtype=np.float32)
    at = 0
    for matrix in matrices:
        fused[:, at : at + matrix.shape[0]] = matrix.T
        at += matrix.shape[0]
    return fused


@dataclass(frozen=True, slots=True)
class _Format:
    """How a format is quantized to arrays that can be stored, and back."""

    label: str
    fields: tuple[str, ...]
    quantize: Callable[[Float32s], Arrays]
    dequantize: Callable[[Mapping[str, NDArray[np.generic]]], Float32s]


def _fp8_arrays(matrix: Float32s) -> Arrays:
    tensor = fp8.quantize(matrix, per_row=True)
    return {"codes": tensor.codes, "scale": tensor.scale}


def _fp8_matrix(arrays: Mapping[str, NDArray[np.generic]]) -> Float32s:
    return fp8.dequantize(fp8.Fp8Tensor(arrays["codes"].view(np.uint8), arrays["scale"].view(np.float32)))


def _nvfp4_arrays(matrix: Float32s) -> Arrays:
    tensor = nvfp4.quantize(matrix)
    return {"weight": tensor.packed, "weight_scale": tensor.block_scale, "weight_scale_2": tensor.scale}


def _nvfp4_matrix(arrays: Mapping[str, NDArray[np.generic]]) -> Float32s:
    packed, block_scale = arrays["weight"].view(np.uint8), arrays["weight_scale"].view(np.uint8)
    return nvfp4.dequantize(nvfp4.Nvfp4Tensor(packed, block_scale, arrays["weight_scale_2"].view(np.float32)))


_FORMATS = {
    "fp8": _Format("FP8", ("codes", "scale"), _fp8_arrays, _fp8_matrix),
    "nvfp4": _Format("NVFP4", ("weight", "weight_scale", "weight_scale_2"), _nvfp4_arrays, _nvfp4_matrix),
}


@dataclass(frozen=True, slots=True)
class _Quantized:
    """Reads matrices from stored arrays, each [layers, ...] under the name "projection.field"."""

    form: _Format
    arrays: Mapping[str, NDArray[np.generic]]

    def __call__(self, projection: str, layer: int) -> Float32s:
        return self.form.dequantize({field: self.arrays[f"{projection}.{field}"][layer] for field in self.form.fields})


def _quantized(source: Source, digest: str, form: _Format) -> Arrays:
    """The linear layers in a format: from the cache, or quantized now and stored there."""
    path: Path = cache.path(digest, form.label.lower())
    names = {f"{projection}.{field}" for projection in PROJECTIONS for field in form.fields}
    arrays = cache.load(path, names)
    if arrays is None:
        arrays = dict(_quantize(source, form))
        cache.store(path, arrays)
    return arrays


def _quantize(source: Source, form: _Format) -> Iterator[tuple[str, NDArray[np.generic]]]:
    for done, projection in enumerate(PROJECTIONS):
        logger.info("quantizing to %s: %d %%", form.label, 100 * done // len(PROJECTIONS))
        layers = [form.quantize(source.matrix(projection, index)) for index in range(source.architecture.layers)]
        for field in form.fields:
            yield f"{projection}.{field}", np.stack([layer[field] for layer in layers])
    logger.info("quantizing to %s: 100 %%", form.label)
