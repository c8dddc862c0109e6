"""`python -m classifier evaluate FILE.jsonl [--json OUT]` and `python -m classifier classify TEXT`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from classifier.evaluate import BadRowError, evaluate, table
from classifier.model import classify
from classifier.weights import BadWeightsError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m classifier", description="The task classifier.")
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser(
        "evaluate", help="measure the shipped model on rows {text, task, fp8_required, slice?, long_context?}"
    )
    measure.add_argument("file", type=Path, metavar="FILE.jsonl")
    measure.add_argument("--json", type=Path, metavar="OUT", help="write the figures there too")
    single = commands.add_parser("classify", help="judge one prompt")
    single.add_argument("text")
    chosen = parser.parse_args(arguments)
    try:
        return _classify(chosen.text) if chosen.command == "classify" else _evaluate(chosen.file, chosen.json)
    except (BadRowError, BadWeightsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _classify(text: str) -> int:
    guess = classify(text)
    print(f"task        {guess.task.name.lower()}")
    print(f"confidence  {guess.confidence:.2f}")
    if guess.risk is not None:
        print(f"risk        {guess.risk:.2f} ({'needs FP8' if guess.needs_fp8 else 'FP4 may serve it'})")
    return 0


def _evaluate(file: Path, out: Path | None) -> int:
    report = evaluate(file, classify)
    print(table(report))
    if out is not None:
        out.write_text(report.to_json(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
