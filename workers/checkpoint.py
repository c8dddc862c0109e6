"""A checkpoint on disk, as far as a worker's profile needs it: its configuration, and a digest over all that it is."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from precision.quantization import Quantization, read_quantization
from precision.untyped import mapping, text

_DESCRIBE = ("config.json", "hf_quant_config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_WEIGHTS = (".safetensors", ".gguf", ".bin")
_CHUNK = 8 << 20


class CheckpointUnreadable(ValueError):
    """The folder is no checkpoint that can be read; the message names the file and what is wrong."""


def quantization_of(folder: Path) -> Quantization:
    """What a checkpoint says of its precision.

    Raises:
        CheckpointUnreadable: config.json is missing or no JSON.
        precision.quantization.UnknownQuantization: no pool serves it.
    """
    config = _json(folder / "config.json")
    if config is None:
        raise CheckpointUnreadable(
            f"{folder / 'config.json'}: there is no such file; engine options: model is a folder"
        )
    return read_quantization(config, _json(folder / "hf_quant_config.json"))


def digest_of(folder: Path) -> str:
    """ "sha256:<hex>" over the names and contents of configuration, tokenizer and weights.

    Files are hashed side by side, about 1.5 GB/s a core; a file that has not changed since (by size and time) is not
    read again: its hash is kept in the cache directory of the user.
    """
    files = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and (path.name in _DESCRIBE or path.suffix in _WEIGHTS or path.name.endswith(".index.json"))
    )
    cache = _Cache()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        hashes = list(threads.map(cache.sha256, files))
    cache.store()
    return digest_over([(path.name, value) for path, value in zip(files, hashes, strict=True)])


def digest_over(files: Sequence[tuple[str, str]]) -> str:
    """The digest of a checkpoint from the names and SHA-256 (hex) of its files, in order of names."""
    whole = hashlib.sha256()
    for name, value in sorted(files):
        whole.update(f"{name}\0{value}\n".encode())
    return f"sha256:{whole.hexdigest()}"


class _Cache:
    """Hashes of files by path, size and time of change. A cache that cannot be used costs time, nothing else."""

    def __init__(self) -> None:
        base = os.environ.get("BITLANE_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        self._path = Path(base) / "bitlane" / "digests.json"
        try:
            read: object = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            read = None
        self._known = {key: text(value) for key, value in mapping(read).items()}

    def sha256(self, path: Path) -> str:
        state = path.stat()
        key = f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"
        if (known := self._known.get(key)) is not None:
            return known
        whole = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                whole.update(chunk)
        self._known[key] = whole.hexdigest()
        return self._known[key]

    def store(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._path.with_suffix(f".{os.getpid()}.tmp")
            unfinished.write_text(json.dumps(self._known), encoding="utf-8")
            unfinished.replace(self._path)
        except OSError:
            return


def _json(path: Path) -> Mapping[str, object] | None:
    try:
        read: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointUnreadable(f"{path}: cannot be read: {error}") from error
    found = mapping(read)
    if not found:
        raise CheckpointUnreadable(f"{path}: want a JSON object with something in it")
    return found
