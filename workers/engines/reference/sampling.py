"""Choosing the next token from logits.

The choice at a place is a function of the logits, the parameters, the seed and the place in the reply: no state is
carried from token to token, so a request that moves to another worker goes on with the same choices.
"""

import math

import numpy as np
from numpy.typing import NDArray

from precision.formats.minifloat import Float32s
from workers.engine import Sampling, TokenLogprobs

_FIRST_CANDIDATES = 512
"""Enough for nearly every nucleus; sorting the whole vocabulary takes ten times as long."""


def choose(logits: Float32s, sampling: Sampling, place: int) -> int:
    """The token at a place (0 is the reply's first) given logits [vocabulary].

    Greedy at temperature 0; the lower id wins a tie. Else the logits are divided by the temperature, cut to `top_k`,
    then to the smallest set of most probable tokens whose share is at least `top_p`, and one is drawn.
    """
    if sampling.temperature == 0:
        return int(logits.argmax())
    weights = np.exp((logits.astype(np.float64) - float(logits.max())) / sampling.temperature)
    if sampling.top_k == 0 and sampling.top_p >= 1:
        return _draw(weights, sampling.seed, place)
    candidates = _nucleus(logits, weights, sampling.top_k, sampling.top_p)
    return int(candidates[_draw(weights[candidates], sampling.seed, place)])


def logprobs(logits: Float32s, token: int, top: int) -> TokenLogprobs:
    """Natural logarithms of the model's own probabilities (temperature 1, nothing cut)."""
    wide = logits.astype(np.float64)
    greatest = float(logits.max())
    log_total = greatest + math.log(float(np.exp(wide - greatest).sum()))
    best = _most_probable(logits, top) if top else ()
    return TokenLogprobs(
        logprob=float(wide[token] - log_total), top=tuple((int(i), float(wide[i] - log_total)) for i in best)
    )


def _draw(weights: NDArray[np.float64], seed: int, place: int) -> int:
    """An index drawn in proportion to its weight, by a number that depends on the seed and the place alone."""
    cumulated: NDArray[np.float64] = weights.cumsum()
    number = np.random.Generator(np.random.Philox(key=np.array([seed, place], dtype=np.uint64))).random()
    return min(int(np.count_nonzero(cumulated <= number * cumulated[-1])), len(weights) - 1)


def _nucleus(logits: Float32s, weights: NDArray[np.float64], top_k: int, top_p: float) -> NDArray[np.intp]:
    """Ids of the tokens that may be drawn, most probable first."""
    if top_k:
        candidates = _most_probable(logits, top_k)
        total = weights[candidates].sum()
    else:
        candidates = _most_probable(logits, _FIRST_CANDIDATES)
        total = weights.sum()
        if weights[candidates].sum() < top_p * total:
            candidates = _most_probable(logits, len(logits))
    if top_p >= 1:
        return candidates
    reached: NDArray[np.float64] = weights[candidates].cumsum()
    return candidates[: np.count_nonzero(reached < top_p * total) + 1]


def _most_probable(logits: Float32s, count: int) -> NDArray[np.intp]:
    """Ids of the greatest logits, best first; the lower id first among equals."""
    count = min(count, len(logits))
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    ids = np.flatnonzero(logits >= least)
    return ids[np.argsort(-logits[ids], kind="stable")][:count]
