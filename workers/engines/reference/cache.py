"""Quantized weights on disk, so that only the first start has to quantize.

A file is an uncompressed .npz: a zip archive whose CRC-32 of each array is checked when it is read. It is written under
a name of its own and then renamed: a reader sees a whole file or none, and two workers that start at once do the work
twice but never clash. Whatever is wrong with a file, it is quantized and written again.
"""

import logging
import os
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger("bitlane.worker")

LAYOUT = 1
"""Counts up whenever the stored arrays, or the way they are quantized, change."""


def directory() -> Path:
    """BITLANE_CACHE_DIR, or `bitlane` in the user's cache directory."""
    if chosen := os.environ.get("BITLANE_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitlane"


def path(digest: str, form: str) -> Path:
    """Where the weights of a checkpoint ("sha256:<hex>") in a format are stored."""
    return directory() / f"{digest.removeprefix('sha256:')[:32]}-{form}-v{LAYOUT}.npz"


def load(path: Path, names: Collection[str]) -> dict[str, NDArray[np.generic]] | None:
    """The arrays of a file, or None when there is no file or it is not whole."""
    try:
        # Opened here, because np.load would leave a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("cached weights %s are damaged (%s): quantizing again", path.name, error)
        return None


def store(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Writes a file. That it cannot be written costs the next start some seconds, so it is only logged."""
    unfinished: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".tmp", delete=False) as file:
            unfinished = Path(file.name)
            np.savez(file, allow_pickle=False, **arrays)
        unfinished.replace(path)
    except OSError as error:
        logger.warning("cannot cache the quantized weights in %s: %s", path.parent, error)
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
