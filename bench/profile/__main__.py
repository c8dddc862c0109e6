"""Where a router's time goes: `python -m bench.profile [--case NAME] [--seconds S] [--svg FILE]`; `make bench-profile`.

Puts a case of bench.service on bitlane with all features and samples the router with py-spy meanwhile. Prints CPU by
thread, samples by package and by function, and draws a flame graph.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.profile.stacks import Node, by_function, by_package, event_loop, flame_graph, read
from bench.service import parts
from bench.service.cases import CASES, Case
from bench.service.variants import BITLANE, Variant, of_stack
from deploy.local.stack import Stack

_PY_SPY = Path(".venv-profile/bin/py-spy")
_RATE = 500  # samples a second
_SLOTS = 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--case", choices=[case.name for case in CASES], default="flood")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--svg", type=Path, default=Path("bench/results/flame.svg"))
    arguments = parser.parse_args()
    if not _PY_SPY.exists():
        print("bench.profile: py-spy is not installed; make bench-profile installs it", file=sys.stderr)
        return 1
    (case,) = (case for case in CASES if case.name == arguments.case)
    root, threads = _profile(case, arguments.seconds)
    _tell(root, threads)
    arguments.svg.parent.mkdir(parents=True, exist_ok=True)
    arguments.svg.write_text(flame_graph(root, f"The router under load: {case.name}"), encoding="utf-8")
    return 0


def _profile(case: Case, seconds: int) -> tuple[Node, dict[str, float]]:
    """The sampled stacks, and CPU seconds by thread, while the case is sent again and again."""
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
        stack = Stack(
            engine="scripted",
            engine_options=json.dumps({"token_ms": case.token_ms, "slots": _SLOTS}),
            config=parts.configuration(folder),
            telemetry=started.enter_context(parts.telemetry(True)),
        )
        (variant,) = of_stack(started.enter_context(stack).start(), BITLANE)
        _load(case, variant, "warm-up")
        (pid,) = variant.roles["proxy"]
        stop = threading.Event()
        load = threading.Thread(target=_load_until, args=(case, variant, stop))
        load.start()
        try:
            before = _threads(pid)
            out = folder / "folded.txt"
            subprocess.run(
                [
                    *(_PY_SPY, "record", "--pid", str(pid), "--format", "raw", "--output", out),
                    *("--duration", str(seconds), "--rate", str(_RATE)),
                ],
                check=True,
                capture_output=True,
            )
            after = _threads(pid)
        finally:
            stop.set()
            load.join()
        used = {name: cpu - before.get(name, 0.0) for name, cpu in after.items()}
        return event_loop(read(out.read_text(encoding="utf-8").splitlines())), used


def _load_until(case: Case, variant: Variant, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        _load(case, variant, str(number))
        number += 1


def _load(case: Case, variant: Variant, tag: str) -> None:
    work = case.work(variant.target, tag)
    subprocess.run(
        [sys.executable, "-m", variant.client, json.dumps(asdict(work))], stdout=subprocess.DEVNULL, check=True
    )


def _threads(pid: int) -> dict[str, float]:
    """CPU seconds by the name of the thread; those with one name together."""
    used: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = "event loop" if task.name == str(pid) else (task / "comm").read_text("utf-8").strip()
        nanoseconds = int((task / "schedstat").read_text("ascii").split()[0])
        used[name] = used.get(name, 0.0) + nanoseconds / 1e9
    return used


def _tell(root: Node, threads: dict[str, float]) -> None:
    cpu = sum(threads.values())
    print("| thread | CPU |\n| --- | --- |")
    for name, used in sorted(threads.items(), key=lambda item: -item[1]):
        if used >= cpu / 200:
            print(f"| {name} | {100 * used / cpu:.1f} % |")
    print("\n| own code of | samples |\n| --- | --- |")
    for name, samples in by_package(root).items():
        if samples >= root.samples / 200:
            print(f"| {name} | {100 * samples / root.samples:.1f} % |")
    print("\n| function | with what it calls | itself |\n| --- | --- | --- |")
    for name, total, own in by_function(root, 25):
        print(f"| {name} | {100 * total / root.samples:.1f} % | {100 * own / root.samples:.1f} % |")


if __name__ == "__main__":
    sys.exit(main())
