"""Reads GGUF files, as far as the reference model needs it: metadata, and tensors of type F32, Q4_1 and Q8_0.

Format: the GGUF specification, version 3, of the ggml project (little endian). The `gguf` package reads it too, in
three seconds where this takes a tenth; the tests hold the two against each other.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from precision.formats.minifloat import Float32s

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING = 8
_ARRAY = 9

_F32 = 0
_Q4_1 = 3
_Q8_0 = 8
# Values and bytes of one block.
_BLOCKS = {_F32: (1, 4), _Q4_1: (32, 20), _Q8_0: (32, 34)}

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]


class NotGguf(ValueError):
    """The file is not a GGUF file that this reader understands; the message says what it found."""


@dataclass(frozen=True, slots=True)
class _TensorInfo:
    shape: tuple[int, ...]  # slowest axis first, as in NumPy
    kind: int
    offset: int  # from the start of the data


_MOST_AXES = 4


class GgufFile:
    """An open GGUF file. `metadata` maps keys to numbers, texts and lists of these."""

    def __init__(self, path: Path) -> None:
        """Raises NotGguf, or OSError."""
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._name = path.name
        self._at = 0
        if self._data[:4] != b"GGUF":
            raise NotGguf(f"{path.name}: does not start with GGUF")
        self._at = 4
        if (version := self._number("<I")) != 3:
            raise NotGguf(f"{path.name}: GGUF version {version}; only 3 is understood")
        tensors, entries = self._number("<Q"), self._number("<Q")
        self.metadata: dict[str, Value] = {}
        for _ in range(entries):
            key = self._string()
            self.metadata[key] = self._value(self._number("<I"))
        self._infos = dict(self._tensor_info() for _ in range(tensors))
        alignment = self.integer("general.alignment", default=32)
        if alignment < 1:
            raise NotGguf(f"metadata general.alignment: want at least 1, got {alignment}")
        self._start = -(-self._at // alignment) * alignment

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors, in the file's order."""
        return tuple(self._infos)

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number of the metadata. Raises NotGguf when it is missing and there is no default."""
        value = self.metadata.get(key, default)
        if not isinstance(value, int):
            raise NotGguf(f"metadata {key}: want a whole number, got {value!r:.40}")
        return value

    def number(self, key: str) -> float:
        """A number of the metadata. Raises NotGguf when it is missing."""
        value = self.metadata.get(key)
        if not isinstance(value, int | float):
            raise NotGguf(f"metadata {key}: want a number, got {value!r:.40}")
        return float(value)

    def strings(self, key: str) -> list[str]:
        """A list of texts of the metadata. Raises NotGguf when it is missing."""
        value = self.metadata.get(key)
        if not isinstance(value, list):
            raise NotGguf(f"metadata {key}: want a list, got {value!r:.40}")
        return [str(item) for item in value]

    def tensor(self, name: str) -> Float32s:
        """A tensor, dequantized to float32, slowest axis first: a linear layer is [outputs, inputs]."""
        info = self._infos[name]
        if info.kind not in _BLOCKS:
            raise NotGguf(f"tensor {name}: ggml type {info.kind} is not understood")
        if 0 in info.shape:
            # The other axes could then be of any length, within the file all the same.
            raise NotGguf(f"tensor {name}: its shape {info.shape} holds no value")
        values, size = _BLOCKS[info.kind]
        blocks, odd = divmod(math.prod(info.shape), values)
        if odd:
            raise NotGguf(f"tensor {name}: its shape {info.shape} is no whole number of blocks of {values}")
        if self._start + info.offset + blocks * size > len(self._data):
            raise NotGguf(f"tensor {name}: lies beyond the end of the file")
        raw = np.frombuffer(self._data, np.uint8, blocks * size, self._start + info.offset).reshape(blocks, size)
        if info.kind == _F32:
            return raw.copy().view(np.float32).reshape(info.shape)
        return (_q4_1(raw) if info.kind == _Q4_1 else _q8_0(raw)).reshape(info.shape)

    def _number(self, form: str) -> int:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _string(self) -> str:
        try:
            return self._take(self._number("<Q")).decode("utf-8")
        except UnicodeDecodeError:
            raise NotGguf(f"{self._name}: the text before byte {self._at} is no UTF-8") from None

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise NotGguf(f"{self._name}: ends in the middle of its head; it was cut short")
        self._at += size
        return self._data[self._at - size : self._at]

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._number(self._form(kind))
        item, count = self._number("<I"), self._number("<Q")
        if item == _STRING:
            return [self._string() for _ in range(count)]
        form = self._form(item)
        return [self._number(form) for _ in range(count)]

    def _form(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise NotGguf(f"{self._name}: metadata of the unknown type {kind}")
        return _SCALARS[kind]

    def _tensor_info(self) -> tuple[str, _TensorInfo]:
        name = self._string()
        axes = self._number("<I")
        if axes > _MOST_AXES:
            raise NotGguf(f"tensor {name}: has {axes} axes; GGUF has at most {_MOST_AXES}")
        shape = tuple(self._number("<Q") for _ in range(axes))
        return name, _TensorInfo(shape[::-1], kind=self._number("<I"), offset=self._number("<Q"))


def _q4_1(raw: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> Float32s:
    """Blocks of a float16 scale, a float16 minimum and 32 nibbles, low ones first: value = scale * nibble + minimum."""
    scale, minimum = (raw[:, at : at + 2].copy().view(np.float16).astype(np.float32) for at in (0, 2))
    nibbles = np.concatenate((raw[:, 4:] & np.uint8(0x0F), raw[:, 4:] >> np.uint8(4)), axis=1)
    return nibbles.astype(np.float32) * scale + minimum


def _q8_0(raw: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> Float32s:
    """Blocks of a float16 scale and 32 signed bytes: value = scale * byte."""
    scale = raw[:, :2].copy().view(np.float16).astype(np.float32)
    return raw[:, 2:].copy().view(np.int8).astype(np.float32) * scale
