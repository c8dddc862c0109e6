"""`python -m tests.fuzz TARGET [SECONDS]`: fuzzes one target, and keeps what breaks it in tests/fuzz/found/.

With atheris installed (`make fuzz`) the mutations are guided by coverage; without it they are blind.
"""

import argparse
import hashlib
import importlib
import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import mutate

# What is under test: atheris must see these imported to follow them.
_INSTRUMENTED = ("precision", "router", "workers", "bitlane")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    arguments = parser.parse_args()
    guided: Any = importlib.import_module("atheris") if importlib.util.find_spec("atheris") else None
    if guided is not None:
        with guided.instrument_imports(include=list(_INSTRUMENTED)):
            importlib.import_module("tests.fuzz.targets")
    targets = importlib.import_module("tests.fuzz.targets")
    if arguments.target not in targets.TARGETS:
        parser.error(f"no such target; there are {', '.join(targets.TARGETS)}")
    target, seeds = targets.TARGETS[arguments.target], targets.corpus(arguments.target)

    def one(data: bytes) -> None:
        try:
            target(data)
        except Exception:
            path = targets.FOLDER / "found" / arguments.target / hashlib.sha256(data).hexdigest()[:12]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            sys.stderr.write(f"found {path}\n")
            raise

    if guided is not None:
        return _guided(guided, one, seeds, arguments.seconds)
    return _blind(one, list(seeds.values()), arguments.seconds)


def _guided(guided: Any, one: Any, seeds: dict[str, bytes], seconds: float) -> int:
    with tempfile.TemporaryDirectory(prefix="bitlane-fuzz-") as folder:
        for number, data in enumerate(seeds.values()):
            (Path(folder) / str(number)).write_bytes(data)
        options = [f"-max_total_time={seconds:.0f}", "-max_len=8192", "-rss_limit_mb=4096", "-print_final_stats=1"]
        guided.Setup([sys.argv[0], *options, folder], one)
        guided.Fuzz()  # ends the process itself
    return 0


def _blind(one: Any, seeds: list[bytes], seconds: float) -> int:
    dice = random.Random()
    tried = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        one(mutate(dice.choice(seeds), dice))
        tried += 1
    sys.stdout.write(f"{tried} inputs, none broke it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
