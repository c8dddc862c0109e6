"""The same request gives the same reply: alone or beside others, and when it moves to another worker half way."""

import asyncio
import random
from dataclasses import replace

import pytest

from precision.formats.minifloat import Float32s
from tests.engine.conftest import Start
from tests.engine.replies import job, reply
from workers.engine import FinishReason, Generated, Job, Sampling
from workers.engines.reference import ReferenceEngine, steps

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

JOBS = {
    "greedy": job("The capital of France is"),
    "chat": job("What is the capital of France?", chat=True, logprobs=2),
    "sampled": job("Once upon a time", temperature=1.0, seed=7, logprobs=0),
    "nucleus": job("The best way to learn is", temperature=0.8, top_p=0.9, top_k=50, seed=2**63),
    "stop": job("Count: one, two, three,", 20, stop=(" six,", "ten")),
    "emoji": job("Say exactly: 😀😃😄", chat=True),
}


@pytest.mark.parametrize("profile", ["fp8", "nvfp4"])
async def test_a_reply_does_not_depend_on_what_else_runs(start: Start, profile: str) -> None:
    engine = await start(profile)
    alone = {name: await reply(engine, job(request)) for name, request in JOBS.items()}
    others = [job(f"Number {i}: " + "word " * (7 * i), 6 + i, temperature=1.0, seed=i) for i in range(10)]
    waiting = [asyncio.create_task(reply(engine, other)) for other in others]
    together = await asyncio.gather(*(reply(engine, job(request)) for request in JOBS.values()))
    for name, got in zip(JOBS, together, strict=True):
        assert got.deltas == alone[name].deltas, name
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("name", JOBS)
async def test_a_reply_that_moves_goes_on_as_if_it_had_not(fp8: ReferenceEngine, name: str) -> None:
    whole = await reply(fp8, job(JOBS[name]))
    cuts = random.Random(name).sample(range(1, len(whole.deltas)), 3)
    moved = [replace(job(JOBS[name]), generated=whole.cut(cut)) for cut in cuts]
    for cut, got in zip(cuts, await asyncio.gather(*(reply(fp8, one) for one in moved)), strict=True):
        assert got.deltas == whole.deltas[cut:], cut


async def test_a_reply_moves_in_nvfp4_too(nvfp4: ReferenceEngine) -> None:
    for name in ("chat", "sampled"):
        whole = await reply(nvfp4, job(JOBS[name]))
        cut = len(whole.deltas) // 2
        got = await reply(nvfp4, replace(job(JOBS[name]), generated=whole.cut(cut)))
        assert got.deltas == whole.deltas[cut:]


async def test_a_reply_that_was_complete_only_gets_its_end(fp8: ReferenceEngine) -> None:
    for name in ("chat", "greedy", "stop"):
        whole = await reply(fp8, job(JOBS[name]))
        again = await reply(fp8, replace(job(JOBS[name]), generated=whole.cut(len(whole.deltas))))
        assert (again.text, again.tokens, again.reason) == ("", (), whole.reason)
        assert again.deltas[0].prompt_tokens == whole.deltas[0].prompt_tokens


async def test_characters_over_several_tokens_come_whole(fp8: ReferenceEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Smile 😀 and 日本語, naïve 🎉!"
    written = fp8.prompt_tokens(job(text))

    def as_written(logits: Float32s, sampling: Sampling, place: int) -> int:
        del logits, sampling
        return written[place]

    monkeypatch.setattr(steps, "choose", as_written)
    whole = await reply(fp8, job("x", len(written)))
    assert whole.text == text
    assert any(not delta.text for delta in whole.deltas), "no character came in parts"
    assert "\ufffd" not in "".join(delta.text for delta in whole.deltas)
    # Cut within a character, it still comes whole.
    cuts = [i for i, delta in enumerate(whole.deltas) if i and not delta.text][:12]
    moved = [replace(job("x", len(written)), generated=whole.cut(cut)) for cut in cuts]
    for cut, rest in zip(cuts, await asyncio.gather(*(reply(fp8, one) for one in moved)), strict=True):
        assert rest.deltas == whole.deltas[cut:]
    half = await reply(fp8, job("x", 1 + next(i for i, delta in enumerate(whole.deltas) if not delta.text)))
    assert half.text.endswith("\ufffd"), "a reply that ends within a character says so"


async def test_a_stop_text_over_several_tokens_ends_the_reply_before_it(fp8: ReferenceEngine) -> None:
    free = await reply(fp8, job("Count: one, two, three,", 16))
    for first in range(2, 12, 3):
        # From within one token into the next but one.
        stop = "".join(delta.text for delta in free.deltas[first : first + 3])[1:-1]
        got = await reply(fp8, job("Count: one, two, three,", 16, stop=(stop,)))
        assert got.text == free.text[: free.text.index(stop)]
        assert got.reason is FinishReason.STOP
        assert got.tokens == free.tokens[: len(got.tokens)]
        assert len(got.tokens) <= first + 3


async def test_the_limit_counts_what_was_generated_before(fp8: ReferenceEngine) -> None:
    whole = await reply(fp8, job("The capital of France is", 6))
    assert len(whole.tokens) == 6
    assert whole.reason is FinishReason.LENGTH
    request = Job("x", replace(JOBS["greedy"].sampling, max_tokens=6), prompt="The capital of France is")
    rest = await reply(fp8, replace(request, generated=Generated(whole.tokens[:4], whole.cut(4).text)))
    assert rest.tokens == whole.tokens[4:]
