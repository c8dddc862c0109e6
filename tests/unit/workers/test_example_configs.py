"""The example configurations, read as `python -m workers --config` reads them."""

import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from precision.profile import Precision
from workers.engines.registry import EngineOptionsError, make_engine
from workers.settings import WorkerSettings

FOLDER = Path(__file__).parents[3] / "config" / "engines"
ENGINES = ("sglang", "vllm", "tensorrt_llm", "openai_http")


def started_with(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: str) -> WorkerSettings:
    monkeypatch.setattr(sys, "argv", ["workers", "--config", str(path), *arguments])
    return WorkerSettings.from_command_line()


def test_each_engine_has_one_for_each_precision() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}-{p}.yaml" for name in ENGINES for p in ("fp4", "fp8")}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_makes_the_engine_that_it_is_named_after(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    name, precision = path.stem.rsplit("-", 1)
    settings = started_with(monkeypatch, path)
    assert (settings.engine, settings.precision) == (name, Precision[precision.upper()])
    assert settings.broker_options().url == "redis://localhost:6379/0"
    engine = make_engine(settings.engine, settings.precision, settings.engine_options)
    assert engine.slots == 64
    assert settings.engine_options["compute_path"] == "native", "or FP4 would start where it is slower than FP8"


def test_flags_come_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--pool", "other/fp8", "--lease-ms", "900", "--engine-options", '{"slots": 8}')
    settings = started_with(monkeypatch, FOLDER / "vllm-fp8.yaml", *flags)
    assert settings.engine_options["slots"] == 8
    assert settings.engine_options["compute_path"] == "native", "what was not named stays"
    assert (settings.pool, settings.lease_ms, settings.engine) == ("other/fp8", 900, "vllm")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_slip_in_a_file_names_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: Path) -> None:
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    said["engine_options"]["slot"] = 3
    slip = tmp_path / "slip.yaml"
    slip.write_text(yaml.safe_dump(said), encoding="utf-8")
    settings = started_with(monkeypatch, slip)
    with pytest.raises(EngineOptionsError, match="unknown option slot; known are"):
        make_engine(settings.engine, settings.precision, settings.engine_options)


@pytest.mark.parametrize("pool", ["llama", "llama/fp3", "Llama/fp4", "a/b/fp4", "llama/fp4\n"])
def test_a_pool_that_is_none_names_itself(monkeypatch: pytest.MonkeyPatch, pool: str) -> None:
    with pytest.raises(ValidationError, match=r"pool\s+Value error, want model/precision .* such as smollm2/fp4, got"):
        started_with(monkeypatch, FOLDER / "vllm-fp8.yaml", "--pool", pool)


def test_a_file_that_is_not_there_names_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="config: there is no file"):
        started_with(monkeypatch, tmp_path / "nowhere.yaml")
