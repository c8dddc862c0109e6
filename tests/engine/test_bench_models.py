"""The checkpoint that the benchmark of engines asks for text."""

import numpy as np

from bench.engines.models import WideSource
from precision.formats.minifloat import Float32s
from workers.engines.reference.kv import KvCache
from workers.engines.reference.loading import packaged_checkpoint
from workers.engines.reference.model import Model, Segment
from workers.engines.reference.sources import GgufSource, Source
from workers.engines.reference.weights import load_weights

_PROMPT = list(range(100, 124))


def _logits(source: Source) -> Float32s:
    model = Model(load_weights(source, "", "none"), None, len(_PROMPT), len(_PROMPT), len(_PROMPT))
    return model.forward([Segment(KvCache(model.architecture, len(_PROMPT)), _PROMPT, 0, logits=len(_PROMPT))])


def test_the_wide_model_says_what_the_model_says() -> None:
    narrow, wide = _logits(GgufSource(packaged_checkpoint())), _logits(WideSource(packaged_checkpoint()))
    assert wide.shape == narrow.shape
    assert np.abs(wide - narrow).max() < 1e-2
