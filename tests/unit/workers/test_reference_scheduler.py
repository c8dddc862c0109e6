"""What a step runs: admission, turns of prompts, and room in the cache."""

from typing import cast

import pytest

from workers.engine import Job, Sampling
from workers.engines.reference.kv import KvCache
from workers.engines.reference.scheduler import PROMPT_TOKENS_ALONE, PROMPT_TOKENS_BESIDE, Scheduler
from workers.engines.reference.sequence import Sequence
from workers.engines.reference.tokenizer import Tokenizer
from workers.engines.reference.weights import Architecture

SIZES = Architecture(layers=1, hidden=2, mlp=2, heads=1, kv_heads=1, head_size=2, rope_base=1e5, norm_epsilon=1e-5)


class NoEnd:
    """A tokenizer whose tokens are bytes and whose turn never ends."""

    ends = frozenset[int]()

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])


def sequence(prompt_tokens: int, max_tokens: int = 10) -> Sequence:
    job = Job("job", Sampling(max_tokens, 0.0), prompt="...")
    return Sequence(job, [65] * prompt_tokens, cast("Tokenizer", NoEnd()), 2048)


def scheduler(slots: int = 4, kv_tokens: int = 4096) -> Scheduler:
    return Scheduler(slots, kv_tokens, lambda tokens: KvCache(SIZES, tokens))


def run(planner: Scheduler) -> dict[Sequence, int]:
    """Plans a step and does as if it had run: each sequence that is complete gets a token."""
    shares = planner.plan()
    for share in shares:
        completes = share.completes
        share.sequence.computed += share.tokens
        if completes:
            share.sequence.accept(66, None)
    return {share.sequence: share.tokens for share in shares}


def test_a_prompt_alone_runs_in_large_parts_then_decodes() -> None:
    planner, one = scheduler(), sequence(150)
    planner.add(one)
    assert [run(planner)[one] for _ in range(5)] == [PROMPT_TOKENS_ALONE, PROMPT_TOKENS_ALONE, 22, 1, 1]


def test_running_replies_get_a_token_every_step_beside_a_long_prompt() -> None:
    planner, running, long = scheduler(), [sequence(3, 1000) for _ in range(3)], sequence(1000)
    for one in running:
        planner.add(one)
    run(planner)
    planner.add(long)
    for _ in range(1000 // PROMPT_TOKENS_BESIDE):
        assert run(planner) == dict.fromkeys(running, 1) | {long: PROMPT_TOKENS_BESIDE}


def test_prompts_take_turns() -> None:
    planner, decoding, long, short = scheduler(), sequence(2, 500), sequence(400), sequence(12)
    planner.add(decoding)
    run(planner)
    planner.add(long)
    assert long in run(planner)
    planner.add(short)
    assert run(planner)[short] == 12


def test_no_more_run_than_there_are_slots() -> None:
    planner, all_of_them = scheduler(slots=2), [sequence(4) for _ in range(3)]
    for one in all_of_them:
        planner.add(one)
    assert set(run(planner)) == set(all_of_them[:2])
    planner.remove(all_of_them[0])
    assert set(run(planner)) == set(all_of_them[1:])


def test_a_sequence_waits_for_room_in_the_cache_and_keeps_its_turn() -> None:
    planner = scheduler(kv_tokens=256)
    large, larger, small = sequence(100, 60), sequence(100, 100), sequence(4, 4)
    for one in (large, larger, small):
        planner.add(one)
    assert set(run(planner)) == {large}  # 192 of 256 positions; the second needs 256, and the third comes after it
    planner.remove(large)
    assert set(run(planner)) == {larger}
    planner.remove(larger)
    assert set(run(planner)) == {small}
    planner.remove(small)
    assert planner.idle
    planner.add(sequence(200, 56))
    assert run(planner), "all room is free again"


def test_removing_twice_or_while_waiting_does_no_harm() -> None:
    planner, one, two = scheduler(slots=1), sequence(4), sequence(4)
    planner.add(one)
    planner.add(two)
    run(planner)
    for gone in (two, two, one, one):
        planner.remove(gone)
    assert planner.idle
    assert planner.plan() == []


@pytest.mark.parametrize("slots", [1, 16])
def test_every_prompt_ends_whatever_else_runs(slots: int) -> None:
    planner, everyone = scheduler(slots, 16_384), [sequence(7 * i + 1, 3) for i in range(20)]
    for one in everyone:
        planner.add(one)
    for _ in range(2000):
        for one in run(planner):
            if one.finish_reason is not None:
                planner.remove(one)
        if planner.idle:
            break
    assert all(one.place == 3 for one in everyone)
