"""Profiles from a checkpoint on disk: its digest, and what goes wrong."""

import json
from pathlib import Path

import pytest

from precision.gpus import Gpu
from precision.profile import ComputePath, Precision
from workers.attest import ProfileMismatchError, attest, profile_of
from workers.checkpoint import CheckpointUnreadable, digest_of, digest_over, quantization_of

H100 = Gpu("H100", (9, 0))
B200 = Gpu("B200", (10, 0), mig="1g.23gb")
NVFP4 = {"quantization": {"quant_algo": "NVFP4", "group_size": 16}, "producer": {"name": "modelopt"}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITLANE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "llama", "torch_dtype": "bfloat16"}')
    (made / "hf_quant_config.json").write_text(json.dumps(NVFP4))
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def test_the_digest_is_of_all_that_matters(folder: Path) -> None:
    first = digest_of(folder)
    assert first.startswith("sha256:")
    assert digest_of(folder) == first
    (folder / "README.md").write_text("not served")
    assert digest_of(folder) == first
    (folder / "model.safetensors").write_bytes(b"Weights")
    second = digest_of(folder)
    assert second != first
    (folder / "config.json").write_text('{"model_type": "llama"}')
    assert digest_of(folder) not in {first, second}
    assert digest_over([("a", "1"), ("b", "2")]) == digest_over([("b", "2"), ("a", "1")])


def test_a_damaged_cache_costs_nothing_but_time(folder: Path, tmp_path: Path) -> None:
    first = digest_of(folder)
    (tmp_path / "cache" / "bitlane" / "digests.json").write_text("no json")
    assert digest_of(folder) == first


def test_a_profile_on_hopper_and_on_a_slice_of_blackwell(folder: Path) -> None:
    hopper = profile_of(folder, H100, engine="vllm", version="1", digest="sha256:0", environment={})
    assert (hopper.precision, hopper.compute_path, hopper.sm) == (Precision.FP4, ComputePath.WEIGHT_ONLY, "9.0")
    attest(hopper, "m/fp4", Precision.FP4)
    attest(hopper, "m/fp4", Precision.FP4, ComputePath.WEIGHT_ONLY)
    with pytest.raises(ProfileMismatchError, match=r"needs compute capability 10\.0: use another GPU"):
        attest(hopper, "m/fp4", Precision.FP4, ComputePath.NATIVE)
    blackwell = profile_of(folder, B200, engine="vllm", version="1", digest="sha256:0", environment={})
    assert (blackwell.compute_path, blackwell.gpu) == (ComputePath.NATIVE, "B200 MIG 1g.23gb")
    attest(blackwell, "m/fp4", Precision.FP4, ComputePath.NATIVE)
    with pytest.raises(ProfileMismatchError, match="set compute_path to native"):
        attest(blackwell, "m/fp4", Precision.FP4, ComputePath.WEIGHT_ONLY)


def test_a_setting_that_widens_is_seen(folder: Path) -> None:
    widened = profile_of(
        folder, B200, engine="sglang", version="1", digest="", environment={"SGLANG_FORCE_NVFP4_MARLIN": "1"}
    )
    assert widened.compute_path is ComputePath.WEIGHT_ONLY
    with pytest.raises(ProfileMismatchError, match="A setting of the engine widens the weights"):
        attest(widened, "m/fp4", Precision.FP4, ComputePath.NATIVE)


def test_a_weight_only_checkpoint_in_a_native_pool_is_refused(folder: Path) -> None:
    weight_only = {"quantization": {"quant_algo": "W4A16_NVFP4", "group_size": 16}}
    (folder / "hf_quant_config.json").write_text(json.dumps(weight_only))
    found = profile_of(folder, B200, engine="vllm", version="1", digest="", environment={})
    with pytest.raises(ProfileMismatchError, match="keeps activations in BF16: its weights are widened on every GPU"):
        attest(found, "m/fp4", Precision.FP4, ComputePath.NATIVE)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", None, "there is no such file"),
        ("config.json", "{", "cannot be read"),
        ("config.json", "[1]", "want a JSON object"),
        ("hf_quant_config.json", "{", "cannot be read"),
    ],
)
def test_a_bad_checkpoint_names_its_file(folder: Path, name: str, content: str | None, says: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(CheckpointUnreadable, match=f"{name}: .*{says}"):
        quantization_of(folder)
