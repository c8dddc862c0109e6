"""Packed checkpoints: what is in them, that the reference engine computes with them, and what they cost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors

from bitlane.cli.verification import read_verification
from checkpoints.__main__ import main
from checkpoints.files import description_of
from precision.formats import fp8, nvfp4
from precision.profile import Precision
from tests.engine.replies import job, reply
from workers.engines.reference import ReferenceEngine
from workers.engines.reference.loading import load, packaged_checkpoint
from workers.engines.reference.safetensors_file import Stored, bf16, write
from workers.engines.reference.sources import HF_NAMES, HF_NORMS, FolderSource, GgufSource
from workers.engines.vocabulary import Vocabulary

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

Run = Callable[..., int]
_SAMPLES = ("What is the capital of France?", "Write a haiku about rain.", "2 + 3 * 4 = ?")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, in this process."""

    def called(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["checkpoints", *map(str, arguments)])
        return main()

    return called


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two small layers in BF16, with random weights and the embedded model's tokenizer."""
    out = tmp_path_factory.mktemp("tiny")
    description_of(GgufSource(packaged_checkpoint())).write(out, "")
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    config = json.loads((out / "config.json").read_text()) | sizes
    (out / "config.json").write_text(json.dumps(config))
    draw = np.random.default_rng(3)

    def random(rows: int, columns: int) -> Stored:
        return bf16(draw.standard_normal((rows, columns), dtype=np.float32) / np.float32(8))

    shapes = {"q": (64, 64), "k": (32, 64), "v": (32, 64), "out": (64, 64), "gate": (96, 64), "up": (96, 64)}
    tensors = {
        "model.embed_tokens.weight": random(config["vocab_size"], 64),
        "model.norm.weight": bf16(np.ones(64, np.float32)),
    }
    for layer in range(2):
        for part, name in HF_NAMES.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = random(*shapes.get(part, (64, 96)))
        for norm in ("attention", "mlp"):
            tensors[f"{HF_NORMS[norm].format(layer)}.weight"] = bf16(np.ones(64, np.float32))
    write(out / "model.safetensors", tensors.items(), {})
    return out


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "samples.jsonl"
    tasks = ("factual_qa", "creative_writing", "math")
    path.write_text("".join(json.dumps({"text": t, "task": k}) + "\n" for t, k in zip(_SAMPLES, tasks, strict=True)))
    return path


async def test_nvfp4_is_packed_in_modelopts_layout(run: Run, tiny: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "nvfp4"
    assert run("quantize", tiny, out, "--to", "nvfp4", "--samples", samples, "--most-tokens", 64) == 0
    source = FolderSource(tiny)
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    name = "model.layers.1.self_attn.k_proj"

    def tensor(key: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        """As the library reads it."""
        opened: Any = safetensors.safe_open(out / index[key], "numpy")
        with opened as file:
            return file.get_tensor(key)

    stored = {key: tensor(f"{name}.{key}") for key in ("weight", "weight_scale_2", "input_scale")}
    matrix = source.matrix("k", 1)
    assert stored["weight"].shape == (matrix.shape[0], matrix.shape[1] // 2)
    assert stored["weight"].dtype == np.uint8
    assert stored["weight_scale_2"].shape == stored["input_scale"].shape == ()
    # Projections that read the same input share the scale: engines fuse them.
    query = "model.layers.1.self_attn.q_proj.weight_scale_2"
    assert tensor(query) == stored["weight_scale_2"]
    # The values are those of the format, bit by bit.
    whole = nvfp4.quantize(np.concatenate([source.matrix(part, 1) for part in ("q", "k", "v")]))
    rows = source.architecture.heads * source.architecture.head_size
    expected = nvfp4.dequantize(whole)[rows : rows + matrix.shape[0]]
    folder = FolderSource(out)
    assert np.array_equal(folder.matrix("k", 1), expected)
    assert (folder.stored, folder.calibrated) == ("nvfp4", True)
    assert folder.quantization.precision is Precision.FP4
    for file in ("config.json", "hf_quant_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / file).is_file()


async def test_the_reference_engine_serves_it(run: Run, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "fp8"
    assert run("quantize", "packaged", out, "--to", "fp8", "--samples", samples, "--most-tokens", 48) == 0
    engine = ReferenceEngine("fp8", slots=2, context_tokens=256, checkpoint=out)
    await engine.start()
    try:
        got = await reply(engine, job("What is the capital of France?", 10, chat=True))
        assert "Paris" in got.text
        assert engine.profile.calibrated
    finally:
        await engine.close()
    with pytest.raises(ValueError, match="is stored in fp8 and cannot be run in nvfp4"):
        load("nvfp4", 1, 64, out)


async def test_without_samples_nothing_claims_to_be_calibrated(run: Run, tiny: Path, tmp_path: Path) -> None:
    assert run("quantize", tiny, tmp_path / "a", "--to", "nvfp4") == 0
    found = FolderSource(tmp_path / "a").quantization
    assert (found.calibrated, found.weight_only, found.activation_format) == (False, True, "BF16")
    assert run("quantize", tiny, tmp_path / "b", "--to", "fp8") == 0
    found = FolderSource(tmp_path / "b").quantization
    assert (found.calibrated, found.precision, found.activation_format) == (False, Precision.FP8, "FP8_E4M3")
    # FP8 with a scale a row is just what the engine makes of the source by itself.
    expected = fp8.dequantize(fp8.quantize(FolderSource(tiny).matrix("down", 1), per_row=True))
    assert np.array_equal(FolderSource(tmp_path / "b").matrix("down", 1), expected)


async def test_a_gguf_becomes_the_same_model_in_bf16(run: Run, tmp_path: Path) -> None:
    assert run("quantize", "packaged", tmp_path / "x", "--to", "bf16") == 0
    source, folder = GgufSource(packaged_checkpoint()), FolderSource(tmp_path / "x")
    assert folder.architecture == source.architecture
    for projection in ("q", "down"):
        expected = source.matrix(projection, 2).astype(ml_dtypes.bfloat16).astype(np.float32)
        assert np.array_equal(folder.matrix(projection, 2), expected)
    ours, theirs, again = source.tokenizer(), Vocabulary(tmp_path / "x"), folder.tokenizer()
    for text in ("Hello, world! 12345", "naïve 😀 日本語\n\n\ttab", "<|im_start|>don't"):
        assert theirs.encode(text) == ours.encode(text) == again.encode(text)
        assert b"".join(map(theirs.token_bytes, theirs.encode(text))).decode() == text
    assert theirs.token_bytes(2) == b""
    assert theirs.ends == {2}


async def test_what_is_quantized_is_not_quantized_again(run: Run, tiny: Path, tmp_path: Path) -> None:
    assert run("quantize", tiny, tmp_path / "once", "--to", "nvfp4") == 0
    assert run("quantize", tmp_path / "once", tmp_path / "twice", "--to", "fp8") == 2


async def test_a_run_that_was_stopped_goes_on(run: Run, tiny: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    assert run("quantize", tiny, out, "--to", "nvfp4", "--samples", samples, "--most-tokens", 64) == 0
    files = sorted(out.glob("*.safetensors"))
    times = {path.name: path.stat().st_mtime_ns for path in files}
    before = {path.name: path.read_bytes() for path in files[:3]}
    files[1].unlink()
    files[2].write_bytes(b"cut off")
    assert run("quantize", tiny, out, "--to", "nvfp4", "--samples", samples, "--most-tokens", 64) == 0
    assert {path.name: path.read_bytes() for path in files[:3]} == before
    kept = [path for path in files if path.stat().st_mtime_ns == times[path.name]]
    assert len(kept) == len(files) - 2, "what was whole is not made again"


async def test_verifying_compares_tokens_and_perplexity_by_task(
    run: Run, tiny: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    arguments = ("--samples", samples, "--answer-tokens", 8, "--most-tokens", 96, "--report", report)
    code = run("verify", tiny, tiny, "--profile", "nvfp4", *arguments)
    found = json.loads(report.read_text())
    assert found["checkpoint_digest"] == found["source_digest"]
    assert 0 < found["agreement"] < 1
    assert found["perplexity"]["ratio"] > 1
    assert set(found["tasks"]) == {"factual_qa", "creative_writing", "math"}
    assert sum(task["tokens"] for task in found["tasks"].values()) == found["tokens"]
    # The command line sets gates from it, of this very checkpoint; not on so few tokens.
    gates = read_verification(str(report))
    assert gates.digest == found["checkpoint_digest"]
    assert {(one.task, one.tokens, one.state) for one in gates.findings} == {
        (task, said["tokens"], None) for task, said in found["tasks"].items()
    }
    assert (code, found["passed"]) == (1, False), "rounded without calibration, so small a model is far from 99 %"
    assert run("verify", tiny, tiny, "--profile", "fp8", *arguments, "--target", 0.5) == 0
    assert json.loads(report.read_text())["agreement"] > found["agreement"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("inspect", "/nowhere"), "/nowhere: there is no such file or folder"),
        (("quantize", "/nowhere", "OUT", "--to", "fp8"), "/nowhere: there is no such"),
        (("quantize", "packaged", "OUT", "--to", "fp8", "--samples", "/nowhere"), "no such file of samples"),
        (("quantize", "packaged", "OUT", "--to", "fp8", "--with", "modelopt"), "give it --samples"),
        (("verify", "packaged", "packaged", "--samples", "SAMPLES"), "say --profile fp8 or --profile nvfp4"),
        (
            ("verify", "packaged", "packaged", "--samples", "SAMPLES", "--answer-tokens", "512"),
            "--answer-tokens is 512: want at least 1, and fewer than --most-tokens (512)",
        ),
    ],
)
async def test_what_is_wrong_names_itself(
    run: Run, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    real = {"OUT": str(tmp_path / "out"), "SAMPLES": str(samples)}
    assert run(*(real.get(argument, argument) for argument in arguments)) == 2
    assert says in capsys.readouterr().err


async def test_a_tool_that_is_not_installed_says_what_to_install(
    run: Run, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for tool, package in (("modelopt", "nvidia-modelopt"), ("llm-compressor", "llmcompressor")):
        arguments = ("quantize", tmp_path, tmp_path / "out", "--to", "nvfp4", "--with", tool, "--samples", samples)
        assert run(*arguments) == 2
        said = capsys.readouterr().err
        assert "not installed here; run pip install" in said
        assert package in said


async def test_inspect_says_what_each_gpu_does_with_it(
    run: Run, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", checkpoint) == 0
    said = capsys.readouterr().out
    assert "pool          <model>/fp4" in said
    assert "H100, H200 (SM 9.0)                weight_only" in said
    assert "B200 (SM 10.0)                     native" in said
    assert run("inspect", checkpoint, "--json") == 0
    assert json.loads(capsys.readouterr().out)["compute_path"]["9.0"] == "weight_only"
