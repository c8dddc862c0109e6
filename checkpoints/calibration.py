"""How large the inputs of each linear layer become on samples: what static scales of activations are made from."""

import json
import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from checkpoints.samples import Sample
from precision.formats.minifloat import Float32s
from precision.untyped import integer, items, mapping, text
from workers.engines.reference.chat import chat_tokens
from workers.engines.reference.kv import KvCache
from workers.engines.reference.model import Model, Segment
from workers.engines.reference.sources import Source
from workers.engines.reference.tokenizer import Tokenizer
from workers.engines.reference.weights import load_weights

INPUTS = ("qkv", "out", "gate_up", "down")
"""The linear layers of a block by what they read, in the order in which the forward pass runs them."""

_ROWS = 64
_SAVE_EVERY = 16

Largest = dict[str, list[float]]
"""For each of `INPUTS`, a magnitude a layer."""


def calibrate(
    source: Source,
    digest: str,
    samples: Sequence[Sample],
    kept: Path,
    *,
    most_tokens: int,
    advance: Callable[[int], None],
) -> Largest:
    """The greatest magnitudes over all samples, of each at most `most_tokens` tokens.

    Every few samples the state is written to `kept`, so that a run that was stopped goes on there. `advance` is told
    how many more samples are done.
    """
    layers = source.architecture.layers
    key = _key(digest, samples, most_tokens)
    done, largest = _state(kept, key, layers)
    advance(done)
    if done >= len(samples):
        return largest
    recorder = _Recorder(largest, layers)
    model = Model(load_weights(source, digest, "none"), recorder, most_tokens, _ROWS, 1)
    tokenizer = source.tokenizer()
    for index in range(done, len(samples)):
        tokens = _tokens(samples[index], tokenizer)[:most_tokens]
        cache = KvCache(source.architecture, len(tokens))
        for first in range(0, len(tokens), _ROWS):
            model.forward([Segment(cache, tokens[first : first + _ROWS], first)])
        advance(1)
        if (index + 1) % _SAVE_EVERY == 0 or index + 1 == len(samples):
            _save(kept, key, index + 1, largest)
    return largest


def _tokens(sample: Sample, tokenizer: Tokenizer) -> list[int]:
    return chat_tokens(sample.messages, tokenizer)


class _Recorder:
    """Stands where activations are rounded: sees each linear layer's input, in order, and changes nothing."""

    def __init__(self, largest: Largest, layers: int) -> None:
        self._largest = largest
        self._calls = layers * len(INPUTS)
        self._at = 0

    def __call__(self, rows: Float32s) -> Float32s:
        layer, which = divmod(self._at % self._calls, len(INPUTS))
        self._at += 1
        known = self._largest[INPUTS[which]]
        known[layer] = max(known[layer], float(np.abs(rows).max()))
        return rows


def _key(digest: str, samples: Sequence[Sample], most_tokens: int) -> str:
    whole = sha256(f"{digest}:{most_tokens}".encode())
    for sample in samples:
        whole.update("\0".join(f"{turn.role}:{turn.content}" for turn in sample.messages).encode())
    return whole.hexdigest()


def _state(kept: Path, key: str, layers: int) -> tuple[int, Largest]:
    try:
        read = mapping(json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        read = mapping(None)
    if text(read.get("key")) != key:
        return 0, {name: [0.0] * layers for name in INPUTS}
    found = mapping(read.get("largest"))
    values = {name: [v for v in items(found.get(name)) if isinstance(v, float | int)] for name in INPUTS}
    return integer(read.get("done")), {name: [float(v) for v in listed] for name, listed in values.items()}


def _save(kept: Path, key: str, done: int, largest: Largest) -> None:
    unfinished = kept.with_name(f"{kept.name}.{os.getpid()}.tmp")
    unfinished.write_text(json.dumps({"key": key, "done": done, "largest": largest}), encoding="utf-8")
    unfinished.replace(kept)
