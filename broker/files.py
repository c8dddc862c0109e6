"""Whether a file has changed."""

import os
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[int, int, int] | None


def stamp(path: str | os.PathLike[str]) -> Stamp:
    """Differs when the file does: time of its last change in ns, size, inode; None when it is not there."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
