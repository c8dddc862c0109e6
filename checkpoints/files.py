"""The small files of a checkpoint: configuration, quantization, tokenizer, chat template."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from precision.untyped import text
from workers.engines.reference.sources import FolderSource, GgufSource

_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)
PRODUCER = {"name": "bitlane", "version": "1"}


class Description(Protocol):
    """Writes all files but the weights."""

    def write(self, out: Path, algorithm: str) -> None:
        """`algorithm` is ModelOpt's quant_algo; "" for a checkpoint that is not quantized."""
        ...


def description_of(source: GgufSource | FolderSource) -> Description:
    return _OfFolder(source) if isinstance(source, FolderSource) else _OfGguf(source)


class _OfFolder:
    def __init__(self, source: FolderSource) -> None:
        self._source = source

    def write(self, out: Path, algorithm: str) -> None:
        for name in _COPIED:
            if (path := self._source.path / name).is_file():
                shutil.copyfile(path, out / name)
        kept = {key: value for key, value in self._source.config.items() if key != "quantization_config"}
        _write_config(out, kept, algorithm)


class _OfGguf:
    def __init__(self, source: GgufSource) -> None:
        self._source = source

    def write(self, out: Path, algorithm: str) -> None:
        file, sizes = self._source.file, self._source.architecture
        tokens = file.strings("tokenizer.ggml.tokens")
        names = {
            f"{name}_token": tokens[file.integer(f"tokenizer.ggml.{key}_token_id")]
            for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))
        }
        tokenizer = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": file.integer("llama.context_length"),
            "chat_template": text(file.metadata.get("tokenizer.chat_template")),
            **names,
        }
        end = file.integer("tokenizer.ggml.eos_token_id")
        _dump(out / "tokenizer_config.json", tokenizer)
        (out / "tokenizer.json").write_text(self._source.tokenizer().written(), encoding="utf-8")
        _dump(out / "generation_config.json", {"bos_token_id": 1, "eos_token_id": end, "pad_token_id": end})
        config: dict[str, object] = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": sizes.hidden,
            "intermediate_size": sizes.mlp,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.kv_heads,
            "head_dim": sizes.head_size,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "max_position_embeddings": file.integer("llama.context_length"),
            "rms_norm_eps": sizes.norm_epsilon,
            "rope_theta": sizes.rope_base,
            "tie_word_embeddings": True,
            "vocab_size": len(tokens),
            "bos_token_id": file.integer("tokenizer.ggml.bos_token_id"),
            "eos_token_id": end,
            "torch_dtype": "bfloat16",
        }
        _write_config(out, config, algorithm)


def _write_config(out: Path, config: Mapping[str, object], algorithm: str) -> None:
    """config.json and hf_quant_config.json, which say the same of the quantization."""
    if not algorithm:
        (out / "hf_quant_config.json").unlink(missing_ok=True)
        _dump(out / "config.json", config)
        return
    group = 16 if "NVFP4" in algorithm else None
    said: dict[str, object] = {"quant_algo": algorithm, "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]}
    if group:
        said["group_size"] = group
    _dump(out / "hf_quant_config.json", {"producer": PRODUCER, "quantization": said})
    bits = 4 if group else 8
    weights: dict[str, object] = {"num_bits": bits, "type": "float", "dynamic": False}
    if group:
        weights["group_size"] = group
    activations = None if algorithm == "W4A16_NVFP4" else weights | {"dynamic": "PER_TOKEN" in algorithm}
    quantization = {
        "quant_method": "modelopt",
        "quant_algo": algorithm,
        "producer": PRODUCER,
        "config_groups": {"group_0": {"weights": weights, "input_activations": activations, "targets": ["Linear"]}},
        "ignore": ["lm_head"],
        **({"group_size": group} if group else {}),
    }
    _dump(out / "config.json", {**config, "quantization_config": quantization})


def _dump(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
