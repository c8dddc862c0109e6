"""Where the benchmarks leave their figures, as JSON, for `python -m bench.report` and whoever else wants them."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path("bench/results")


def save(path: Path | None, figures: Mapping[str, object]) -> None:
    """Writes figures, and what they were measured on; nothing without a path."""
    if path is None:
        return
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n", encoding="utf-8")


def load(name: str, folder: Path = FOLDER) -> Mapping[str, Any] | None:
    """What a benchmark has left; None when it has not run."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
