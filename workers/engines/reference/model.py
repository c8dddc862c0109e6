"""The forward pass of a Llama-like model over rows that belong to any number of sequences.

Every value of a row is computed in a way that depends only on that row, its position and what its own sequence holds:
never on other rows, on how many there are, or on whether the row came in alone (decode) or in a chunk (prefill).
`docs/numerics.md` explains how; `tests/engine/test_determinism.py` compares bits. All is float32: a single float64
scalar would silently widen everything after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from precision.formats.minifloat import Float32s
from workers.engines.reference.kv import BLOCK, KvCache
from workers.engines.reference.sources import Architecture
from workers.engines.reference.tiles import Tiles, proven_widths
from workers.engines.reference.weights import Layer, Weights

_NEVER = np.float32(-1e30)  # a score whose exponential is 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of one sequence to run now: those at positions start, start + 1, ..."""

    kv: KvCache
    tokens: Sequence[int]
    start: int
    logits: int = 1  # how many of its last tokens want them


@dataclass(frozen=True, slots=True)
class _Span:
    """The rows of a segment in the batch."""

    kv: KvCache
    first: int
    last: int  # one past
    start: int  # position of the first row


class Model:
    """A loaded model. Not safe for threads: one thread runs it."""

    def __init__(
        self,
        weights: Weights,
        fake_quantize: Callable[[Float32s], Float32s] | None,
        context_tokens: int,
        most_rows: int,
        most_logits: int,
    ) -> None:
        """`fake_quantize` rounds activations [rows, K] in place before each linear layer but the output layer. A batch
        should have at most `most_rows` rows, `most_logits` of which want logits; more works, only slower.
        """
        self.architecture = weights.architecture
        self._weights = weights
        self._fake_quantize = fake_quantize
        self._cos, self._sin = _rotations(weights.architecture, context_tokens)
        first = weights.layers[0]
        self._tiles = Tiles(proven_widths((first.qkv, first.out, first.gate_up, first.down), most_rows))
        self._logit_tiles = Tiles(proven_widths((weights.embedding,), most_logits))

    @property
    def tile_widths(self) -> tuple[int, ...]:
        """Numbers of rows that are multiplied at once on this machine."""
        return self._tiles.widths

    def forward(self, segments: Sequence[Segment]) -> Float32s:
        """Runs the segments, extends their caches, and returns logits [tokens that want them, vocabulary]."""
        spans: list[_Span] = []
        tokens: list[int] = []
        positions: list[int] = []
        for segment in segments:
            first, last = len(tokens), len(tokens) + len(segment.tokens)
            spans.append(_Span(segment.kv, first, last, segment.start))
            tokens += segment.tokens
            positions += range(segment.start, segment.start + len(segment.tokens))
        weights = self._weights
        rows = np.ascontiguousarray(weights.embedding.take(tokens, axis=1).T)
        cos, sin = self._cos[positions], self._sin[positions]
        for index, layer in enumerate(weights.layers):
            self._attention(index, layer, rows, cos, sin, spans)
            self._mlp(layer, rows)
        wanted = [
            row for span, s in zip(spans, segments, strict=True) for row in range(span.last - s.logits, span.last)
        ]
        return self._logit_tiles.matmul(self._norm(rows[wanted], weights.final_norm), weights.embedding)

    def _attention(
        self, index: int, layer: Layer, rows: Float32s, cos: Float32s, sin: Float32s, spans: Sequence[_Span]
    ) -> None:
        sizes = self.architecture
        count = rows.shape[0]
        qkv = self._linear(self._norm(rows, layer.attention_norm), layer.qkv).reshape(count, -1, sizes.head_size)
        rotated = _rotate(qkv[:, : sizes.heads + sizes.kv_heads], cos, sin)
        queries, keys = rotated[:, : sizes.heads], rotated[:, sizes.heads :]
        queries *= np.float32(sizes.head_size**-0.5)
        grouped = queries.reshape(count, sizes.kv_heads, -1, sizes.head_size)
        values = qkv[:, sizes.heads + sizes.kv_heads :]
        mixed = np.empty((count, sizes.kv_heads, sizes.heads // sizes.kv_heads, sizes.head_size), dtype=np.float32)
        for span in spans:
            rows_of = slice(span.first, span.last)
            end = span.start + span.last - span.first
            span.kv.keys[index, :, span.start : end] = keys[rows_of].swapaxes(0, 1)
            span.kv.values[index, :, span.start : end] = values[rows_of].swapaxes(0, 1)
            _attend(span.kv.keys[index], span.kv.values[index], grouped[rows_of], span.start, mixed[rows_of])
        rows += self._linear(mixed.reshape(count, -1), layer.out)

    def _mlp(self, layer: Layer, rows: Float32s) -> None:
        gate_up = self._linear(self._norm(rows, layer.mlp_norm), layer.gate_up)
        gate, up = gate_up[:, : self.architecture.mlp], gate_up[:, self.architecture.mlp :]
        # SiLU: gate * sigmoid(gate). The exponential of a very negative gate is infinite, and the quotient then 0.
        with np.errstate(over="ignore"):
            hidden = np.exp(-gate)
        hidden += np.float32(1)
        np.divide(gate, hidden, out=hidden)
        hidden *= up
        rows += self._linear(hidden, layer.down)

    def _linear(self, rows: Float32s, matrix: Float32s) -> Float32s:
        """A linear layer. Rounds `rows`, which the caller gives away, in place."""
        if self._fake_quantize is not None:
            rows = self._fake_quantize(rows)
        return self._tiles.matmul(rows, matrix)

    def _norm(self, rows: Float32s, gain: Float32s) -> Float32s:
        """RMS norm of each row, as a new array."""
        mean_square = np.square(rows).sum(axis=-1, keepdims=True)
        mean_square /= np.float32(rows.shape[1])
        mean_square += np.float32(self.architecture.norm_epsilon)
        normed = rows / np.sqrt(mean_square)
        normed *= gain
        return normed


def _attend(keys: Float32s, values: Float32s, queries: Float32s, start: int, out: Float32s) -> None:
    """Causal attention of consecutive positions of one sequence, the first of which is `start`.

    keys, values: [kv_heads, capacity, head_size]; queries, out: [rows, kv_heads, group, head_size]. A position reads
    whole blocks of keys, up to its own block's end, those after itself with weight 0: the lengths of all sums are a
    function of the position alone. Positions of one block go together, as many products of the same shape.
    """
    at = 0
    while at < queries.shape[0]:
        position = start + at
        length = (position // BLOCK + 1) * BLOCK
        count = min(queries.shape[0] - at, length - position)
        scores = np.matmul(queries[at : at + count], keys[:, :length].swapaxes(1, 2))
        for row in range(count):
            scores[row, :, :, position + row + 1 :] = _NEVER
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        total = scores.sum(axis=-1, keepdims=True)
        np.divide(np.matmul(scores, values[:, :length]), total, out=out[at : at + count])
        at += count


def _rotate(heads: Float32s, cos: Float32s, sin: Float32s) -> Float32s:
    """Rotary embedding of [rows, heads, head_size], halves of a head being the two coordinates; as a new array."""
    half = heads.shape[-1] // 2
    first, second = heads[..., :half], heads[..., half:]
    rotated = np.empty(heads.shape, dtype=np.float32)
    np.subtract(first * cos, second * sin, out=rotated[..., :half])
    np.add(second * cos, first * sin, out=rotated[..., half:])
    return rotated


def _rotations(sizes: Architecture, positions: int) -> tuple[Float32s, Float32s]:
    """Cosines and sines of each position's angles: float32 [positions, 1, head_size / 2]."""
    frequencies = sizes.rope_base ** (-np.arange(0, sizes.head_size, 2) / sizes.head_size)
    angles: NDArray[np.float64] = np.arange(positions)[:, None, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
