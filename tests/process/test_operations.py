"""What operators do with workers and dead letters, and how they leaf through lists."""

import base64
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import bitlane
from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from deploy.local.stack import Stack
from tests.process.admin_calls import Api, refused
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME, ACME_ADMIN, GLOBEX, expected_text

pytestmark = pytest.mark.timeout(120)

FP8 = "smollm2/fp8"
SERVING, DRAINING, QUARANTINED = (
    apb.WORKER_STATE_SERVING,
    apb.WORKER_STATE_DRAINING,
    apb.WORKER_STATE_QUARANTINED,
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(engine="scripted", engine_options='{"token_ms": 1, "fail_on": "trouble"}') as stack:
        yield stack.start()


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Iterator[Api]:
    with grpc.insecure_channel(stack.target) as channel:
        yield Api(channel)


def workers(api: Api, pool: str = FP8) -> dict[str, apb.WorkerStatus]:
    found = api.ask(api.admin.ListWorkers, apb.ListWorkersRequest(pool=pool)).workers
    return {worker.name: worker for worker in found}


def direct(api: Api, worker: str, state: apb.WorkerState.ValueType) -> None:
    api.ask(api.admin.SetWorkerState, apb.SetWorkerStateRequest(pool=FP8, worker=worker, state=state))


def wait_for(condition: Callable[[], bool]) -> None:
    """The test's time limit is the bound."""
    while not condition():
        time.sleep(0.05)


def running(operator: Api, stack: Stack) -> tuple[str, str]:
    """The one of two workers that runs something, and the other one."""
    names = [worker.name for worker in stack.workers[FP8]]
    wait_for(lambda: sum(worker.running for worker in workers(operator).values()) == 1)
    busy = next(name for name, worker in workers(operator).items() if worker.running)
    names.remove(busy)
    return busy, names[0]


@pytest.fixture
def pair(make_stack: StackMaker) -> Stack:
    """Two workers for FP8, 4 ms a token, with leases that outlast every test."""
    stack = make_stack(engine_options='{"token_ms": 4, "tokens": 2000}', lease_ms=60_000)
    stack.add_worker(FP8)
    stack.wait_for_worker(FP8)
    return stack


LONG = 1500  # tokens: some 6 s, which is longer than it takes to tell a worker something


def test_a_drained_worker_ends_what_it_has_and_takes_nothing_more(pair: Stack) -> None:
    with grpc.insecure_channel(pair.target) as channel, bitlane.Client(pair.target, api_key=ACME) as client:
        operator = Api(channel)
        first = client.stream("first", model="smollm2", pin="fp8", max_tokens=LONG)
        next(first)
        busy, idle = running(operator, pair)
        direct(operator, busy, DRAINING)
        wait_for(lambda: workers(operator)[busy].state == DRAINING)
        assert workers(operator)[busy].wanted_state == DRAINING
        assert workers(operator)[busy].profile.precision == pb.PRECISION_FP8
        assert workers(operator)[idle].state == SERVING
        done = first.result()
        assert (done.text, done.receipt.attempts) == (expected_text("first", LONG), 1)
        wait_for(lambda: workers(operator)[busy].running == 0)
        # Whatever comes now goes to the other one.
        for number in range(20):
            reply = client.generate(f"next {number}", model="smollm2", pin="fp8", max_tokens=3)
            assert reply.text == expected_text(f"next {number}", 3)
            assert workers(operator)[busy].running == 0
        # What it was told outlives its process.
        leaving = next(worker for worker in pair.workers[FP8] if worker.name == busy)
        leaving.terminate()
        assert leaving.wait(20) == 0
        wait_for(lambda: set(workers(operator)) == {idle})
        direct(operator, busy, SERVING)


def test_a_worker_in_quarantine_hands_back_what_runs(pair: Stack) -> None:
    with grpc.insecure_channel(pair.target) as channel, bitlane.Client(pair.target, api_key=ACME) as client:
        operator = Api(channel)
        stream = client.stream("moved", model="smollm2", pin="fp8", max_tokens=LONG)
        next(stream)
        busy, idle = running(operator, pair)
        direct(operator, busy, QUARANTINED)
        # The lease would hold for a minute: only handing back lets the other one go on.
        wait_for(lambda: workers(operator)[idle].running == 1)
        wait_for(lambda: workers(operator)[busy].running == 0)
        status = workers(operator)[busy]
        assert (status.state, status.wanted_state) == (QUARANTINED, QUARANTINED)
        assert stream.result().text == expected_text("moved", LONG)
        direct(operator, busy, SERVING)
        wait_for(lambda: workers(operator)[busy].state == SERVING)


def test_pools_and_workers_are_listed(operator: Api) -> None:
    pools = operator.ask(operator.admin.ListPools, apb.ListPoolsRequest()).pools
    assert [(pool.name, pool.model, pool.precision, pool.workers) for pool in pools] == [
        ("smollm2/fp4", "smollm2", pb.PRECISION_FP4, 1),
        (FP8, "smollm2", pb.PRECISION_FP8, 1),
    ]
    every = operator.ask(operator.admin.ListWorkers, apb.ListWorkersRequest()).workers
    assert [(worker.pool, worker.name) for worker in every] == [
        ("smollm2/fp4", "smollm2-fp4-1"),
        (FP8, "smollm2-fp8-1"),
    ]
    unknown = refused(lambda: workers(operator, "smollm2/bf16"))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "POOL_NOT_FOUND")
    for worker, reason in (("no-such", "WORKER_NOT_FOUND"), ("", "WORKER_NOT_FOUND")):
        assert refused(lambda w=worker: direct(operator, w, DRAINING)).reason == reason
    unsaid = refused(lambda: direct(operator, "smollm2-fp8-1", apb.WORKER_STATE_UNSPECIFIED))
    assert (unsaid.code, unsaid.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("state",))


def fail(operator: Api, request_id: str, key: str = ACME) -> None:
    """Makes a request of acme a dead letter."""
    api = operator.with_key(key)
    request = pb.GenerateRequest(
        model="smollm2", prompt="trouble", request_id=request_id, sampling=pb.SamplingParams(max_tokens=50)
    )
    call = pb.CompleteRequest(request=request)
    assert refused(lambda: api.ask(api.inference.Complete, call)).reason == "ATTEMPTS_EXHAUSTED"


def letters(api: Api, tenant: str = "") -> list[str]:
    request = apb.ListDeadLettersRequest(tenant=tenant, page_size=1000)
    return [letter.request_id for letter in api.ask(api.admin.ListDeadLetters, request).letters]


def test_dead_letters_are_listed_replayed_and_purged(operator: Api) -> None:
    acme, globex = operator.with_key(ACME_ADMIN), operator.with_key(GLOBEX)
    for request_id in ("dead-1", "dead-2"):
        fail(operator, request_id)
    fail(operator, "theirs", GLOBEX)
    assert letters(acme) == letters(operator, "acme") == ["dead-2", "dead-1"]
    assert letters(operator) == ["theirs", "dead-2", "dead-1"]
    assert refused(lambda: letters(globex)).reason == "SCOPE_MISSING"
    listed = operator.ask(operator.admin.ListDeadLetters, apb.ListDeadLettersRequest(tenant="acme", page_size=1))
    letter = listed.letters[0]
    assert (letter.tenant, letter.pool, letter.attempts, letter.worker) == ("acme", FP8, 3, "smollm2-fp8-1")
    assert letter.died_at.seconds > 0
    assert "trouble" not in str(listed)
    # It fails again, after its attempts were counted anew.
    acme.ask(acme.admin.ReplayDeadLetter, apb.ReplayDeadLetterRequest(request_id="dead-1"))
    wait_for(lambda: letters(acme) == ["dead-1", "dead-2"])
    acme.ask(acme.admin.PurgeDeadLetter, apb.PurgeDeadLetterRequest(request_id="dead-1"))
    assert letters(acme) == ["dead-2"]
    # Another tenant's is as unknown as one that never was.
    calls: list[Callable[[str], object]] = [
        lambda name: acme.ask(acme.admin.ReplayDeadLetter, apb.ReplayDeadLetterRequest(request_id=name)),
        lambda name: acme.ask(acme.admin.PurgeDeadLetter, apb.PurgeDeadLetterRequest(request_id=name)),
    ]
    for call in calls:
        for name in ("theirs", "dead-1", "nobody"):
            unknown = refused(lambda c=call, n=name: c(n))
            assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "DEAD_LETTER_NOT_FOUND")
        assert refused(lambda c=call: c("")).fields == ("request_id",)
    assert letters(operator) == ["theirs", "dead-2"]


# Each list: its method, what its request needs, and where its items are and what they are told apart by.
LISTS: dict[str, tuple[Callable[[Api], Any], Any, str, Callable[[Any], str]]] = {
    "tenants": (lambda api: api.admin.ListTenants, apb.ListTenantsRequest, "tenants", lambda tenant: tenant.id),
    "keys": (lambda api: api.admin.ListApiKeys, apb.ListApiKeysRequest, "keys", lambda key: key.name),
    "letters": (
        lambda api: api.admin.ListDeadLetters,
        apb.ListDeadLettersRequest,
        "letters",
        lambda letter: letter.request_id,
    ),
    "audit": (
        lambda api: api.admin.ListAuditEvents,
        apb.ListAuditEventsRequest,
        "events",
        lambda event: f"{event.resource} {event.time.ToNanoseconds()} {event.action}",
    ),
}


def pages(api: Api, name: str, size: int, **fields: str) -> list[list[str]]:
    """All pages of a list."""
    method, make, items, told_by = LISTS[name]
    found: list[list[str]] = []
    token = ""
    while True:
        answer = api.ask(method(api), make(page_size=size, page_token=token, **fields))
        found.append([told_by(item) for item in getattr(answer, items)])
        token = answer.next_page_token
        if not token:
            return found


def test_lists_come_in_pages(operator: Api) -> None:
    for number in range(5):
        operator.make_tenant(f"page-{number}")
        operator.make_key("page-0", f"key-{number}")
        fail(operator, f"page-{number}")
    for name, fields in (("tenants", {}), ("keys", {"tenant": "page-0"}), ("letters", {}), ("audit", {})):
        (whole,) = pages(operator, name, 0, **fields)
        assert len(whole) >= 5
        for size in (1, 2, 3, len(whole), 1000):
            found = pages(operator, name, size, **fields)
            assert [item for page in found for item in page] == whole, (name, size)
            assert all(len(page) <= size for page in found)
    for name in ("tenants", "keys"):
        (whole,) = pages(operator, name, 1000, **({"tenant": "page-0"} if name == "keys" else {}))
        assert whole == sorted(whole)


def test_bad_pages_are_refused(operator: Api) -> None:
    _, make_tenants, _, _ = LISTS["tenants"]
    token = operator.ask(operator.admin.ListTenants, make_tenants(page_size=1)).next_page_token
    assert token
    for name, (method, make, _, _) in LISTS.items():
        large = refused(lambda m=method, r=make: operator.ask(m(operator), r(page_size=1001)))
        assert (large.code, large.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_size",))
        bad = ["x", "ä", "!" * 8, "A" * 10_000, "\n", base64.urlsafe_b64encode(b"tenants:").decode()]
        bad += [base64.urlsafe_b64encode(f"{name}:{text}".encode()).decode() for text in ("\xff", "(", "$", "-", "+")]
        if name != "tenants":
            bad.append(token)
        for text in bad:
            request = make(page_token=text)
            # Those of names are names: any text is after some names and before others.
            if name in ("tenants", "keys") and text.isascii() and _decoded(text).startswith(f"{name}:"):
                continue
            refusal = refused(lambda m=method, r=request: operator.ask(m(operator), r))
            assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",)), (name, text)


def _decoded(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode().rstrip(":")  # a token without a place is none
    except ValueError:
        return ""
