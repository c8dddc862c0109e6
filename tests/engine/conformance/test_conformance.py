"""What every engine has to do, by `workers.engine.Engine`. Each test compares an engine with itself: so the same tests
run on an engine that recites, on one that computes, and on one on a GPU."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

from tests.engine.conformance.subjects import SLOTS, Subject
from tests.engine.replies import Reply, job, reply
from workers.engine import Engine, EngineDead, FinishReason, Generated, Job, JobRejected

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

PROMPT = "The keeper of the light said:"
WIDE = "Say exactly: 😀 日本語 naïve 🎉 👩‍🚀"
LONG = 300
_PATIENCE_S = 20.0


async def gathered(engine: Engine, jobs: list[Job]) -> list[Reply]:
    return await asyncio.gather(*(reply(engine, one) for one in jobs))


async def until_idle(engine: Engine, subject: Subject) -> None:
    """Waits until the engine works on nothing of what was asked of it before."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        await engine.health()
        if subject.inside is not None:
            working = subject.inside(engine)
        else:
            # Engines count once a step, so a short job makes them count: itself, and what is still there.
            async with aclosing(engine.generate(job("A short one", 4))) as stream:
                working = 0
                async for _ in stream:
                    await engine.health()
                    working = max(0, engine.load().running + engine.load().waiting - 1)
        if working == 0:
            return
        assert time.monotonic() < deadline, f"the engine still works: {engine.load()}"
        await asyncio.sleep(0.01)


def same(subject: Subject, one: Reply, other: Reply) -> None:
    """Two greedy replies to the same job, as far as this engine gives the same ones."""
    assert one.reason is other.reason
    if subject.exact:
        assert (one.text, one.tokens) == (other.text, other.tokens)


async def test_a_reply_comes_in_deltas_with_usage(engine: Engine, subject: Subject) -> None:
    got = await reply(engine, job(PROMPT, 24))
    assert got.reason in {FinishReason.STOP, FinishReason.LENGTH}
    assert all(delta.finish_reason is None for delta in got.deltas[:-1]), "only the last delta ends it"
    assert len(got.deltas) > 3, "it did not come piece by piece"
    assert 0 < got.count <= 24
    assert max(delta.prompt_tokens for delta in got.deltas) > 0
    assert all(0 <= delta.cached_prompt_tokens <= max(1, delta.prompt_tokens) for delta in got.deltas)
    if subject.names_tokens:
        assert len(got.tokens) == got.count
        assert got.deltas[0].prompt_tokens == got.deltas[-1].prompt_tokens
    same(subject, await reply(engine, job(PROMPT, 24)), got)


async def test_a_conversation_is_put_through_the_template(engine: Engine, subject: Subject) -> None:
    if not subject.chat:
        pytest.skip("takes prompts only")
    plain, chat = await gathered(engine, [job("Hello there", 8), job("Hello there", 8, chat=True)])
    assert plain.prompt_tokens < chat.prompt_tokens
    assert chat.reason is not None


async def test_max_tokens_ends_a_reply(engine: Engine, subject: Subject) -> None:
    for limit in (1, 2, 7):
        got = await reply(engine, job(PROMPT, limit))
        assert got.count <= limit
        assert got.reason is FinishReason.LENGTH or got.count < limit
    del subject


async def test_characters_come_whole(engine: Engine, subject: Subject) -> None:
    got = await reply(engine, job(WIDE, 32))
    assert "\ufffd" not in "".join(delta.text for delta in got.deltas[:-1])
    if not subject.names_tokens:
        return
    # Cut anywhere, within a character as well, it goes on with the same text.
    silent = [i for i, delta in enumerate(got.deltas) if i and not delta.text][:2]
    for cut in silent:
        moved = await reply(engine, replace(job(WIDE, 32), generated=got.cut(cut)))
        if subject.exact:
            assert got.cut(cut).text + moved.text == got.text
        assert not moved.text.startswith("\ufffd")


async def test_stop_texts_over_several_deltas_end_a_reply_before_them(engine: Engine, subject: Subject) -> None:
    free = await reply(engine, job(PROMPT, 40))
    pieces = [delta.text for delta in free.deltas if delta.text]
    if len(pieces) < 8 or not subject.exact:
        pieces = [free.text[i : i + 5] for i in range(0, len(free.text), 5)]
    # From within one piece into the next but one.
    stop = "".join(pieces[2:5])[1:-1]
    assert stop in free.text
    got = await reply(engine, job(PROMPT, 40, stop=(stop, "never in any text")))
    assert stop not in got.text
    if subject.exact:
        assert got.text == free.text[: free.text.index(stop)]
        assert got.reason is FinishReason.STOP
        assert got.count < free.count


async def test_a_reply_can_be_empty(engine: Engine, subject: Subject) -> None:
    free = await reply(engine, job(PROMPT, 6))
    if not free.text or not subject.exact:
        pytest.skip("its first text is not known beforehand")
    got = await reply(engine, job(PROMPT, 6, stop=(free.text[:1],)))
    assert (got.text, got.reason) == ("", FinishReason.STOP)


async def test_a_seed_repeats_a_sampled_reply(engine: Engine, subject: Subject) -> None:
    if not subject.seeded:
        pytest.skip("batching changes the last bits")
    one, again, other = await gathered(
        engine, [job(PROMPT, 16, temperature=1.0, seed=seed) for seed in (7, 7, 2**63 + 5)]
    )
    assert (one.text, one.tokens) == (again.text, again.tokens)
    assert other.reason is not None


async def test_leaving_a_reply_stops_the_engine(engine: Engine, subject: Subject) -> None:
    for after in (0, 1, 5):
        async with aclosing(engine.generate(job(PROMPT, LONG, stop=("never",)))) as stream:
            for _ in range(after):
                await anext(stream)
        await until_idle(engine, subject)


async def test_cancelling_the_task_stops_the_engine_at_any_stage(engine: Engine, subject: Subject) -> None:
    for wait in (0.0, 0.001, 0.03, 0.15):
        tasks = [asyncio.create_task(reply(engine, job(f"{PROMPT} {i}", LONG))) for i in range(SLOTS)]
        await asyncio.sleep(wait)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(r, asyncio.CancelledError | Reply) for r in results), results
        await until_idle(engine, subject)
    assert (await reply(engine, job(PROMPT, 3))).count


async def test_a_deadline_stops_the_engine(engine: Engine, subject: Subject) -> None:
    # A worker bounds a generation so.
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await _for_50_ms(engine)
        await until_idle(engine, subject)


async def test_as_many_jobs_as_slots_and_not_one_more(engine: Engine, subject: Subject) -> None:
    streams = [engine.generate(job(f"{PROMPT} {i}", LONG)) for i in range(engine.slots)]
    await asyncio.gather(*(anext(stream) for stream in streams))
    with pytest.raises(RuntimeError, match=f"came with all {SLOTS} slots taken"):
        await anext(engine.generate(job("one too many")))
    await streams.pop().aclose()
    assert (await reply(engine, job(PROMPT, 3))).count
    for stream in streams:
        await stream.aclose()
    await until_idle(engine, subject)


async def test_replies_side_by_side_are_not_mixed_up(engine: Engine, subject: Subject) -> None:
    jobs = [job(f"Number {i}: {PROMPT}", 10 + i) for i in range(SLOTS)]
    alone = [await reply(engine, job(one)) for one in jobs]
    for one, other in zip(alone, await gathered(engine, [job(one) for one in jobs]), strict=True):
        same(subject, one, other)


async def test_a_prompt_that_leaves_no_room_is_refused(engine: Engine, subject: Subject) -> None:
    too_long = "word " * 500
    with pytest.raises(JobRejected) as caught:
        await reply(engine, job(too_long))
    assert caught.value.field == "prompt"
    assert "word word" not in str(caught.value)
    # The engine is none the worse for it.
    got = await reply(engine, job("word " * 300, 3))
    assert got.count
    assert got.prompt_tokens >= 300
    del subject


async def test_a_reply_that_moves_goes_on_where_it_was(engine: Engine, subject: Subject) -> None:
    # Where ids are not told, a limit within a character is met a token sooner or later: let the turn end by itself.
    limit = 20 if subject.names_tokens else 80
    whole = await reply(engine, job(PROMPT, limit))
    if whole.count < 6:
        pytest.skip("the reply is too short to be cut")
    for cut in (1, len(whole.deltas) // 2, len(whole.deltas) - 1):
        moved = await reply(engine, replace(job(PROMPT, limit), generated=whole.cut(cut)))
        assert whole.cut(cut).tokens + moved.count <= limit
        if subject.exact:
            assert whole.cut(cut).text + moved.text == whole.text
            assert moved.reason is whole.reason
    # One that was complete only gets its end.
    again = await reply(engine, replace(job(PROMPT, whole.count), generated=whole.cut(len(whole.deltas))))
    assert (again.text, again.count) == ("", 0)
    assert again.reason is not None


async def test_a_sampled_reply_that_moves(engine: Engine, subject: Subject) -> None:
    if not subject.moves_sampled:
        pytest.skip("goes on with other random numbers")
    whole = await reply(engine, job(PROMPT, 16, temperature=0.8, seed=11))
    cut = len(whole.deltas) // 2
    moved = await reply(engine, replace(job(PROMPT, 16, temperature=0.8, seed=11), generated=whole.cut(cut)))
    assert whole.cut(cut).text + moved.text == whole.text


async def test_a_crash_is_told_to_every_job_and_to_health(subject: Subject) -> None:
    engine = subject.make()
    await engine.start()
    try:
        await engine.health()
        streams = [engine.generate(job(f"{PROMPT} {i}", LONG)) for i in range(2)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        await subject.crash(engine)

        async def to_the_end(stream: object) -> None:
            async for _ in stream:  # type: ignore[attr-defined]
                pass

        watching = asyncio.create_task(_watch(engine))
        async with asyncio.timeout(_PATIENCE_S):
            results = await asyncio.gather(*map(to_the_end, streams), return_exceptions=True)
            with pytest.raises(EngineDead):
                await watching
        assert all(isinstance(r, EngineDead) for r in results), results
        with pytest.raises(EngineDead):
            await reply(engine, job(PROMPT))
    finally:
        await engine.close()


async def _for_50_ms(engine: Engine) -> None:
    async with asyncio.timeout(0.05):
        await reply(engine, job(PROMPT, LONG))
        await asyncio.Event().wait()  # it was quicker than the deadline


async def _watch(engine: Engine) -> None:
    """What a worker does: asks for its health again and again."""
    while True:
        await engine.health()
        await asyncio.sleep(0.1)


async def test_closing_ends_running_replies_with_an_error(subject: Subject) -> None:
    engine = subject.make()
    with pytest.raises(EngineDead, match="not been started"):
        await engine.health()
    await engine.start()
    stream = engine.generate(job(PROMPT, LONG))
    await anext(stream)
    waiting = asyncio.create_task(_last(stream))
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(EngineDead):
        await waiting
    with pytest.raises(EngineDead):
        await reply(engine, job("x"))


async def _last(stream: object) -> None:
    async for _ in stream:  # type: ignore[attr-defined]
        pass


async def test_logprobs_are_given_when_they_are_asked_for(engine: Engine, subject: Subject) -> None:
    got = await reply(engine, job(PROMPT, 5, logprobs=2))
    entries = [entry for delta in got.deltas for entry in delta.logprobs]
    if not entries:
        pytest.skip("has none")
    assert len(entries) == got.count
    assert all(entry.logprob <= 0 for entry in entries)
    assert not any(delta.logprobs for delta in (await reply(engine, job(PROMPT, 3))).deltas)
    del subject


async def test_what_was_generated_before_counts(engine: Engine, subject: Subject) -> None:
    if not subject.names_tokens:
        pytest.skip("tells no ids")
    whole = await reply(engine, job(PROMPT, 9))
    cut = whole.cut(3)
    assert isinstance(cut, Generated)
    rest = await reply(engine, replace(job(PROMPT, 9), generated=cut))
    assert len(cut.token_ids) + rest.count <= 9
