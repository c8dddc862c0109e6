"""The commands, with their progress bars."""

import argparse
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from checkpoints import inspect, packer, tools
from checkpoints.calibration import Largest, calibrate
from checkpoints.failures import CheckpointProblem
from checkpoints.files import description_of
from checkpoints.samples import read_samples
from checkpoints.verify import verify
from workers.engines.reference.loading import packaged_checkpoint
from workers.engines.reference.sources import FolderSource, GgufSource

_console = Console(stderr=True)


class _Bar:
    """One line of progress."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)

    def advance(self, count: int = 1) -> None:
        self._progress.advance(self._task, count)


@contextmanager
def _bar(what: str, total: int) -> Generator[_Bar]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console) as progress:
        yield _Bar(progress, what, total)


def inspected(options: argparse.Namespace) -> int:
    found = inspect.inspect(_existing(options.checkpoint))
    out = Console(highlight=False, soft_wrap=True)
    out.print(json.dumps(inspect.as_json(found), indent=1) if options.json else inspect.as_text(found), markup=False)
    return 0


def quantized(options: argparse.Namespace) -> int:
    out: Path = options.out
    samples = read_samples(options.samples, options.most_samples) if options.samples else []
    path = packaged_checkpoint() if str(options.source) == "packaged" else _existing(options.source)
    out.mkdir(parents=True, exist_ok=True)
    if options.tool != "builtin":
        if not samples:
            raise CheckpointProblem(f"--with {options.tool} calibrates: give it --samples")
        if options.to == "bf16":
            raise CheckpointProblem("--to bf16 is a conversion: leave --with out")
        tool = tools.quantize_with_modelopt if options.tool == "modelopt" else tools.quantize_with_llm_compressor
        with _bar("calibrating", len(samples)) as bar:
            tool(path, out, options.to, samples, most_tokens=options.most_tokens, advance=bar.advance)
        return 0
    source = _source(path)
    if source.stored is not None:
        raise CheckpointProblem(f"{path}: is quantized already; start from the model in BF16 or from a GGUF file")
    digest = source.digest()
    largest: Largest | None = None
    if samples and options.to != "bf16":
        kept = out / "calibration.json"
        with _bar("calibrating", len(samples)) as bar:
            largest = calibrate(source, digest, samples, kept, most_tokens=options.most_tokens, advance=bar.advance)
    with _bar(f"packing {options.to}", source.architecture.layers + 1) as bar:
        packer.pack(source, digest, out, options.to, largest, description_of(source), advance=bar.advance)
    _console.print(f"wrote {out}: {packer.algorithm(options.to, largest) or 'BF16'}", highlight=False)
    return 0


def verified(options: argparse.Namespace) -> int:
    samples = read_samples(options.samples, options.most_samples)
    source = packaged_checkpoint() if str(options.source) == "packaged" else _existing(options.source)
    checkpoint = packaged_checkpoint() if str(options.checkpoint) == "packaged" else _existing(options.checkpoint)
    with _bar("comparing", len(samples)) as bar:
        found = verify(
            source,
            checkpoint,
            options.profile,
            samples,
            answer_tokens=options.answer_tokens,
            most_tokens=options.most_tokens,
            advance=bar.advance,
        )
    report = found.report(options.target)
    written = json.dumps(report, indent=1)
    if options.report:
        options.report.write_text(written + "\n", encoding="utf-8")
    Console(highlight=False, soft_wrap=True).print(written, markup=False)
    return 0 if report["passed"] else 1


def _existing(path: Path) -> Path:
    if not path.exists():
        raise CheckpointProblem(f"{path}: there is no such file or folder")
    return path


def _source(path: Path) -> GgufSource | FolderSource:
    try:
        return FolderSource(path) if path.is_dir() else GgufSource(path)
    except (ValueError, OSError, KeyError) as error:
        raise CheckpointProblem(f"{path}: {error}") from error
