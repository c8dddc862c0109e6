"""The invariants of docs/broker.md, checked on the real keys alone, without the model."""

from collections import Counter
from collections.abc import Container

from tests.contract.broker.keyspace import Hash, Keyspace

STATES = {b"waiting", b"running", b"finished", b"dead"}


def check(space: Keyspace, replayed: Container[str] = ()) -> None:
    """`replayed` are the requests that were dead letters once, and so may have ended before."""
    requests = space.named("req:")
    one_state(space, requests)
    logs_without_holes(space, requests)
    ends_once(space, requests, replayed)
    accounts_are_the_sums(space, requests)
    pools_are_the_sums(space, requests)
    nothing_left_when_idle(space, requests)
    fair_sets_follow_the_queues(space, requests)
    jobs_only_while_needed(requests)
    stories_are_bounded(space, requests)


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


def ends_once(space: Keyspace, requests: dict[str, Hash], replayed: Container[str]) -> None:
    """4. No inbox tells of a second end, or of a chunk after the end, or of a chunk twice."""
    for entries in space.streams.values():
        seen: set[bytes] = set()
        over: set[bytes] = set()
        for _, fields in entries:
            if len(fields) > 1 and fields[1].decode() in replayed:
                continue
            if fields[0] == b"end":
                assert fields[1] not in over
                over.add(fields[1])
                assert requests[fields[1].decode()]["state"] in {b"finished", b"dead"}
            if fields[0] == b"chunk":
                assert fields[1] not in over
                assert fields[1] + b"#" + fields[3] not in seen
                seen.add(fields[1] + b"#" + fields[3])


def accounts_are_the_sums(space: Keyspace, requests: dict[str, Hash]) -> None:
    """5. What an account holds is the sum over its waiting and running requests."""
    held: dict[tuple[str, str, str], Counter[str]] = {name: Counter() for name in space.accounts()}
    for fields in requests.values():
        if fields["state"] in {b"waiting", b"running"}:
            prompt, output = int(fields["prompt_tokens"]), int(fields["output_tokens"])
            _, price, _, output_price, *_ = fields["book"].decode().split()[:6]
            for account in account_names(fields):
                held[account][fields["state"].decode()] += 1
                held[account]["reserved"] += prompt + output
                held[account]["reserved_cost"] += prompt * int(price) + output * int(output_price)
    for name, book in space.accounts().items():
        for field in ("waiting", "running", "reserved", "reserved_cost"):
            assert int(book.get(field, b"0")) == held[name][field], (name, field)


def account_names(fields: Hash) -> list[tuple[str, str, str]]:
    """The accounts of a request, of its book '<key>/<task> <six prices> <account> ...'."""
    names = [account.removeprefix("+").partition(":") for account in fields["book"].decode().split(" ")[7:]]
    return [(fields["tenant"].decode(), key, model) for key, _, model in names]


def pools_are_the_sums(space: Keyspace, requests: dict[str, Hash]) -> None:
    """What a pool says of what waits there: requests and since when, tokens, the weights of tenants; and the bell."""
    for pool, counters in space.named("pool:").items():
        waiting = [f for f in requests.values() if (f["state"], f["pool"].decode()) == (b"waiting", pool)]
        since = space.sorted_sets.get(f"waiting:{pool}", {})
        expected = {
            ref: int(fields["priority"]) * 10**13 + int(fields["queued_ms"])
            for ref, fields in requests.items()
            if (fields["state"], fields["pool"].decode()) == (b"waiting", pool)
        }
        assert since == expected
        if waiting and int(counters.get("claims", b"0")) == 0:
            assert space.lists.get(f"bell:{pool}"), "work waits, nobody has claimed, and no bell rings"
        for prefix, weight_field, priorities in (("", "w", {1, 2}), ("batch_", "bw", {3})):
            own = [fields for fields in waiting if int(fields["priority"]) in priorities]
            assert int(counters.get(f"{prefix}tokens", b"0")) == sum(map(tokens_of, own))
            weights = [book.get(f"{weight_field}:{pool}", b"0") for book in space.named("tenant:").values()]
            assert int(counters.get(f"{prefix}weights", b"0")) == sum(map(int, weights))
        if not waiting:
            assert "window_ms" not in counters, "an idle pool measures its rate"
        for tenant, book in space.named("tenant:").items():
            for priority in (1, 2, 3):
                own = [f for f in waiting if (f["tenant"].decode(), int(f["priority"])) == (tenant, priority)]
                assert int(book.get(f"t{priority}:{pool}", b"0")) == sum(map(tokens_of, own))


def tokens_of(fields: Hash) -> int:
    return int(fields["prompt_tokens"]) + int(fields["output_tokens"])


def nothing_left_when_idle(space: Keyspace, requests: dict[str, Hash]) -> None:
    """6. When nothing waits or runs, there is no queue, no fair set and no lease."""
    if not any(fields["state"] in {b"waiting", b"running"} for fields in requests.values()):
        assert not [name for name in space.sorted_sets if name.startswith(("q:", "waiting:", "fair:", "lease:"))]


def fair_sets_follow_the_queues(space: Keyspace, requests: dict[str, Hash]) -> None:
    """A tenant is in the fair set of each class of which it has work waiting, at its virtual time for that class."""
    waiting = {
        (fields["pool"].decode(), int(fields["priority"]) == 3, fields["tenant"].decode())
        for fields in requests.values()
        if fields["state"] == b"waiting"
    }
    found = set[tuple[str, bool, str]]()
    for name, members in space.sets("fair:").items():
        pool, batch = name.removesuffix(":batch"), name.endswith(":batch")
        for tenant, time in members.items():
            found.add((pool, batch, tenant))
            assert float(space.hashes[f"tenant:{tenant}"].get(f"{'bv' if batch else 'v'}:{pool}", b"0")) == time
    assert found == waiting


def jobs_only_while_needed(requests: dict[str, Hash]) -> None:
    """Prompt bytes are there until the end, and after it in dead letters only."""
    for fields in requests.values():
        assert ("job" in fields) == (fields["state"] != b"finished")


def stories_are_bounded(space: Keyspace, requests: dict[str, Hash]) -> None:
    """Every known request has a story, nobody else, and none is long."""
    stories = {name.removeprefix("story:"): told for name, told in space.lists.items() if name.startswith("story:")}
    assert stories.keys() == requests.keys()
    assert all(0 < len(told) <= 64 for told in stories.values())
