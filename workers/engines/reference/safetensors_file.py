"""Reads and writes safetensors files: a length, a JSON header of names, types, shapes and places, then the bytes.

Own code of some lines, because the library's NumPy side has neither bfloat16 nor FP8. Tests hold the two against each
other.
"""

import json
import mmap
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from precision.formats.minifloat import Bytes, Float32s
from precision.untyped import integer, items, mapping, text

_WIDTH = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "U8": 1}
_MOST_HEADER = 100 << 20


class NotSafetensors(ValueError):
    """A file is damaged or of another kind; the message names it and says what was found."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as it is in a file. `kind` is F32, F16, BF16, F8_E4M3 or U8; `raw` its bytes, row by row."""

    kind: str
    shape: tuple[int, ...]
    raw: Bytes

    def values(self) -> Float32s:
        """float32 of a tensor of wide floating-point numbers. Raises NotSafetensors for one of codes."""
        if self.kind == "F32":
            return self.raw.view(np.float32).reshape(self.shape).copy()
        if self.kind == "F16":
            return self.raw.view(np.float16).astype(np.float32).reshape(self.shape)
        if self.kind == "BF16":
            return (self.raw.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(self.shape)
        raise NotSafetensors(f"a tensor of type {self.kind} holds codes: it needs its scales")

    def codes(self) -> Bytes:
        """uint8 of a tensor of codes (U8, F8_E4M3). Raises NotSafetensors for another."""
        if _WIDTH[self.kind] != 1:
            raise NotSafetensors(f"a tensor of type {self.kind} holds no codes")
        return self.raw.reshape(self.shape)


def bf16(values: Float32s) -> Stored:
    """float32 rounded to bfloat16, to nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return Stored("BF16", values.shape, rounded.astype(np.uint16).reshape(-1).view(np.uint8))


def f32(values: NDArray[np.float32]) -> Stored:
    whole = np.ascontiguousarray(values, dtype=np.float32)
    return Stored("F32", np.shape(values), whole.reshape(-1).view(np.uint8))


def codes(kind: str, values: Bytes) -> Stored:
    """Codes as U8 or F8_E4M3."""
    return Stored(kind, values.shape, np.ascontiguousarray(values).reshape(-1))


class SafetensorsFile:
    """An open file; `names` are its tensors, `note` what its writer noted."""

    def __init__(self, path: Path) -> None:
        """Raises NotSafetensors, or OSError."""
        self._path = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8:
                raise NotSafetensors(f"{path.name}: has {size} bytes; a safetensors file begins with a length of 8")
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack_from("<Q", self._data, 0)
        if length > min(_MOST_HEADER, size - 8):
            raise NotSafetensors(f"{path.name}: its header would have {length} bytes, and the file has {size}")
        try:
            header: object = json.loads(self._data[8 : 8 + length])
        except ValueError as error:
            raise NotSafetensors(f"{path.name}: its header is no JSON: {error}") from error
        self._start = 8 + length
        self._entries = {name: mapping(entry) for name, entry in mapping(header).items() if name != "__metadata__"}
        self.note = {key: text(value) for key, value in mapping(mapping(header).get("__metadata__")).items()}
        for name in self._entries:
            self._place(name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def tensor(self, name: str) -> Stored:
        """Raises KeyError, or NotSafetensors."""
        kind, shape, first, last = self._place(name)
        return Stored(kind, shape, np.frombuffer(self._data, np.uint8, last - first, self._start + first))

    def _place(self, name: str) -> tuple[str, tuple[int, ...], int, int]:
        entry = self._entries[name]
        kind = text(entry.get("dtype"))
        shape = tuple(integer(size) for size in items(entry.get("shape")))
        first, last = (integer(place, -1) for place in (*items(entry.get("data_offsets")), None, None)[:2])
        if kind not in _WIDTH:
            raise NotSafetensors(f"{self._path.name}: tensor {name} is of type {kind!r}; known are {', '.join(_WIDTH)}")
        wanted = int(np.prod(shape, dtype=np.int64)) * _WIDTH[kind]
        if first < 0 or last - first != wanted or self._start + last > len(self._data):
            raise NotSafetensors(
                f"{self._path.name}: tensor {name} lies outside of the file: it was cut off, or damaged"
            )
        return kind, shape, first, last


class SafetensorsFolder:
    """All tensors of a checkpoint's folder, in however many files."""

    def __init__(self, folder: Path) -> None:
        """Raises NotSafetensors, or FileNotFoundError."""
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise FileNotFoundError(f"{folder}: has no *.safetensors files")
        self._files: dict[str, SafetensorsFile] = {}
        for path in paths:
            file = SafetensorsFile(path)
            self._files |= dict.fromkeys(file.names, file)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def tensor(self, name: str) -> Stored:
        """Raises NotSafetensors when there is no such tensor."""
        if name not in self._files:
            raise NotSafetensors(f"the checkpoint has no tensor {name}")
        return self._files[name].tensor(name)


def write(path: Path, tensors: Iterable[tuple[str, Stored]], note: Mapping[str, str]) -> int:
    """Writes a file whole or not at all; returns its size in bytes."""
    held = dict(tensors)
    header: dict[str, object] = {"__metadata__": {"format": "pt", **note}}
    at = 0
    for name, tensor in held.items():
        header[name] = {"dtype": tensor.kind, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.raw.size]}
        at += tensor.raw.size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with unfinished.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in held.values():
            file.write(tensor.raw.tobytes())
    unfinished.replace(path)
    return 8 + len(encoded) + at
