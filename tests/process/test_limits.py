"""Limits end to end: who refuses, what it says, when to try again; and what is counted is what was streamed."""

import asyncio
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import grpc
import pytest

import bitlane
from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from deploy.local.stack import Stack
from tests.process.admin_calls import TIMEOUT_S, Api, Refused, code_of, refused
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME, GLOBEX

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
OK = grpc.StatusCode.OK
_numbers = count()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(engine="scripted", engine_options='{"token_ms": 5, "tokens": 2000}') as stack:
        yield stack.start()


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Iterator[Api]:
    with grpc.insecure_channel(stack.target) as channel:
        yield Api(channel)


Limits = dict[str, int]


def bounded(
    operator: Api,
    tenant: Limits | None = None,
    key: Limits | None = None,
    tenant_model: Limits | None = None,
    key_model: Limits | None = None,
) -> tuple[str, Api]:
    """A tenant of the test's own with these limits, and its key's calls."""
    tenant_id = f"bounded-{next(_numbers)}"
    operator.make_tenant(tenant_id, quota=quota(tenant, tenant_model))
    return tenant_id, operator.with_key(operator.make_key(tenant_id, "ci", quota=quota(key, key_model)))


def quota(limits: Limits | None, of_model: Limits | None) -> apb.Quota:
    models = {"smollm2": apb.Limits(**of_model)} if of_model else {}
    return apb.Quota(limits=apb.Limits(**(limits or {})), model_limits=models)


def generate(
    api: Api, max_tokens: int = 3, prompt: str = "hi", request_id: str = "", timeout_s: float = TIMEOUT_S
) -> str:
    request = pb.GenerateRequest(
        model="smollm2",
        prompt=prompt,
        request_id=request_id,
        sampling=pb.SamplingParams(max_tokens=max_tokens),
        precision=pb.PrecisionPreference(pin=pb.PRECISION_FP8),
    )
    return api.ask(api.inference.Complete, pb.CompleteRequest(request=request), timeout_s).text


def state(operator: Api, tenant: str, key: str = "") -> list[apb.QuotaState]:
    request = apb.GetQuotaStateRequest(tenant=tenant, key=key)
    return list(operator.ask(operator.admin.GetQuotaState, request).states)


def told_to_wait(refusal: Refused) -> float:
    """The seconds of RetryInfo, which the pushback repeats."""
    assert refusal.retry_s is not None
    assert refusal.pushback == str(round(refusal.retry_s * 1000))
    return refusal.retry_s


@pytest.mark.parametrize(
    ("where", "subject"),
    [
        ("tenant", "tenant:{}"),
        ("key", "tenant:{}/key:ci"),
        ("tenant_model", "tenant:{}/model:smollm2"),
        ("key_model", "tenant:{}/key:ci/model:smollm2"),
    ],
)
def test_the_account_that_refuses_is_named(operator: Api, where: str, subject: str) -> None:
    tenant, api = bounded(operator, **{where: {"requests_per_minute": 2}})
    assert [code_of(lambda: generate(api)) for _ in range(2)] == [OK, OK]
    refusal = refused(lambda: generate(api))
    assert (refusal.code, refusal.reason, refusal.subjects) == (EXHAUSTED, "QUOTA_REQUESTS", (subject.format(tenant),))
    # One fits again every 30 s.
    assert 0 < told_to_wait(refusal) <= 30
    assert (refusal.metadata["limit"], refusal.metadata["bound"]) == ("requests_per_minute", "2")


def test_what_is_told_to_wait_is_enough(operator: Api) -> None:
    _, api = bounded(operator, {"requests_per_minute": 60})
    while code_of(lambda: generate(api)) is OK:
        pass
    for _ in range(3):
        wait = told_to_wait(refused(lambda: generate(api)))
        assert wait <= 1.0
        time.sleep(wait)
        assert code_of(lambda: generate(api)) is OK


def test_tokens_are_reserved_and_come_back(stack: Stack, operator: Api) -> None:
    tenant, api = bounded(operator, {"tokens_per_minute": 2000})
    with bitlane.Client(stack.target, api_key=operator.make_key(tenant, "stream")) as client:
        stream = client.stream("hi", model="smollm2", pin="fp8", max_tokens=1900)
        next(stream)
        (used,) = state(operator, tenant)
        assert (used.reserved_tokens, used.concurrent_requests) == (1901, 1)
        refusal = refused(lambda: generate(api, 1900))
        assert (refusal.reason, refusal.metadata["wanted"]) == ("QUOTA_TOKENS", "1901")
        assert 0 < told_to_wait(refusal) <= 60
        # Less is admitted at once, though more was just refused.
        assert code_of(lambda: generate(api, 20)) is OK
        generated = client.cancel(stream.request_id).usage.output_tokens
    # All but what was generated came back. A refusal for tokens is remembered for a tenth of a second.
    (used,) = state(operator, tenant)
    assert (used.reserved_tokens, used.concurrent_requests) == (0, 0)
    taken = 1 + generated + 1 + 20
    assert 0 < used.tokens_used <= taken
    time.sleep(0.1)
    assert code_of(lambda: generate(api, max(1, min(500, 2000 - taken - 1)))) is OK


@pytest.mark.parametrize(
    ("limits", "reason", "lowest"),
    [({"tokens_per_minute": 100}, "QUOTA_TOKENS", 99), ({"day_budget_nanos": 100 * 200}, "QUOTA_BUDGET", 99)],
)
def test_what_never_fits_says_which_field_to_lower(operator: Api, limits: Limits, reason: str, lowest: int) -> None:
    _, api = bounded(operator, limits)
    refusal = refused(lambda: generate(api, 500))
    assert (refusal.code, refusal.reason) == (EXHAUSTED, reason)
    assert refusal.fields == ("request.sampling.max_tokens",)
    assert f"use at most {lowest}" in refusal.message
    assert (refusal.retry_s, refusal.pushback) == (None, "-1")
    assert code_of(lambda: generate(api, lowest)) is OK
    long = refused(lambda: generate(api, 1, "word " * 500))
    assert (long.fields, long.pushback) == (("request.prompt",), "-1")


def test_a_limit_of_nothing_admits_nothing(operator: Api) -> None:
    for limit in ("requests_per_minute", "tokens_per_minute", "concurrent_requests", "queued_requests"):
        _, api = bounded(operator, {limit: 0})
        refusal = refused(lambda a=api: generate(a))
        assert (refusal.code, refusal.pushback, refusal.retry_s) == (EXHAUSTED, "-1", None)
        assert "nothing is admitted" in refusal.message


def test_a_limit_acts_as_soon_as_it_is_set(operator: Api) -> None:
    tenant, api = bounded(operator, {"requests_per_minute": 1})
    assert code_of(lambda: generate(api)) is OK
    assert code_of(lambda: generate(api)) is EXHAUSTED
    assert code_of(lambda: generate(api)) is EXHAUSTED
    raised = apb.Tenant(id=tenant, quota=quota({"requests_per_minute": 1000}, None))
    operator.ask(operator.admin.UpdateTenant, apb.UpdateTenantRequest(tenant=raised))
    assert code_of(lambda: generate(api)) is OK
    ci = apb.ApiKey(tenant=tenant, name="ci", scopes=[apb.SCOPE_INFER], quota=quota({"concurrent_requests": 0}, None))
    operator.ask(operator.admin.UpdateApiKey, apb.UpdateApiKeyRequest(key=ci))
    assert refused(lambda: generate(api)).subjects == (f"tenant:{tenant}/key:ci",)


def test_a_known_request_is_joined_whatever_the_limits_are(operator: Api) -> None:
    _, api = bounded(operator, {"requests_per_minute": 1})
    first = generate(api, request_id="once")
    for _ in range(3):
        assert refused(lambda: generate(api)).reason == "QUOTA_REQUESTS"
        assert refused(lambda: generate(api, request_id="new")).reason == "QUOTA_REQUESTS"
        assert generate(api, request_id="once") == first
        other = refused(lambda: generate(api, prompt="other", request_id="once"))
        assert other.reason == "REQUEST_ID_TAKEN"


async def test_concurrency_and_queue(stack: Stack, operator: Api) -> None:
    for limit, reason in (("concurrent_requests", "QUOTA_CONCURRENCY"),):
        tenant_id = f"bounded-{next(_numbers)}"
        operator.make_tenant(tenant_id, quota=quota({limit: 2}, None))
        secret = operator.make_key(tenant_id, "ci")
        api = operator.with_key(secret)
        async with bitlane.AsyncClient(stack.target, api_key=secret) as client:
            streams = [client.stream(f"s{i}", model="smollm2", max_tokens=1500) for i in range(2)]
            for stream in streams:
                await stream.accepted()
            refusal = refused(lambda a=api: generate(a))
            assert (refusal.reason, refusal.subjects) == (reason, (f"tenant:{tenant_id}",))
            assert told_to_wait(refusal) == 1.0
            (used,) = state(operator, tenant_id)
            assert (used.concurrent_requests, used.limits.concurrent_requests) == (2, 2)
            assert used.reserved_tokens >= 3000
            await client.cancel(streams[0].request_id)
            assert code_of(lambda a=api: generate(a)) is OK
            await client.cancel(streams[1].request_id)


def test_quota_states(operator: Api) -> None:
    tenant, api = bounded(
        operator,
        {"requests_per_minute": 50, "queued_requests": -1},
        {"day_budget_nanos": 10**9},
        {"tokens_per_minute": 5000},
        {"concurrent_requests": 9},
    )
    generate(api, 10)
    whole, of_model = state(operator, tenant)
    assert (whole.model, of_model.model) == ("", "smollm2")
    assert whole.limits == apb.Limits(requests_per_minute=50)
    assert of_model.limits == apb.Limits(tokens_per_minute=5000)
    assert 0 < whole.requests_used <= 1
    assert 0 < of_model.tokens_used <= 11
    key, key_of_model = state(operator, tenant, "ci")
    assert key.limits == apb.Limits(day_budget_nanos=10**9)
    assert key.day_spent_nanos == 1 * 100 + 10 * 200  # FP8's prices in config/local.yaml, in nanos a token
    assert key_of_model.limits == apb.Limits(concurrent_requests=9)
    # Defaults are filled in.
    (acme,) = state(operator, "acme")
    assert acme.limits == apb.Limits(queued_requests=256)
    unknown = refused(lambda: state(operator, tenant, "no-such"))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND")
    own = api.ask(api.admin.GetQuotaState, apb.GetQuotaStateRequest()).states
    assert own[0].limits == whole.limits


@pytest.fixture
def narrow(make_stack: StackMaker, tmp_path: Path) -> Stack:
    """One slot a pool, 10 ms a token, and twelve places in FP8's queue for all tenants together."""
    config = tmp_path / "narrow.yaml"
    local = Path("config/local.yaml").read_text(encoding="utf-8")
    config.write_text(local.replace("precision: FP8\n", "precision: FP8\n        max_waiting: 12\n"), encoding="utf-8")
    return make_stack(engine_options='{"slots": 1, "token_ms": 10, "tokens": 2000}', config=config)


async def test_a_full_pool_and_a_deadline_that_cannot_be_met(narrow: Stack) -> None:
    with grpc.insecure_channel(narrow.target) as channel:
        acme, globex, operator = Api(channel, ACME), Api(channel, GLOBEX), Api(channel)
        async with bitlane.AsyncClient(narrow.target, api_key=ACME) as client:
            streams = [client.stream(f"s{i}", model="smollm2", pin="fp8", max_tokens=100) for i in range(13)]
            for stream in streams:
                await stream.accepted()
                if stream is streams[0]:
                    await anext(stream)  # it has the slot
            # The bound is the pool's: another tenant meets it as well.
            for api in (acme, globex):
                refusal = refused(lambda a=api: generate(a))
                assert (refusal.code, refusal.reason) == (EXHAUSTED, "QUEUE_FULL")
                assert (refusal.subjects, told_to_wait(refusal)) == (("pool:smollm2/fp8",), 1.0)

            def pool() -> apb.PoolStatus:
                pools = operator.ask(operator.admin.ListPools, apb.ListPoolsRequest()).pools
                return next(each for each in pools if each.name == "smollm2/fp8")

            while not pool().HasField("tokens_per_second"):
                await asyncio.sleep(0.1)
            seen = pool()
            assert (seen.model, seen.precision, seen.workers, seen.slots) == ("smollm2", pb.PRECISION_FP8, 1, 1)
            assert seen.waiting_tokens > 100
            # Behind all that waits there is no turn within a second.
            late = refused(lambda: generate(acme, timeout_s=1.0))
            assert (late.code, late.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_UNREACHABLE")
            assert int(late.metadata["estimated_wait_ms"]) > 1000
            assert late.pushback is None
            # Without such a deadline it is queued.
            patient = client.stream("patient", model="smollm2", pin="fp8", max_tokens=5)
            await patient.accepted()
            for stream in (*streams, patient):
                await client.cancel(stream.request_id)
