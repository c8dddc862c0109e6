"""A row's logits have the same bits in every company: alone, in a batch, in a chunk of a prompt, after a migration."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from workers.engines.reference.kv import KvCache
from workers.engines.reference.loading import Loaded
from workers.engines.reference.model import Model, Segment

pytestmark = pytest.mark.timeout(120)


def alone(model: Model, tokens: Sequence[int]) -> list[bytes]:
    """Logits after each token, one token a step and nothing beside it: as a reply is decoded."""
    kv = KvCache(model.architecture, len(tokens))
    return [model.forward([Segment(kv, [token], at)])[0].tobytes() for at, token in enumerate(tokens)]


def sequences(lengths: Sequence[int]) -> list[list[int]]:
    draw = random.Random(5)
    return [[draw.randrange(49_152) for _ in range(length)] for length in lengths]


def test_logits_do_not_depend_on_chunks_or_on_the_batch(loaded: Loaded) -> None:
    model = loaded.model
    # One that crosses a block of the attention, one within a block, and one of a single token.
    tried = sequences([75, 20, 1])
    expected = [alone(model, tokens) for tokens in tried]
    draw = random.Random(6)
    for attempt in range(3):
        caches = [KvCache(model.architecture, 128) for _ in tried]
        at = [0] * len(tried)
        while any(a < len(tokens) for a, tokens in zip(at, tried, strict=True)):
            # Each step advances some of the sequences, in any order, by any number of tokens.
            chosen = [i for i in range(len(tried)) if at[i] < len(tried[i]) and (attempt == 0 or draw.random() < 0.7)]
            draw.shuffle(chosen)
            most = (64, 9, 30)[attempt]
            sizes = [draw.randint(1, min(most, len(tried[i]) - at[i])) for i in chosen]
            segments = [
                Segment(caches[i], tried[i][at[i] : at[i] + n], at[i]) for i, n in zip(chosen, sizes, strict=True)
            ]
            if not segments:
                continue
            for i, n, row in zip(chosen, sizes, model.forward(segments), strict=True):
                at[i] += n
                assert row.tobytes() == expected[i][at[i] - 1], (attempt, i, at[i])


@pytest.mark.parametrize("company", [2, 7, 8, 9, 16])
def test_a_row_is_the_same_at_any_place_of_any_batch(loaded: Loaded, company: int) -> None:
    model = loaded.model
    (tokens, *others) = sequences([3] + [2] * (company - 1))
    expected = alone(model, tokens)
    for place in {0, company // 2, company - 1}:
        caches = [KvCache(model.architecture, 64) for _ in range(company)]
        batch = [*others[:place], tokens, *others[place:]]
        for step in range(2):
            logits = model.forward([Segment(kv, [row[step]], step) for kv, row in zip(caches, batch, strict=True)])
            assert np.isfinite(logits).all()
            assert logits[place].tobytes() == expected[step]


def test_logits_are_float32_and_finite_for_any_tokens(loaded: Loaded) -> None:
    model = loaded.model
    (tokens,) = sequences([200])
    kv = KvCache(model.architecture, 200)
    for first in range(0, 200, 40):
        logits = model.forward([Segment(kv, tokens[first : first + 40], first)])
        assert logits.dtype == np.float32
        assert np.isfinite(logits).all()
