"""The measurements that ship with the project, and reading others."""

import json
from pathlib import Path
from typing import Any

import pytest

from precision.profile import ComputePath, Precision
from precision.throughput import BadThroughput, Throughput, read_throughput

FOLDER = Path(__file__).parents[3] / "config" / "throughput"


def shipped(name: str) -> Throughput:
    return read_throughput(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def test_all_that_ship_can_be_read() -> None:
    names = [path.stem for path in FOLDER.glob("*.json")]
    assert len(names) >= 4
    assert all(shipped(name).points for name in names)


def test_on_hopper_nvfp4_wins_alone_and_loses_under_load() -> None:
    for engine, alone, loaded in (("vllm", 1.13, 0.69), ("sglang", 1.14, 0.77)):
        fp8, fp4 = shipped(f"h100-{engine}-fp8"), shipped(f"h100-{engine}-nvfp4")
        assert (fp8.precision, fp4.precision) == (Precision.FP8, Precision.FP4)
        assert fp4.compute_path is ComputePath.WEIGHT_ONLY
        assert fp4.tokens_per_s(1) / fp8.tokens_per_s(1) == pytest.approx(alone, abs=0.02)
        assert fp4.tokens_per_s(64) / fp8.tokens_per_s(64) == pytest.approx(loaded, abs=0.02)


def test_between_measurements_the_rate_lies_between_theirs() -> None:
    fp8 = shipped("h100-vllm-fp8")
    assert fp8.tokens_per_s(8) == 1566
    assert 1566 < fp8.tokens_per_s(20) < 5262
    assert fp8.tokens_per_s(500) == fp8.tokens_per_s(64)
    assert fp8.tokens_per_s(0) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"measured": []}, "at least one measurement"),
        ({"measured": [{"streams": 1, "tokens_per_s": 1}, {"streams": 1, "tokens_per_s": 2}]}, "one for each number"),
        ({"measured": [{"streams": 0, "tokens_per_s": 1}]}, r"measured\[0\]"),
        ({"measured": [{"streams": 1, "tokens_per_s": "quick"}]}, r"measured\[0\]"),
        ({"profile": {"precision": "FP3", "compute_path": "native"}}, "precision or compute_path"),
        ({"profile": {"precision": "FP4", "compute_path": "magic"}}, "precision or compute_path"),
    ],
)
def test_bad_files_name_their_field(change: dict[str, Any], says: str) -> None:
    good = json.loads((FOLDER / "h100-vllm-fp8.json").read_text(encoding="utf-8"))
    with pytest.raises(BadThroughput, match=says):
        read_throughput(good | change)
