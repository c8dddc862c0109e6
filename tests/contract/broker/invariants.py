"""The invariants of docs/broker.md, checked on the real keys alone, without the model."""

from tests.contract.broker.keyspace import Hash, Keyspace

STATES = {b"waiting", b"running", b"finished", b"dead"}


def check(space: Keyspace) -> None:
    requests = space.named("req:")
    one_state(space, requests)
    logs_without_holes(space, requests)
    ends_once(space, requests)
    reserved_is_the_sum(space, requests)
    nothing_left_when_idle(space, requests)
    fair_sets_follow_the_queues(space, requests)
    jobs_only_while_needed(requests)


def one_state(space: Keyspace, requests: dict[str, Hash]) -> None:
    """1. A request is in exactly one of waiting, running, finished, dead, and is queued or leased accordingly."""
    queued = [ref for members in space.sets("q:").values() for ref in members]
    leased = [ref for members in space.sets("lease:").values() for ref in members]
    assert len(queued) == len(set(queued))
    assert len(leased) == len(set(leased))
    assert {ref for ref, fields in requests.items() if fields["state"] == b"waiting"} == set(queued)
    assert {ref for ref, fields in requests.items() if fields["state"] == b"running"} == set(leased)
    assert {fields["state"] for fields in requests.values()} <= STATES
    for ref, fields in requests.items():
        if fields["state"] == b"waiting":
            assert ref in space.sorted_sets[f"q:{fields['pool'].decode()}:{fields['tenant'].decode()}"]
        if fields["state"] == b"running":
            assert ref in space.sorted_sets[f"lease:{fields['pool'].decode()}"]


def logs_without_holes(space: Keyspace, requests: dict[str, Hash]) -> None:
    """3. Indices are 0, 1, 2, ...: every chunk of the test names the index that it was written at."""
    for name, chunks in space.lists.items():
        if name.startswith("log:"):
            assert name.removeprefix("log:") in requests
            assert [int(chunk.partition(b"|")[0]) for chunk in chunks] == list(range(len(chunks)))


def ends_once(space: Keyspace, requests: dict[str, Hash]) -> None:
    """4. No inbox tells of a second end, or of a chunk after the end, or of a chunk twice."""
    for entries in space.streams.values():
        seen: set[bytes] = set()
        over: set[bytes] = set()
        for _, fields in entries:
            if fields[0] == b"end":
                assert fields[1] not in over
                over.add(fields[1])
                assert requests[fields[1].decode()]["state"] in {b"finished", b"dead"}
            if fields[0] == b"chunk":
                assert fields[1] not in over
                assert fields[1] + b"#" + fields[3] not in seen
                seen.add(fields[1] + b"#" + fields[3])


def reserved_is_the_sum(space: Keyspace, requests: dict[str, Hash]) -> None:
    """5. A tenant's reserved tokens, waiting and running are the sums over its requests."""
    for tenant, book in space.named("tenant:").items():
        own = [fields for fields in requests.values() if fields["tenant"].decode() == tenant]
        waiting = [fields for fields in own if fields["state"] == b"waiting"]
        running = [fields for fields in own if fields["state"] == b"running"]
        reserved = sum(int(fields["prompt_tokens"]) + int(fields["output_tokens"]) for fields in waiting + running)
        assert int(book["reserved"]) == reserved
        assert int(book["waiting"]) == len(waiting)
        assert int(book.get("running", b"0")) == len(running)
    for pool, counters in space.named("pool:").items():
        waiting_there = [f for f in requests.values() if (f["state"], f["pool"].decode()) == (b"waiting", pool)]
        assert int(counters.get("waiting", b"0")) == len(waiting_there)
        if waiting_there and int(counters.get("claims", b"0")) == 0:
            assert space.lists.get(f"bell:{pool}"), "work waits, nobody has claimed, and no bell rings"


def nothing_left_when_idle(space: Keyspace, requests: dict[str, Hash]) -> None:
    """6. When nothing waits or runs, there is no queue, no fair set and no lease."""
    if not any(fields["state"] in {b"waiting", b"running"} for fields in requests.values()):
        assert not [name for name in space.sorted_sets if name.startswith(("q:", "fair:", "lease:"))]


def fair_sets_follow_the_queues(space: Keyspace, requests: dict[str, Hash]) -> None:
    """A tenant is in the one fair set that its most urgent request calls for, at its virtual time."""
    waiting: dict[tuple[str, str], list[int]] = {}
    for fields in requests.values():
        if fields["state"] == b"waiting":
            place = (fields["pool"].decode(), fields["tenant"].decode())
            waiting.setdefault(place, []).append(int(fields["priority"]))
    found: dict[tuple[str, str], bool] = {}
    for name, members in space.sets("fair:").items():
        for tenant, time in members.items():
            pool = name.removesuffix(":batch")
            assert (pool, tenant) not in found
            found[pool, tenant] = name.endswith(":batch")
            assert float(space.hashes[f"tenant:{tenant}"].get(f"v:{pool}", b"0")) == time
    assert found == {place: min(priorities) == 3 for place, priorities in waiting.items()}


def jobs_only_while_needed(requests: dict[str, Hash]) -> None:
    """Prompt bytes are there until the end, and after it in dead letters only."""
    for fields in requests.values():
        assert ("job" in fields) == (fields["state"] != b"finished")
