"""What each call of `client.admin` asks, and what it makes of an answer."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from bitlane import (
    UNLIMITED,
    ApiKey,
    AuditEvent,
    DeadLetter,
    IssuedKey,
    Limits,
    PoolStatus,
    Precision,
    Priority,
    Quota,
    QuotaState,
    Scope,
    Tenant,
    UsageRow,
)
from bitlane.admin import AsyncAdmin
from bitlane.v1 import admin_pb2 as pb
from bitlane.v1 import inference_pb2 as ipb
from tests.contract.sdk import admin_data as data


def day(number: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 11, number, hour, minute, tzinfo=UTC)


ACME = Tenant(
    id="acme",
    display_name="Acme Ltd",
    weight=2.5,
    models=("smollm2", "llama-3.1-8b"),
    priority_ceiling=Priority.STANDARD,
    quota=Quota(
        Limits(
            requests_per_minute=600,
            tokens_per_minute=UNLIMITED,
            concurrent_requests=20,
            day_budget=Decimal("5.00"),
            month_budget=Decimal("100.000000001"),
        ),
        {"smollm2": Limits(requests_per_minute=60, tokens_per_minute=5000)},
    ),
    etag="5f3a",
    created_at=day(1, 9, 30),
    updated_at=day(20, 17),
)
CI = ApiKey(
    tenant="acme",
    name="ci",
    scopes=(Scope.INFER,),
    expires_at=day(30),
    quota=Quota(Limits(requests_per_minute=60)),
    created_at=day(3, 8),
    created_by="operator/local",
    rotated_at=day(18, 12),
    old_secret_expires_at=day(19, 12),
    etag="k1",
)


def without(message: Any, *fields: str) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    for field in fields:
        copy.ClearField(field)
    return copy


# The call; its request; the answer and what becomes of it.
CALLS: dict[str, tuple[Callable[[AsyncAdmin], Awaitable[object]], Message, Message, object]] = {
    "CreateTenant": (
        lambda admin: admin.tenants.create(Tenant("acme", weight=2.5, priority_ceiling="standard")),
        pb.CreateTenantRequest(
            tenant=pb.Tenant(
                id="acme",
                state=pb.TENANT_STATE_ACTIVE,
                weight=2.5,
                priority_ceiling=ipb.PRIORITY_STANDARD,
                quota=pb.Quota(),
            )
        ),
        pb.CreateTenantResponse(tenant=data.ACME),
        ACME,
    ),
    "GetTenant": (
        lambda admin: admin.tenants.get("acme"),
        pb.GetTenantRequest(tenant="acme"),
        pb.GetTenantResponse(tenant=data.ACME),
        ACME,
    ),
    "UpdateTenant": (
        lambda admin: admin.tenants.update(ACME),
        # The times are the server's.
        pb.UpdateTenantRequest(tenant=without(data.ACME, "created_at", "updated_at")),
        pb.UpdateTenantResponse(tenant=data.ACME),
        ACME,
    ),
    "DeleteTenant": (
        lambda admin: admin.tenants.delete("acme", etag="5f3a"),
        pb.DeleteTenantRequest(tenant="acme", etag="5f3a"),
        pb.DeleteTenantResponse(),
        None,
    ),
    "CreateApiKey": (
        lambda admin: admin.keys.create(
            "ci",
            tenant="acme",
            scopes=["infer", Scope.READ],
            expires_at=day(30),
            quota=Quota(Limits(day_budget=Decimal("0.10"))),
        ),
        pb.CreateApiKeyRequest(
            tenant="acme",
            name="ci",
            scopes=[pb.SCOPE_INFER, pb.SCOPE_READ],
            expires_at=data.at(30),
            quota=pb.Quota(limits=pb.Limits(day_budget_nanos=100_000_000)),
        ),
        pb.CreateApiKeyResponse(key=data.CI, secret="bl_secret"),
        IssuedKey(CI, "bl_secret"),
    ),
    "UpdateApiKey": (
        lambda admin: admin.keys.update(CI),
        pb.UpdateApiKeyRequest(
            key=without(data.CI, "state", "created_at", "created_by", "rotated_at", "old_secret_expires_at")
        ),
        pb.UpdateApiKeyResponse(key=data.CI),
        CI,
    ),
    "RotateApiKey": (
        lambda admin: admin.keys.rotate("ci", tenant="acme", overlap=0),
        pb.RotateApiKeyRequest(tenant="acme", name="ci", overlap=Duration()),
        pb.RotateApiKeyResponse(key=data.CI, secret="bl_new"),
        IssuedKey(CI, "bl_new"),
    ),
    "RevokeApiKey": (
        lambda admin: admin.keys.revoke("ci", tenant="acme"),
        pb.RevokeApiKeyRequest(tenant="acme", name="ci"),
        pb.RevokeApiKeyResponse(key=data.CI),
        CI,
    ),
    "GetQuotaState": (
        lambda admin: admin.quota("acme", key="ci"),
        pb.GetQuotaStateRequest(tenant="acme", key="ci"),
        pb.GetQuotaStateResponse(states=data.STATES.states[:1]),
        [
            QuotaState(
                model="",
                limits=Limits(
                    requests_per_minute=600,
                    tokens_per_minute=200_000,
                    concurrent_requests=20,
                    queued_requests=256,
                    day_budget=Decimal(5),
                ),
                requests_used=12.4,
                tokens_used=15_320.7,
                concurrent_requests=3,
                queued_requests=1,
                reserved_tokens=2_304,
                reserved_cost=Decimal("0.0125"),
                day_spent=Decimal("3.1"),
                month_spent=Decimal("41.230000001"),
            )
        ],
    ),
    "GetUsage": (
        lambda admin: admin.usage(
            "acme", start=day(1), end=day(8), interval="day", group_by=["time", "model", "precision"]
        ),
        pb.GetUsageRequest(
            tenant="acme",
            start_time=data.at(1),
            end_time=data.at(8),
            interval=pb.USAGE_INTERVAL_DAY,
            group_by=[pb.USAGE_DIMENSION_TIME, pb.USAGE_DIMENSION_MODEL, pb.USAGE_DIMENSION_PRECISION],
        ),
        pb.GetUsageResponse(rows=data.USAGE.rows[2:], currency="EUR"),
        [
            UsageRow(
                start_time=day(2),
                model="smollm2",
                precision=Precision.BF16,
                requests=412,
                failed_requests=0,
                prompt_tokens=181_204,
                cached_prompt_tokens=20_100,
                output_tokens=73_911,
                cost=Decimal("0.031"),
                fp8_cost=Decimal("0.018300007"),
                currency="EUR",
            )
        ],
    ),
    "ListPools": (
        lambda admin: admin.pools(),
        pb.ListPoolsRequest(),
        data.POOLS,
        [
            PoolStatus("smollm2/fp4", "smollm2", Precision.FP4, 2, 32, 14, 32, 18_230, 1_412.7),
            PoolStatus("smollm2/fp8", "smollm2", Precision.FP8, 1, 16, 0, 0, 0, None),
        ],
    ),
    "SetWorkerState": (
        lambda admin: admin.workers.drain("smollm2/fp4", "w1"),
        pb.SetWorkerStateRequest(pool="smollm2/fp4", worker="w1", state=pb.WORKER_STATE_DRAINING),
        pb.SetWorkerStateResponse(),
        None,
    ),
    "ReplayDeadLetter": (
        lambda admin: admin.dead_letters.replay("r1", tenant="acme"),
        pb.ReplayDeadLetterRequest(tenant="acme", request_id="r1"),
        pb.ReplayDeadLetterResponse(),
        None,
    ),
    "PurgeDeadLetter": (
        lambda admin: admin.dead_letters.purge("r1", tenant="acme"),
        pb.PurgeDeadLetterRequest(tenant="acme", request_id="r1"),
        pb.PurgeDeadLetterResponse(),
        None,
    ),
}

LETTER = DeadLetter(
    "acme", data.LETTER.request_id, "smollm2/fp4", 3, data.LETTER.detail, "node-a-2", died_at=day(20, 3, 4)
)
EVENT = AuditEvent(
    day(17), "operator/local", "SetWorkerState", "worker/smollm2/fp4/node-a-2", "", before="serve", after="drain"
)
# The call; its request; an answer and what becomes of it.
LISTS: dict[str, tuple[Callable[[AsyncAdmin], Any], Any, Any, list[object]]] = {
    "ListTenants": (
        lambda admin: admin.tenants.list(),
        pb.ListTenantsRequest(),
        pb.ListTenantsResponse(tenants=[data.ACME]),
        [ACME],
    ),
    "ListApiKeys": (
        lambda admin: admin.keys.list(tenant="acme"),
        pb.ListApiKeysRequest(tenant="acme"),
        pb.ListApiKeysResponse(keys=[data.CI]),
        [CI],
    ),
    "ListDeadLetters": (
        lambda admin: admin.dead_letters.list(tenant="acme"),
        pb.ListDeadLettersRequest(tenant="acme"),
        pb.ListDeadLettersResponse(letters=[data.LETTER]),
        [LETTER],
    ),
    "ListAuditEvents": (
        lambda admin: admin.audit(tenant="acme"),
        pb.ListAuditEventsRequest(tenant="acme"),
        pb.ListAuditEventsResponse(events=data.EVENTS[2:]),
        [EVENT],
    ),
}
