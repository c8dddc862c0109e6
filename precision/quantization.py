"""How a checkpoint in the Hugging Face layout says what it is quantized to.

Four dialects: ModelOpt (`hf_quant_config.json`, or `quant_method` "modelopt" in config.json), compressed-tensors, the
plain `fp8` of DeepSeek and others, and `mxfp4`. All are read from what is written, never from a name: a checkpoint
called FP4 may hold 4-bit weights for 16-bit multiplication.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from precision.profile import Precision
from precision.untyped import integer, items, mapping, strings

_WIDE = {"bfloat16": "BF16", "float16": "FP16", "float32": "FP32"}
_PRECISION = {
    "NVFP4": Precision.FP4,
    "MXFP4": Precision.FP4,
    "FP8_E4M3": Precision.FP8,
    "BF16": Precision.BF16,
    "FP16": Precision.BF16,
    "FP32": Precision.BF16,
}
_DYNAMIC = {"FP8_PER_CHANNEL_PER_TOKEN", "FP8_BLOCK_SCALES", "FP8_PB_WO", "FP8_PB_REAL", "W4A8_MXFP4_MXFP8"}
"""ModelOpt's algorithms that find the scales of activations while running."""

_NARROWEST = ("NVFP4", "MXFP4", "FP8_E4M3", "BF16", "FP16", "FP32")


class UnknownQuantization(ValueError):
    """A checkpoint's quantization is none that a pool can have; the message says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Layers:
    """What some of the linear layers are in. `activations` is "" when they stay as wide as the model is."""

    weights: str
    activations: str
    group_size: int  # values that share a scale; 0: a tensor or a row; for a square block of n x n, n


@dataclass(frozen=True, slots=True)
class Quantization:
    """What a checkpoint says of itself.

    `layers` are the kinds of quantized linear layers, the narrowest first; a mixed checkpoint has several. `wide` is
    the format of all else. `calibrated`: whether data went into the quantization.
    """

    method: str  # modelopt, compressed-tensors, fp8, mxfp4, or none
    layers: tuple[Layers, ...]
    wide: str
    kv_cache: str
    calibrated: bool
    ignored: tuple[str, ...] = ()
    producer: str = ""

    @property
    def narrowest(self) -> Layers:
        """What decides the precision: the kind of layers that loses most."""
        return self.layers[0]

    @property
    def precision(self) -> Precision:
        return _PRECISION[self.narrowest.weights]

    @property
    def weight_format(self) -> str:
        """For a profile: formats of a mixed checkpoint are joined with "+"."""
        return "+".join(dict.fromkeys(layers.weights for layers in self.layers))

    @property
    def activation_format(self) -> str:
        return "+".join(dict.fromkeys(layers.activations or self.wide for layers in self.layers))

    @property
    def weight_only(self) -> bool:
        """Whether the narrowest layers' activations stay wide: then no GPU multiplies in the weights' format."""
        return self.narrowest.activations != self.narrowest.weights and self.precision is not Precision.BF16


def read_quantization(
    config: Mapping[str, object], hf_quant_config: Mapping[str, object] | None = None
) -> Quantization:
    """What config.json and, if there is one, hf_quant_config.json say.

    Where both say something they must agree: engines read the one or the other.

    Raises:
        UnknownQuantization: it is in integers or in something else that no pool serves, or the two files disagree.
    """
    wide = _wide(config)
    said = mapping(config.get("quantization_config")) or mapping(config.get("compression_config"))
    of_config = _of_config(said, wide) if said else None
    if hf_quant_config is None:
        return of_config or Quantization("none", (Layers(wide, wide, 0),), wide, wide, calibrated=False)
    of_file = _modelopt_file(hf_quant_config, wide)
    if of_config is not None and [_kind(x) for x in of_config.layers] != [_kind(x) for x in of_file.layers]:
        raise UnknownQuantization(
            f"config.json says {of_config.weight_format} weights and {of_config.activation_format} activations, "
            f"hf_quant_config.json {of_file.weight_format} and {of_file.activation_format}; export the checkpoint again"
        )
    if of_config is None:
        return of_file
    # Only the newer exports name activations and the cache in config.json.
    kv_cache = of_config.kv_cache if of_config.kv_cache != wide else of_file.kv_cache
    return replace(of_config, kv_cache=kv_cache, producer=of_config.producer or of_file.producer)


def quantized_by_engine(read: Quantization, to: str, kv_cache_dtype: str) -> Quantization:
    """What becomes of a checkpoint that an engine quantizes while it loads (`to`: its argument, "" for nothing) and
    whose cache it keeps in another format than the checkpoint says ("auto": it does not).

    Raises:
        UnknownQuantization: the engine was told to quantize to something else than FP8.
    """
    kv_cache = read.kv_cache
    if kv_cache_dtype.startswith(("fp8", "float8")):
        kv_cache = "FP8_E5M2" if "e5m2" in kv_cache_dtype else "FP8_E4M3"
    elif "fp4" in kv_cache_dtype:
        kv_cache = "NVFP4"
    elif kv_cache_dtype in {"bfloat16", "bf16"}:
        kv_cache = "BF16"
    read = replace(read, kv_cache=kv_cache)
    if read.method != "none" or not to:
        return read
    if to not in {"fp8", "w8a8_fp8"}:
        raise UnknownQuantization(
            f"the engine is told to quantize to {to!r} while loading; only fp8 is known here: quantize the checkpoint "
            "instead (python -m checkpoints quantize)"
        )
    return replace(read, method=f"{to} while loading", layers=(Layers("FP8_E4M3", "FP8_E4M3", 0),), calibrated=False)


def _of_config(said: Mapping[str, object], wide: str) -> Quantization:
    method = str(said.get("quant_method") or "")
    if method.startswith("modelopt"):
        return _modelopt_config(said, wide)
    if method == "compressed-tensors":
        return _compressed(said, wide)
    if method == "fp8":
        # Static scales of activations come from data; dynamic ones are found while running.
        static = said.get("activation_scheme") == "static"
        layers = Layers("FP8_E4M3", "FP8_E4M3", _block(said.get("weight_block_size")))
        return Quantization(method, (layers,), wide, wide, static, strings(said.get("modules_to_not_convert")))
    if method == "mxfp4":
        # The models that come so were trained in it. Their activations stay wide.
        ignored = strings(said.get("modules_to_not_convert"))
        return Quantization(method, (Layers("MXFP4", "", 32),), wide, wide, calibrated=True, ignored=ignored)
    raise UnknownQuantization(
        f"config.json: quant_method {method!r} is none that a pool serves (modelopt, compressed-tensors, fp8, mxfp4); "
        "integer formats have no pool"
    )


def _modelopt_config(said: Mapping[str, object], wide: str) -> Quantization:
    groups = _groups(said, wide)
    algo = str(said.get("quant_algo") or "")
    if not groups:
        groups = _mixed(said) if algo == "MIXED_PRECISION" else [_of_algo(algo, said)]
    producer = _producer(said)
    kv_cache = _kv_scheme(said.get("kv_cache_scheme")) or _kv_algo(said.get("kv_cache_quant_algo")) or wide
    return Quantization(
        "modelopt",
        _ordered(groups),
        wide,
        kv_cache,
        _modelopt_calibrated(groups, algo),
        strings(said.get("ignore") or said.get("exclude_modules")),
        producer,
    )


def _modelopt_file(file: Mapping[str, object], wide: str) -> Quantization:
    said = mapping(file.get("quantization"))
    algo = str(said.get("quant_algo") or "")
    groups = _mixed(said) if algo == "MIXED_PRECISION" else [_of_algo(algo, said)]
    producer = _producer(file)
    return Quantization(
        "modelopt",
        _ordered(groups),
        wide,
        _kv_algo(said.get("kv_cache_quant_algo")) or wide,
        _modelopt_calibrated(groups, algo),
        strings(said.get("exclude_modules")),
        producer,
    )


def _modelopt_calibrated(groups: Sequence[Layers], algo: str) -> bool:
    """ModelOpt's static scales of activations come from data. Others may have been rounded without any."""
    return algo not in _DYNAMIC and any(group.activations for group in groups)


def _of_algo(algo: str, said: Mapping[str, object]) -> Layers:
    group = integer(said.get("group_size"))
    match algo:
        case "NVFP4" | "NVFP4_AWQ" | "NVFP4_SVDQUANT":
            return Layers("NVFP4", "NVFP4", group or 16)
        case "W4A16_NVFP4" | "NVFP4_W4A16":
            return Layers("NVFP4", "", group or 16)
        case "W4A8_NVFP4_FP8":
            return Layers("NVFP4", "FP8_E4M3", group or 16)
        case "MXFP4":
            return Layers("MXFP4", "MXFP4", group or 32)
        case "W4A16_MXFP4":
            return Layers("MXFP4", "", group or 32)
        case "W4A8_MXFP4_FP8" | "W4A8_MXFP4_MXFP8":
            return Layers("MXFP4", "FP8_E4M3", group or 32)
        case "FP8" | "FP8_PER_CHANNEL_PER_TOKEN" | "FP8_PB_REAL":
            return Layers("FP8_E4M3", "FP8_E4M3", 0)
        case "FP8_BLOCK_SCALES" | "FP8_PB_WO":
            return Layers("FP8_E4M3", "" if algo == "FP8_PB_WO" else "FP8_E4M3", group or 128)
        case _:
            raise UnknownQuantization(
                f"quant_algo {algo!r} is none that a pool serves; integer formats have no pool, and an empty one means "
                "that the export went wrong"
            )


def _mixed(said: Mapping[str, object]) -> list[Layers]:
    """The kinds of layers of a mixed checkpoint, which names each layer's own."""
    named = mapping(said.get("quantized_layers"))
    if not named:
        raise UnknownQuantization("quant_algo MIXED_PRECISION, but no quantized_layers; export the checkpoint again")
    return [_of_algo(str(mapping(layer).get("quant_algo") or ""), mapping(layer)) for layer in named.values()]


def _compressed(said: Mapping[str, object], wide: str) -> Quantization:
    groups = _groups(said, wide)
    if not groups:
        raise UnknownQuantization("compressed-tensors without config_groups: nothing says what the weights are in")
    static = any(
        mapping(mapping(group).get("input_activations")).get("dynamic") in (False, "local")
        for group in mapping(said.get("config_groups")).values()
    )
    return Quantization(
        "compressed-tensors",
        _ordered(groups),
        wide,
        _kv_scheme(said.get("kv_cache_scheme")) or wide,
        static,
        strings(said.get("ignore")),
        f"compressed-tensors {said.get('version') or ''}".strip(),
    )


def _groups(said: Mapping[str, object], wide: str) -> list[Layers]:
    """config_groups: each with the arguments of its weights and of its activations."""
    found: list[Layers] = []
    for name, group in mapping(said.get("config_groups")).items():
        weights = mapping(mapping(group).get("weights"))
        activations = mapping(mapping(group).get("input_activations"))
        form, size = _of_args(weights, f"config_groups.{name}.weights")
        narrow = _of_args(activations, f"config_groups.{name}.input_activations")[0] if activations else ""
        found.append(Layers(form, "" if narrow == wide else narrow, size))
    return found


def _of_args(args: Mapping[str, object], place: str) -> tuple[str, int]:
    """Format and group size of {num_bits, type, group_size | block_structure, ...}."""
    bits, kind, group = integer(args.get("num_bits")), args.get("type") or "int", integer(args.get("group_size"))
    if kind == "float" and bits == 8:
        return "FP8_E4M3", group if group > 0 else _block(args.get("block_structure"))
    if kind == "float" and bits == 4:
        return ("MXFP4", 32) if group == 32 else ("NVFP4", group or 16)
    if kind == "float" and bits == 16:
        return "BF16", 0
    raise UnknownQuantization(f"{place}: {bits}-bit {kind} is none that a pool serves; integer formats have no pool")


def _ordered(groups: Sequence[Layers]) -> tuple[Layers, ...]:
    distinct = dict.fromkeys(groups)
    return tuple(sorted(distinct, key=lambda layers: (_NARROWEST.index(layers.weights), layers.activations)))


def _kind(layers: Layers) -> tuple[str, str]:
    return layers.weights, layers.activations


def _wide(config: Mapping[str, object]) -> str:
    text = mapping(config.get("text_config"))
    name = str(config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype") or "")
    return _WIDE.get(name.removeprefix("torch."), "BF16")


def _kv_scheme(scheme: object) -> str:
    args = mapping(scheme)
    return _of_args(args, "kv_cache_scheme")[0] if args else ""


def _kv_algo(algo: object) -> str:
    return {"FP8": "FP8_E4M3", "NVFP4": "NVFP4"}.get(str(algo or ""), "")


def _producer(said: Mapping[str, object]) -> str:
    producer = mapping(said.get("producer"))
    return f"{producer.get('name') or ''} {producer.get('version') or ''}".strip()


def _block(value: object) -> int:
    sizes = items(value)
    return integer(sizes[-1]) if sizes else 0
