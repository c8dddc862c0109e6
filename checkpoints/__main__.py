"""`python -m checkpoints inspect | quantize | verify`."""

import argparse
import os
import sys
from pathlib import Path

# Before NumPy is loaded: this tool may use the whole machine, unlike a worker.
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(os.cpu_count() or 1))

from checkpoints import commands, verify
from checkpoints.failures import CheckpointProblem
from checkpoints.packer import FORMATS


def main() -> int:
    options = _parser().parse_args()
    try:
        return options.run(options)
    except CheckpointProblem as problem:
        print(f"python -m checkpoints: {problem}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"python -m checkpoints: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = options.run is commands.quantized and options.tool == "builtin"
        goes_on = "; the same command goes on where it was" if kept else ""
        print(f"python -m checkpoints: stopped{goes_on}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m checkpoints", description="What checkpoints are in, and making them."
    )
    commanded = parser.add_subparsers(required=True, metavar="command")

    one = commanded.add_parser("inspect", help="print what a checkpoint is in, and how each GPU would compute it")
    one.add_argument("checkpoint", type=Path, help="folder with config.json")
    one.add_argument("--json", action="store_true", help="print JSON")
    one.set_defaults(run=commands.inspected)

    one = commanded.add_parser("quantize", help="make an NVFP4, FP8 or BF16 checkpoint of a BF16 folder or a GGUF file")
    one.add_argument("source", type=Path, help="folder in BF16, or a .gguf file; 'packaged' is the embedded model")
    one.add_argument("out", type=Path, help="folder to write; a run that was stopped goes on there")
    one.add_argument("--to", choices=FORMATS, required=True)
    one.add_argument("--with", dest="tool", choices=("builtin", "modelopt", "llm-compressor"), default="builtin")
    one.add_argument("--samples", type=Path, help="JSONL of what the model is asked; 512 to 1024 lines are usual")
    one.add_argument("--most-samples", type=int, default=1024, metavar="N")
    one.add_argument("--most-tokens", type=int, default=512, metavar="N", help="of each sample")
    one.set_defaults(run=commands.quantized)

    one = commanded.add_parser("verify", help="compare a checkpoint's tokens and perplexity with its source's")
    one.add_argument("source", type=Path)
    one.add_argument("checkpoint", type=Path)
    one.add_argument("--profile", choices=("fp8", "nvfp4"), help="how to run a checkpoint that is not quantized itself")
    one.add_argument("--samples", type=Path, required=True, help="JSONL of prompts, with a task each if there is one")
    one.add_argument("--most-samples", type=int, default=64, metavar="N")
    one.add_argument("--answer-tokens", type=int, default=32, metavar="N")
    one.add_argument("--most-tokens", type=int, default=512, metavar="N", help="of prompt and answer")
    one.add_argument("--target", type=float, default=verify.TARGET, help="agreement to reach (default: %(default)s)")
    one.add_argument("--report", type=Path, help="write the findings as JSON")
    one.set_defaults(run=commands.verified)
    return parser


if __name__ == "__main__":
    sys.exit(main())
