"""Where the reference model's weights come from: a GGUF file, or a folder in the Hugging Face layout.

A folder is BF16 as published, or quantized in ModelOpt's layout, as `python -m checkpoints quantize` and ModelOpt write
it: then its codes and scales are what is computed with.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from precision.formats import fp8, nvfp4
from precision.formats.minifloat import Float32s
from precision.quantization import Quantization, read_quantization
from precision.untyped import integer, mapping
from workers.checkpoint import digest_of
from workers.engines.reference.gguf_file import GgufFile
from workers.engines.reference.safetensors_file import SafetensorsFolder
from workers.engines.reference.tokenizer import Tokenizer


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


class Source(Protocol):
    """A Llama-like model with tied embeddings, as it lies on disk."""

    @property
    def architecture(self) -> Architecture: ...

    @property
    def stored(self) -> str | None:
        """The profile that its linear layers are stored in ("fp8", "nvfp4"); None: they are wide."""
        ...

    @property
    def calibrated(self) -> bool: ...

    def digest(self) -> str:
        """ "sha256:<hex>" over all that it is."""
        ...

    def tokenizer(self) -> Tokenizer: ...

    def embedding(self) -> Float32s:
        """[vocabulary, hidden]; the output layer as well."""
        ...

    def norm(self, name: str, layer: int = 0) -> Float32s:
        """Gains [hidden] of "attention" or "mlp" of a layer, or of "final"."""
        ...

    def matrix(self, projection: str, layer: int) -> Float32s:
        """[outputs, inputs] of q, k, v, out, gate, up or down; q and k with rotary pairs half a head apart."""
        ...


def source_of(path: Path) -> Source:
    """A GGUF file, or a folder with config.json and *.safetensors.

    Raises:
        ValueError: it is none, or of a kind that this engine cannot run; the message says what was found.
        OSError: it cannot be read.
    """
    return FolderSource(path) if path.is_dir() else GgufSource(path)


class GgufSource:
    """See `Source`."""

    _NAMES: Mapping[str, str] = {
        "q": "attn_q",
        "k": "attn_k",
        "v": "attn_v",
        "out": "attn_output",
        "gate": "ffn_gate",
        "up": "ffn_up",
        "down": "ffn_down",
    }
    _NORMS: Mapping[str, str] = {"attention": "blk.{}.attn_norm", "mlp": "blk.{}.ffn_norm", "final": "output_norm"}

    stored = None
    calibrated = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = GgufFile(path)
        hidden = self.file.integer("llama.embedding_length")
        heads = self.file.integer("llama.attention.head_count")
        self.architecture = Architecture(
            layers=self.file.integer("llama.block_count"),
            hidden=hidden,
            mlp=self.file.integer("llama.feed_forward_length"),
            heads=heads,
            kv_heads=self.file.integer("llama.attention.head_count_kv"),
            head_size=hidden // heads,
            rope_base=self.file.number("llama.rope.freq_base"),
            norm_epsilon=self.file.number("llama.attention.layer_norm_rms_epsilon"),
        )

    def digest(self) -> str:
        with self.path.open("rb") as opened:
            return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.of_gguf(self.file)

    def embedding(self) -> Float32s:
        return self.file.tensor("token_embd.weight")

    def norm(self, name: str, layer: int = 0) -> Float32s:
        return self.file.tensor(f"{self._NORMS[name].format(layer)}.weight")

    def matrix(self, projection: str, layer: int) -> Float32s:
        matrix = self.file.tensor(f"blk.{layer}.{self._NAMES[projection]}.weight")
        if projection not in {"q", "k"}:
            return matrix
        # The file has the two values that rotate together side by side; the forward pass wants them half a head apart.
        pairs = matrix.reshape(-1, self.architecture.head_size // 2, 2, matrix.shape[1])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(matrix.shape)


HF_NAMES: Mapping[str, str] = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
HF_NORMS: Mapping[str, str] = {
    "attention": "model.layers.{}.input_layernorm",
    "mlp": "model.layers.{}.post_attention_layernorm",
    "final": "model.norm",
}
_STORED = {("NVFP4", "NVFP4"): "nvfp4", ("NVFP4", ""): "nvfp4", ("FP8_E4M3", "FP8_E4M3"): "fp8"}


class FolderSource:
    """See `Source`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = mapping(json.loads((path / "config.json").read_text(encoding="utf-8")))
        if self.config.get("model_type") != "llama":
            raise ValueError(f"{path}: model_type {self.config.get('model_type')!r}; the reference engine runs llama")
        self._tensors = SafetensorsFolder(path)
        if "lm_head.weight" in self._tensors and not self.config.get("tie_word_embeddings"):
            raise ValueError(f"{path}: has an output layer of its own; the reference engine ties it to the embedding")
        hidden, heads = self._size("hidden_size"), self._size("num_attention_heads")
        self.architecture = Architecture(
            layers=self._size("num_hidden_layers"),
            hidden=hidden,
            mlp=self._size("intermediate_size"),
            heads=heads,
            kv_heads=integer(self.config.get("num_key_value_heads"), heads),
            head_size=integer(self.config.get("head_dim"), hidden // heads),
            rope_base=self._rope_base(),
            norm_epsilon=self._number("rms_norm_eps", 1e-5),
        )

    @cached_property
    def quantization(self) -> Quantization:
        """What the checkpoint says of itself. Raises precision.quantization.UnknownQuantization."""
        path = self.path / "hf_quant_config.json"
        return read_quantization(
            self.config, mapping(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
        )

    @property
    def stored(self) -> str | None:
        found = self.quantization
        if found.method == "none":
            return None
        kinds = {(layers.weights, layers.activations) for layers in found.layers}
        profile = _STORED.get(next(iter(kinds))) if len(kinds) == 1 and found.method == "modelopt" else None
        if profile is None:
            raise ValueError(
                f"{self.path}: {found.method}, {found.weight_format} weights; the reference engine reads ModelOpt's "
                "NVFP4 and FP8, each alone"
            )
        return profile

    @property
    def calibrated(self) -> bool:
        return self.quantization.calibrated

    def digest(self) -> str:
        return digest_of(self.path)

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.of_folder(self.path)

    def embedding(self) -> Float32s:
        return self._tensors.tensor("model.embed_tokens.weight").values()

    def norm(self, name: str, layer: int = 0) -> Float32s:
        return self._tensors.tensor(f"{HF_NORMS[name].format(layer)}.weight").values()

    def matrix(self, projection: str, layer: int) -> Float32s:
        name = f"model.layers.{layer}.{HF_NAMES[projection]}"
        weight = self._tensors.tensor(f"{name}.weight")
        if weight.kind == "U8":
            return nvfp4.dequantize(
                nvfp4.Nvfp4Tensor(
                    weight.codes(),
                    self._tensors.tensor(f"{name}.weight_scale").codes(),
                    self._tensors.tensor(f"{name}.weight_scale_2").values(),
                )
            )
        if weight.kind == "F8_E4M3":
            scale = self._tensors.tensor(f"{name}.weight_scale").values()
            return fp8.dequantize(fp8.Fp8Tensor(weight.codes(), scale))
        return weight.values()

    def _rope_base(self) -> float:
        """In the newer configurations it is one of the parameters of the rotary embedding."""
        return self._number("rope_theta", 0) or float(str(mapping(self.config.get("rope_parameters"))["rope_theta"]))

    def _size(self, key: str) -> int:
        if (value := integer(self.config.get(key))) < 1:
            raise ValueError(f"{self.path / 'config.json'}: {key} is missing")
        return value

    def _number(self, key: str, default: float) -> float:
        value = self.config.get(key)
        return float(value) if isinstance(value, int | float) else default
