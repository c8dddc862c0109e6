"""Against other implementations, and against the unquantized model."""

import asyncio
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest

from bench.perplexity import TEXT, perplexity
from tests.engine.replies import job, reply
from workers.engine import Job, Message
from workers.engines.reference import ReferenceEngine
from workers.engines.reference.gguf_file import GgufFile
from workers.engines.reference.loading import load, packaged_checkpoint
from workers.engines.reference.tokenizer import Tokenizer

GREEDY = json.loads((Path(__file__).parents[1] / "data" / "greedy.json").read_text(encoding="utf-8"))


@pytest.mark.timeout(120)
@pytest.mark.asyncio(loop_scope="session")
async def test_the_unquantized_model_answers_as_an_independent_implementation_did() -> None:
    engine = ReferenceEngine("none")
    await engine.start()
    try:
        requests: list[Job] = []
        for case in GREEDY["cases"]:
            request = job(case.get("prompt", ""), 20)
            if "messages" in case:
                request = replace(request, prompt=None, messages=[Message(*turn) for turn in case["messages"]])
            assert engine.prompt_tokens(request) == case["prompt_tokens"]
            requests.append(request)
        replies = await asyncio.gather(*(reply(engine, request) for request in requests))
        for case, got in zip(GREEDY["cases"], replies, strict=True):
            assert list(got.tokens) == case["tokens"], (case["text"], case["margin"])
            assert got.text == case["text"]
    finally:
        await engine.close()


@pytest.mark.timeout(180)
def test_fp8_keeps_the_quality_and_nvfp4_clearly_loses_some() -> None:
    text = TEXT.read_text(encoding="utf-8")
    measured: dict[str, float] = {}
    for profile in ("none", "fp8", "nvfp4"):
        loaded = load(profile, slots=64, context_tokens=2048)
        measured[profile], count = perplexity(loaded.model, loaded.tokenizer, text, most=1001)
        assert count == 1000
    assert measured["fp8"] < 1.05 * measured["none"], measured
    assert measured["nvfp4"] > 1.10 * measured["none"], measured


def test_the_checkpoint_is_read_as_by_the_gguf_package() -> None:
    path = packaged_checkpoint()
    ours, theirs = GgufFile(path), gguf.GGUFReader(path)
    assert list(ours.names) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors[:12]:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(ours.tensor(tensor.name), expected), tensor.name
    for key in ("llama.block_count", "llama.rope.freq_base", "tokenizer.ggml.pre", "tokenizer.ggml.eos_token_id"):
        assert ours.metadata[key] == theirs.fields[key].contents()


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.of_gguf(GgufFile(packaged_checkpoint()))


@pytest.mark.parametrize("text", ["Hello, world!", "naïve 😀 日本語 \x00\x7f", "  two  spaces\n\n\ttab 12345", "don't"])
def test_the_bytes_of_a_texts_tokens_are_the_texts(text: str) -> None:
    tokenizer = _tokenizer()
    tokens = tokenizer.encode(text)
    assert b"".join(map(tokenizer.token_bytes, tokens)) == text.encode()


def test_special_tokens_have_no_text() -> None:
    tokenizer = _tokenizer()
    assert tokenizer.token_bytes(tokenizer.special("<|im_start|>")) == b""
    assert tokenizer.ends == {tokenizer.special("<|im_end|>"), tokenizer.special("<|endoftext|>")}
