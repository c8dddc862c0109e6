"""The training rows: labelled prompts, variants of them, how much each counts, and which fold it is in."""

import collections
import json
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OWN = "own"
OWN_PROMPTS = Path(__file__).parents[2] / "classifier" / "data" / "own_prompts.jsonl"
SEED = 7

# Sources by a part of their name. A fold is left out as a whole, so that nothing of these sources is known to the fit;
# sources that share their texts or their kind (reviews, say) are left out together.
FOLDS: tuple[tuple[str, ...], ...] = (
    ("MMLU", "cnn", "xsum", "multi"),
    ("synthetic", "glue", "paws"),
    ("TAT", "roleplay", "TriviaQA"),
    ("BBH", "news text", "ChatDoctor"),
    ("GSM8K", "codegen", "MedQuAD", "imdb", "rotten", "amazon", "yelp", "promptsource:app"),
    ("MATH", "Topical", "LawBench", "samsum", "gigaword", "trec", "promptsource:ag", "dbpedia"),
    ("ARC", "StrategyQA", "adversarial", "quoref", "duorc", "wiki", "kilt", "PubMed"),
    ("WritingBench", "self-instruct", "LLaMA", "common"),
)


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One prompt. A variant has the fold of its original, and is never measured on."""

    text: str
    task: str
    source: str
    fold: int
    long_context: bool = False
    variant: bool = False


def training_rows(data: Path) -> list[TrainingRow]:
    """The rows of train.jsonl, the project's own prompts, and variants."""
    rows = [
        TrainingRow(row["text"], row["task"], row["source"], _fold(row["source"]), bool(row.get("long_context")))
        for row in _read(data / "train.jsonl")
    ]
    rows += [
        TrainingRow(row["text"], row["task"], OWN, zlib.crc32(row["text"].encode()) % len(FOLDS))
        for row in _read(OWN_PROMPTS)
    ]
    draw = random.Random(SEED)
    variants = [
        replace(row, text=_variant(row.text, draw), variant=True)
        for row in rows
        if "User:" not in row.text and (row.source == OWN or (len(row.text) < 200 and draw.random() < 0.25))
    ]
    return rows + variants


def row_weights(rows: Sequence[TrainingRow], own_weight: float) -> NDArray[np.float32]:
    """Every class counts the same; within one, a source by the square root of its size; own prompts apart."""
    sizes = collections.Counter((row.source, row.task) for row in rows)
    weights = np.array([sizes[row.source, row.task] ** -0.5 for row in rows])
    totals: dict[tuple[str, bool], float] = collections.defaultdict(float)
    for row, weight in zip(rows, weights, strict=True):
        totals[row.task, row.source == OWN] += float(weight)
    for i, row in enumerate(rows):
        own = row.source == OWN
        weights[i] *= (own_weight / 3 if own else 1.0) / totals[row.task, own]
    return weights.astype(np.float32)


def _read(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _fold(source: str) -> int:
    if "multi_news" in source:
        return 0
    for fold, names in enumerate(FOLDS):
        if any(name in source for name in names):
            return fold
    raise SystemExit(f"the source {source!r} is in no fold; add it to FOLDS in {__file__}")


# --- variants: the same request, typed otherwise ----------------------------------------------------------------------

_BEFORE = (
    "hey, ", "hi! ", "quick question: ", "so ", "ok so ", "um, ", "pls help: ", "hey can you help me, ", "random q, ",
    "serious question: ", "yo ", "lol ", "honestly, ", "Hello there. ", "I was wondering, ", "Question: ",
    "just curious, ",
    "asking for a friend: ", "Please: ", "could you tell me: ", "bro ", "thanks in advance! ", "One more thing. ",
    "This is just casual chat: ", "Not urgent. ", "As an AI you can do this: ", "By the way, ", "Assistant, ",
    "Dear AI, ",
)  # fmt: skip
_AFTER = (
    " thanks", " lol", " pls", " please", " asap", " thx!", "??", " :)", " Thank you!", " help", " be honest",
    " in short",
    " explain like i am five", " idk", "", " what do you think?",
)  # fmt: skip


def _variant(text: str, draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.3:
        return draw.choice(_BEFORE) + text[0].lower() + text[1:]
    if kind < 0.5:
        return text.rstrip(".?!") + draw.choice(_AFTER)
    if kind < 0.7:
        return draw.choice(_BEFORE) + _mistyped(text, draw).rstrip(".?!") + draw.choice(_AFTER)
    if kind < 0.85:
        return _mistyped(text, draw)
    return re.sub(r"[.,?!;']", "", text.lower())


def _mistyped(text: str, draw: random.Random) -> str:
    """About one slip in forty characters: two letters swapped, one left out, one doubled."""
    letters = list(text)
    for _ in range(max(1, len(letters) // 40)):
        if len(letters) <= 3:
            break
        at = draw.randrange(len(letters) - 1)
        if not letters[at].isalpha():
            continue
        kind = draw.random()
        if kind < 0.4 and letters[at + 1].isalpha():
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif kind < 0.7:
            del letters[at]
        else:
            letters.insert(at, letters[at])
    return "".join(letters)
