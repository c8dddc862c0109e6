"""Perplexity of the reference model on a fixed text, unquantized, in FP8 and in NVFP4: `python -m bench.perplexity`.

It shows what a format costs in quality, by the forward pass that serves requests. Lower is better; the unquantized
model is the reference. The text, tests/data/prose.txt, was written for this project.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from workers.engines.reference.kv import KvCache
from workers.engines.reference.loading import ACTIVATIONS, load
from workers.engines.reference.model import Model, Segment
from workers.engines.reference.tokenizer import Tokenizer

TEXT = Path(__file__).parents[1] / "tests" / "data" / "prose.txt"

_ROWS = 64


def perplexity(model: Model, tokenizer: Tokenizer, text: str, most: int | None = None) -> tuple[float, int]:
    """exp of the mean negative log-likelihood of each token given all before it, and how many tokens were predicted.

    The text, or its first `most` tokens, must fit into the model's context.
    """
    tokens = tokenizer.encode(text)[:most]
    kv = KvCache(model.architecture, len(tokens))
    total = 0.0
    for first in range(0, len(tokens) - 1, _ROWS):
        chunk = tokens[first : min(first + _ROWS, len(tokens) - 1)]
        logits = model.forward([Segment(kv, chunk, first, logits=len(chunk))]).astype(np.float64)
        greatest = logits.max(axis=-1)
        log_totals = greatest + np.log(np.exp(logits - greatest[:, None]).sum(axis=-1))
        chosen = logits[np.arange(len(chunk)), tokens[first + 1 : first + 1 + len(chunk)]]
        total += float((log_totals - chosen).sum())
    return math.exp(total / (len(tokens) - 1)), len(tokens) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=TEXT, help="a UTF-8 text of at most 4,096 tokens")
    text = parser.parse_args().text.read_text(encoding="utf-8")
    reference = 0.0
    for profile in ACTIVATIONS:
        loaded = load(profile, slots=_ROWS, context_tokens=4096)
        value, count = perplexity(loaded.model, loaded.tokenizer, text)
        reference = reference or value
        print(f"{profile:6} {value:8.3f}  {100 * (value / reference - 1):+6.1f} %  over {count:,} tokens", flush=True)


if __name__ == "__main__":
    main()
