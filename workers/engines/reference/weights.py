"""The weights of a Llama-like model in the layout that the forward pass wants, in one of three profiles.

From the checkpoint: embedding and norms, always in float32. Linear layers: as they are ("none"), or rounded to a format
("fp8", "nvfp4") and widened to float32 again, so that BLAS can multiply them. The rounded form is what is cached.
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
from workers.engines.reference.gguf_file import GgufFile

logger = logging.getLogger("bitlane.worker")

Arrays = dict[str, NDArray[np.generic]]

_PROJECTIONS = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "out": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
# Projections with the same input are multiplied at once.
_FUSED = {"qkv": ("q", "k", "v"), "out": ("out",), "gate_up": ("gate", "up"), "down": ("down",)}


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a Llama-like model."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_size: int
    rope_base: float
    norm_epsilon: float

    @classmethod
    def of(cls, file: GgufFile) -> "Architecture":
        """Raises NotGguf when the metadata lacks one of the sizes."""
        hidden, heads = file.integer("llama.embedding_length"), file.integer("llama.attention.head_count")
        return cls(
            layers=file.integer("llama.block_count"),
            hidden=hidden,
            mlp=file.integer("llama.feed_forward_length"),
            heads=heads,
            kv_heads=file.integer("llama.attention.head_count_kv"),
            head_size=hidden // heads,
            rope_base=file.number("llama.rope.freq_base"),
            norm_epsilon=file.number("llama.attention.layer_norm_rms_epsilon"),
        )


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


def load_weights(file: GgufFile, digest: str, profile: str) -> Weights:
    """Weights of a checkpoint in a profile: "none", "fp8" or "nvfp4". `digest` names its entry in the cache.

    Raises:
        NotGguf: the checkpoint lacks something.
    """
    architecture = Architecture.of(file)
    if profile == "none":
        matrix = _Unquantized(file, architecture)
    else:
        form = _FORMATS[profile]
        matrix = _Quantized(form, _quantized(file, architecture, digest, form))
    layers: list[Layer] = []
    for index in range(architecture.layers):
        fused = {name: _fuse([matrix(part, index) for part in parts]) for name, parts in _FUSED.items()}
        norms = (file.tensor(f"blk.{index}.{name}.weight") for name in ("attn_norm", "ffn_norm"))
        layers.append(Layer(attention_norm=next(norms), mlp_norm=next(norms), **fused))
    embedding = np.ascontiguousarray(file.tensor("token_embd.weight").T)
    return Weights(architecture, embedding, tuple(layers), file.tensor("output_norm.weight"))


def _fuse(matrices: list[Float32s]) -> Float32s:
    """[outputs, inputs] matrices to one [inputs, all outputs]."""
    fused = np.empty((matrices[0].shape[1], sum(m.shape[0] for m in matrices)), dtype=np.float32)
    at = 0
    for matrix in matrices:
        fused[:, at : at + matrix.shape[0]] = matrix.T
        at += matrix.shape[0]
    return fused


@dataclass(frozen=True, slots=True)
class _Unquantized:
    file: GgufFile
    architecture: Architecture

    def __call__(self, projection: str, layer: int) -> Float32s:
        """The matrix [outputs, inputs] of a projection, with rotary pairs split in halves (as in the original)."""
        matrix = self.file.tensor(f"blk.{layer}.{_PROJECTIONS[projection]}.weight")
        if projection not in {"q", "k"}:
            return matrix
        # The file has the two values that rotate together side by side; the forward pass wants them half a head apart.
        pairs = matrix.reshape(-1, self.architecture.head_size // 2, 2, matrix.shape[1])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(matrix.shape)


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


def _quantized(file: GgufFile, architecture: Architecture, digest: str, form: _Format) -> Arrays:
    """The linear layers in a format: from the cache, or quantized now and stored there."""
    path: Path = cache.path(digest, form.label.lower())
    names = {f"{projection}.{field}" for projection in _PROJECTIONS for field in form.fields}
    arrays = cache.load(path, names)
    if arrays is None:
        arrays = dict(_quantize(file, architecture, form))
        cache.store(path, arrays)
    return arrays


def _quantize(file: GgufFile, architecture: Architecture, form: _Format) -> Iterator[tuple[str, NDArray[np.generic]]]:
    matrix = _Unquantized(file, architecture)
    for done, projection in enumerate(_PROJECTIONS):
        logger.info("quantizing to %s: %d %%", form.label, 100 * done // len(_PROJECTIONS))
        layers = [form.quantize(matrix(projection, index)) for index in range(architecture.layers)]
        for field in form.fields:
            yield f"{projection}.{field}", np.stack([layer[field] for layer in layers])
    logger.info("quantizing to %s: 100 %%", form.label)
