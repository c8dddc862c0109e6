"""Usage is what the streams said, told apart as one asks for it."""

import asyncio
from collections.abc import Iterator

import grpc
import pytest

import bitlane
from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from deploy.local.stack import Stack
from tests.process.admin_calls import Api, refused


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(engine="scripted", engine_options='{"token_ms": 1}') as stack:
        yield stack.start()


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Iterator[Api]:
    with grpc.insecure_channel(stack.target) as channel:
        yield Api(channel)


def usage(api: Api, tenant: str, *by: apb.UsageDimension.ValueType, **fields: object) -> list[apb.UsageRow]:
    request = apb.GetUsageRequest(tenant=tenant, group_by=by, **fields)  # type: ignore[arg-type]
    response = api.ask(api.admin.GetUsage, request)
    assert response.currency == "USD"
    return list(response.rows)


async def test_usage_is_what_the_streams_said(stack: Stack, operator: Api) -> None:
    tenants = ["used-1", "used-2"]
    said: dict[tuple[str, str, str, str], list[bitlane.Usage]] = {}
    for tenant in tenants:
        operator.make_tenant(tenant)
        for name in ("ci", "web"):
            async with bitlane.AsyncClient(stack.target, api_key=operator.make_key(tenant, name)) as client:
                asks = [("fp4", "chat", 5), ("fp8", "math", 7), ("fp8", "math", 11), ("fp8", "code", 3)]
                replies = await asyncio.gather(
                    *(
                        client.generate("some prompt", model="smollm2", pin=pin, task=task, max_tokens=tokens)  # type: ignore[arg-type]
                        for pin, task, tokens in asks
                    )
                )
                for (pin, task, _), reply in zip(asks, replies, strict=True):
                    said.setdefault((tenant, name, pin, task), []).append(reply.usage)
    dimensions = (apb.USAGE_DIMENSION_KEY, apb.USAGE_DIMENSION_PRECISION, apb.USAGE_DIMENSION_TASK)
    prices = {pb.PRECISION_FP4: (50, 100), pb.PRECISION_FP8: (100, 200)}
    for tenant in tenants:
        rows = usage(operator, tenant, *dimensions)
        assert [(r.key, r.precision, r.task) for r in rows] == [
            (key, precision, task)
            for key in ("ci", "web")
            for precision, task in (
                (pb.PRECISION_FP4, pb.TASK_CHAT),
                (pb.PRECISION_FP8, pb.TASK_CODE),
                (pb.PRECISION_FP8, pb.TASK_MATH),
            )
        ]
        for row in rows:
            names = (pb.Precision.Name(row.precision), pb.Task.Name(row.task))
            precision, task = (name.split("_", 1)[1].lower() for name in names)
            usages = said[tenant, row.key, precision, task]
            prompt, output = sum(u.prompt_tokens for u in usages), sum(u.output_tokens for u in usages)
            assert (row.requests, row.failed_requests) == (len(usages), 0)
            assert (row.prompt_tokens, row.cached_prompt_tokens, row.output_tokens) == (prompt, 0, output)
            for_prompt, for_output = prices[row.precision]
            assert row.cost_nanos == prompt * for_prompt + output * for_output
            assert row.fp8_cost_nanos == prompt * 100 + output * 200
            assert not row.tenant
            assert not row.HasField("start_time")
        (total,) = usage(operator, tenant)
        assert (total.requests, total.output_tokens) == (8, 2 * (5 + 7 + 11 + 3))
        # The same by each interval, at either end of the time.
        for interval in (apb.USAGE_INTERVAL_MINUTE, apb.USAGE_INTERVAL_DAY):
            by_time = usage(operator, tenant, apb.USAGE_DIMENSION_TIME, interval=interval)
            assert sum(row.requests for row in by_time) == 8
            assert all(row.start_time.seconds % 60 == 0 for row in by_time)
    every = usage(operator, "", apb.USAGE_DIMENSION_TENANT, apb.USAGE_DIMENSION_MODEL, apb.USAGE_DIMENSION_POOL)
    own = [(row.tenant, row.model, row.pool, row.requests) for row in every if row.tenant in tenants]
    assert own == [(t, "smollm2", f"smollm2/fp{n}", {4: 2, 8: 6}[n]) for t in tenants for n in (4, 8)]
    # What a tenant used stays when it is gone.
    operator.ask(operator.admin.DeleteTenant, apb.DeleteTenantRequest(tenant=tenants[0]))
    assert usage(operator, tenants[0])[0].requests == 8


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"interval": 9}, "interval"),
        ({"group_by": [99]}, "group_by"),
        ({"start_time": {"seconds": -1}}, "start_time"),
        ({"end_time": {"seconds": 1 << 60}}, "end_time"),
        ({"start_time": {"seconds": 2000}, "end_time": {"seconds": 1000}}, "start_time"),
        ({"start_time": {"seconds": 0}}, "start_time"),
        (
            {"start_time": {"seconds": 0}, "end_time": {"seconds": 60 * 1501}, "interval": apb.USAGE_INTERVAL_MINUTE},
            "start_time",
        ),
    ],
)
def test_bad_usage_requests_name_the_field(operator: Api, fields: dict[str, object], field: str) -> None:
    request = apb.GetUsageRequest(tenant="acme", **fields)  # type: ignore[arg-type]
    refusal = refused(lambda: operator.ask(operator.admin.GetUsage, request))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))
