"""Configurations of published checkpoints, written from the fields that they document, and what they are in."""

from typing import Any

import pytest

from precision.gpus import compute_path
from precision.profile import ComputePath, Precision
from precision.quantization import Layers, Quantization, UnknownQuantization, quantized_by_engine, read_quantization

_LLAMA: dict[str, Any] = {"model_type": "llama", "torch_dtype": "bfloat16"}
_NVFP4_ARGS = {"num_bits": 4, "type": "float", "group_size": 16, "dynamic": False}


def modelopt_file(algo: str, kv: str | None = None, **more: Any) -> dict[str, Any]:
    said = {"quant_algo": algo, "kv_cache_quant_algo": kv, "exclude_modules": ["lm_head"], **more}
    return {"producer": {"name": "modelopt", "version": "0.23.0"}, "quantization": said}


def modelopt_config(
    algo: str, weights: dict[str, Any], activations: dict[str, Any] | None, **more: Any
) -> dict[str, Any]:
    group = {"weights": weights, "input_activations": activations, "targets": ["Linear"]}
    said = {
        "quant_method": "modelopt",
        "quant_algo": algo,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        **more,
    }
    return {**_LLAMA, "quantization_config": said}


def compressed(form: str, weights: dict[str, Any], activations: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    group = {"format": form, "weights": weights, "input_activations": activations, "targets": ["Linear"]}
    said = {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
        "version": "0.13.0",
        **more,
    }
    return {**_LLAMA, "quantization_config": said}


LLAMA_31_8B_FP4 = (_LLAMA, modelopt_file("NVFP4", "FP8", group_size=16))
"""NVIDIA's exports of 2025: hf_quant_config.json alone says it."""

LLAMA_33_70B_FP4 = (
    modelopt_config(
        "NVFP4",
        _NVFP4_ARGS,
        _NVFP4_ARGS,
        kv_cache_scheme={"dynamic": False, "num_bits": 8, "type": "float"},
        producer={"name": "modelopt", "version": "0.33.0"},
    ),
    modelopt_file("NVFP4", "FP8", group_size=16),
)
LLAMA_31_8B_FP8 = (_LLAMA, modelopt_file("FP8", "FP8"))
QWEN3_W4A16 = (modelopt_config("W4A16_NVFP4", _NVFP4_ARGS, None, group_size=16), None)
DEEPSEEK_R1_FP4 = (
    {"model_type": "deepseek_v3", "torch_dtype": "bfloat16"},
    modelopt_file("NVFP4", None, group_size=16),
)
NEMOTRON_MIXED = (
    _LLAMA,
    modelopt_file(
        "MIXED_PRECISION",
        "FP8",
        quantized_layers={
            "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
            "model.layers.0.mlp.down_proj": {"quant_algo": "NVFP4", "group_size": 16},
            "model.layers.1.mlp.down_proj": {"quant_algo": "NVFP4", "group_size": 16},
        },
    ),
)
LLAMA_NVFP4_COMPRESSED = (
    compressed(
        "nvfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "dynamic": False},
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "dynamic": "local"},
    ),
    None,
)
LLAMA_NVFP4A16_COMPRESSED = (
    compressed(
        "nvfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "dynamic": False},
        None,
    ),
    None,
)
LLAMA_FP8_DYNAMIC = (
    compressed(
        "float-quantized",
        {"num_bits": 8, "type": "float", "strategy": "channel", "dynamic": False},
        {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
    ),
    None,
)
LLAMA_FP8_STATIC_KV = (
    compressed(
        "float-quantized",
        {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False},
        {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False},
        kv_cache_scheme={"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False},
    ),
    None,
)
DEEPSEEK_V3 = (
    {
        "model_type": "deepseek_v3",
        "torch_dtype": "bfloat16",
        "quantization_config": {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
        },
    },
    None,
)
GPT_OSS = (
    {
        "model_type": "gpt_oss",
        "quantization_config": {
            "quant_method": "mxfp4",
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
        },
    },
    None,
)
LLAMA_BF16 = (_LLAMA, None)


@pytest.mark.parametrize(
    ("files", "precision", "weights", "activations", "group", "kv", "calibrated"),
    [
        (LLAMA_31_8B_FP4, Precision.FP4, "NVFP4", "NVFP4", 16, "FP8_E4M3", True),
        (LLAMA_33_70B_FP4, Precision.FP4, "NVFP4", "NVFP4", 16, "FP8_E4M3", True),
        (LLAMA_31_8B_FP8, Precision.FP8, "FP8_E4M3", "FP8_E4M3", 0, "FP8_E4M3", True),
        (QWEN3_W4A16, Precision.FP4, "NVFP4", "BF16", 16, "BF16", False),
        (DEEPSEEK_R1_FP4, Precision.FP4, "NVFP4", "NVFP4", 16, "BF16", True),
        (NEMOTRON_MIXED, Precision.FP4, "NVFP4+FP8_E4M3", "NVFP4+FP8_E4M3", 16, "FP8_E4M3", True),
        (LLAMA_NVFP4_COMPRESSED, Precision.FP4, "NVFP4", "NVFP4", 16, "BF16", True),
        (LLAMA_NVFP4A16_COMPRESSED, Precision.FP4, "NVFP4", "BF16", 16, "BF16", False),
        (LLAMA_FP8_DYNAMIC, Precision.FP8, "FP8_E4M3", "FP8_E4M3", 0, "BF16", False),
        (LLAMA_FP8_STATIC_KV, Precision.FP8, "FP8_E4M3", "FP8_E4M3", 0, "FP8_E4M3", True),
        (DEEPSEEK_V3, Precision.FP8, "FP8_E4M3", "FP8_E4M3", 128, "BF16", False),
        (GPT_OSS, Precision.FP4, "MXFP4", "BF16", 32, "BF16", True),
        (LLAMA_BF16, Precision.BF16, "BF16", "BF16", 0, "BF16", False),
    ],
)
def test_published_checkpoints_are_what_they_say(
    files: tuple[dict[str, Any], dict[str, Any] | None],
    precision: Precision,
    weights: str,
    activations: str,
    group: int,
    kv: str,
    calibrated: bool,
) -> None:
    found = read_quantization(*files)
    assert (found.precision, found.weight_format, found.activation_format) == (precision, weights, activations)
    assert (found.narrowest.group_size, found.kv_cache, found.calibrated) == (group, kv, calibrated)


def path_on(files: tuple[dict[str, Any], dict[str, Any] | None], sm: tuple[int, int]) -> ComputePath:
    found = read_quantization(*files)
    return compute_path(found.narrowest.weights, found.narrowest.activations or found.wide, sm)


def test_a_weight_only_checkpoint_is_native_nowhere() -> None:
    for files in (QWEN3_W4A16, LLAMA_NVFP4A16_COMPRESSED, GPT_OSS):
        assert read_quantization(*files).weight_only
        assert {path_on(files, sm) for sm in ((9, 0), (10, 0), (10, 3), (12, 0))} == {ComputePath.WEIGHT_ONLY}


def test_nvfp4_is_native_on_blackwell_alone_and_fp8_from_ada_on() -> None:
    for sm, fp4, fp8 in (
        ((8, 0), ComputePath.WEIGHT_ONLY, ComputePath.WEIGHT_ONLY),
        ((8, 9), ComputePath.WEIGHT_ONLY, ComputePath.NATIVE),
        ((9, 0), ComputePath.WEIGHT_ONLY, ComputePath.NATIVE),
        ((10, 0), ComputePath.NATIVE, ComputePath.NATIVE),
        ((10, 3), ComputePath.NATIVE, ComputePath.NATIVE),
        ((12, 0), ComputePath.NATIVE, ComputePath.NATIVE),
    ):
        assert (path_on(LLAMA_31_8B_FP4, sm), path_on(LLAMA_31_8B_FP8, sm)) == (fp4, fp8), sm


def test_an_engine_may_be_told_to_widen() -> None:
    assert compute_path("NVFP4", "NVFP4", (10, 0), widened=True) is ComputePath.WEIGHT_ONLY


def test_the_two_files_have_to_agree() -> None:
    config, _ = QWEN3_W4A16
    with pytest.raises(UnknownQuantization, match=r"config\.json says NVFP4 weights and BF16 activations"):
        read_quantization(config, modelopt_file("NVFP4", group_size=16))


@pytest.mark.parametrize(
    ("config", "hf", "says"),
    [
        ({**_LLAMA, "quantization_config": {"quant_method": "awq", "bits": 4}}, None, "quant_method 'awq'"),
        ({**_LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4}}, None, "integer formats have no pool"),
        ({**_LLAMA, "quantization_config": {"quant_method": "bitsandbytes"}}, None, "'bitsandbytes'"),
        (_LLAMA, modelopt_file("W4A16_AWQ"), "quant_algo 'W4A16_AWQ'"),
        (_LLAMA, modelopt_file(""), "the export went wrong"),
        (_LLAMA, modelopt_file("MIXED_PRECISION"), "no quantized_layers"),
        (compressed("pack-quantized", {"num_bits": 4, "type": "int", "group_size": 128}, None), None, "4-bit int"),
        ({**_LLAMA, "quantization_config": {"quant_method": "compressed-tensors"}}, None, "without config_groups"),
    ],
)
def test_what_no_pool_serves_is_refused(config: dict[str, Any], hf: dict[str, Any] | None, says: str) -> None:
    with pytest.raises(UnknownQuantization, match=says):
        read_quantization(config, hf)


@pytest.mark.parametrize("config", [{}, {"quantization_config": None}, {"quantization_config": []}, {"torch_dtype": 5}])
def test_what_says_nothing_is_bf16(config: dict[str, Any]) -> None:
    assert read_quantization(config).precision is Precision.BF16


def test_an_engine_that_quantizes_while_loading_is_fp8_without_calibration() -> None:
    found = quantized_by_engine(read_quantization(_LLAMA), "fp8", "auto")
    assert (found.precision, found.layers, found.calibrated) == (
        Precision.FP8,
        (Layers("FP8_E4M3", "FP8_E4M3", 0),),
        False,
    )
    with pytest.raises(UnknownQuantization, match="told to quantize to 'bitsandbytes'"):
        quantized_by_engine(read_quantization(_LLAMA), "bitsandbytes", "auto")


def test_the_argument_that_names_a_checkpoints_own_format_changes_nothing() -> None:
    read = read_quantization(*LLAMA_31_8B_FP4)
    assert quantized_by_engine(read, "modelopt_fp4", "auto") == read


@pytest.mark.parametrize(
    ("dtype", "kept"), [("auto", "BF16"), ("fp8", "FP8_E4M3"), ("fp8_e5m2", "FP8_E5M2"), ("nvfp4", "NVFP4")]
)
def test_the_cache_is_in_what_the_engine_was_told(dtype: str, kept: str) -> None:
    read: Quantization = read_quantization(_LLAMA)
    assert quantized_by_engine(read, "", dtype).kv_cache == kept
