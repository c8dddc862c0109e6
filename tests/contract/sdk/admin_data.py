"""What a service of some size would answer."""

import json
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from bitlane.v1 import admin_pb2 as pb
from bitlane.v1 import inference_pb2 as ipb


def at(day: int, hour: int = 0, minute: int = 0) -> Timestamp:
    """In November 2026, UTC."""
    stamp = Timestamp()
    stamp.FromDatetime(datetime(2026, 11, day, hour, minute, tzinfo=UTC))
    return stamp


NANOS = 10**9

ACME = pb.Tenant(
    id="acme",
    display_name="Acme Ltd",
    state=pb.TENANT_STATE_ACTIVE,
    weight=2.5,
    models=["smollm2", "llama-3.1-8b"],
    priority_ceiling=ipb.PRIORITY_STANDARD,
    quota=pb.Quota(
        limits=pb.Limits(
            requests_per_minute=600,
            tokens_per_minute=-1,
            concurrent_requests=20,
            day_budget_nanos=5 * NANOS,
            month_budget_nanos=100 * NANOS + 1,
        ),
        model_limits={"smollm2": pb.Limits(tokens_per_minute=5000, requests_per_minute=60)},
    ),
    etag="5f3a",
    created_at=at(1, 9, 30),
    updated_at=at(20, 17),
)
GLOBEX = pb.Tenant(
    id="globex",
    display_name="株式会社グローベックス",
    state=pb.TENANT_STATE_SUSPENDED,
    weight=1,
    priority_ceiling=ipb.PRIORITY_INTERACTIVE,
    etag="77b0",
    created_at=at(2),
    updated_at=at(2),
)
CI = pb.ApiKey(
    tenant="acme",
    name="ci",
    scopes=[pb.SCOPE_INFER],
    state=pb.API_KEY_STATE_ACTIVE,
    expires_at=at(30),
    quota=pb.Quota(limits=pb.Limits(requests_per_minute=60)),
    created_at=at(3, 8),
    created_by="operator/local",
    rotated_at=at(18, 12),
    old_secret_expires_at=at(19, 12),
    etag="k1",
)
WEB = pb.ApiKey(
    tenant="acme",
    name="web-frontend",
    scopes=[pb.SCOPE_INFER, pb.SCOPE_READ, pb.SCOPE_ADMIN],
    state=pb.API_KEY_STATE_REVOKED,
    created_at=at(3, 8),
    created_by="config",
    etag="k2",
)
STATES = pb.GetQuotaStateResponse(
    states=[
        pb.QuotaState(
            limits=pb.Limits(
                requests_per_minute=600,
                tokens_per_minute=200_000,
                concurrent_requests=20,
                queued_requests=256,
                day_budget_nanos=5 * NANOS,
            ),
            requests_used=12.4,
            tokens_used=15_320.7,
            concurrent_requests=3,
            queued_requests=1,
            reserved_tokens=2_304,
            reserved_nanos=12_500_000,
            day_spent_nanos=3_100_000_000,
            month_spent_nanos=41_230_000_001,
        ),
        pb.QuotaState(
            model="smollm2",
            limits=pb.Limits(tokens_per_minute=5_000),
            requests_used=0,
            tokens_used=4_750.2,
            concurrent_requests=1,
        ),
    ]
)


def _usage(day: int, model: str, precision: ipb.Precision.ValueType, scale: int, cost: int, fp8: int) -> pb.UsageRow:
    return pb.UsageRow(
        start_time=at(day),
        tenant="acme",
        model=model,
        precision=precision,
        requests=412 * scale,
        failed_requests=scale // 7,
        prompt_tokens=181_204 * scale,
        cached_prompt_tokens=20_100 * scale,
        output_tokens=73_911 * scale,
        cost_nanos=cost * scale,
        fp8_cost_nanos=fp8 * scale,
    )


USAGE = pb.GetUsageResponse(
    rows=[
        _usage(1, "llama-3.1-8b", ipb.PRECISION_FP8, 9, 40_123_456, 40_123_456),
        _usage(1, "smollm2", ipb.PRECISION_FP4, 31, 10_500_001, 18_300_007),
        _usage(2, "smollm2", ipb.PRECISION_BF16, 1, 31_000_000, 18_300_007),
    ],
    currency="USD",
)
POOLS = pb.ListPoolsResponse(
    pools=[
        pb.PoolStatus(
            name="smollm2/fp4",
            model="smollm2",
            precision=ipb.PRECISION_FP4,
            workers=2,
            slots=32,
            waiting=14,
            running=32,
            waiting_tokens=18_230,
            tokens_per_second=1_412.7,
        ),
        pb.PoolStatus(name="smollm2/fp8", model="smollm2", precision=ipb.PRECISION_FP8, workers=1, slots=16),
    ]
)
_PROFILE = ipb.Profile(
    precision=ipb.PRECISION_FP4, weight_format="NVFP4", engine="vllm", engine_version="0.9", gpu="NVIDIA B200"
)
WORKERS = pb.ListWorkersResponse(
    workers=[
        pb.WorkerStatus(
            name="node-a-1",
            pool="smollm2/fp4",
            state=pb.WORKER_STATE_SERVING,
            wanted_state=pb.WORKER_STATE_SERVING,
            slots=16,
            running=16,
            context_tokens=8192,
            profile=_PROFILE,
        ),
        pb.WorkerStatus(
            name="node-a-2",
            pool="smollm2/fp4",
            state=pb.WORKER_STATE_SERVING,
            wanted_state=pb.WORKER_STATE_DRAINING,
            slots=16,
            running=3,
            context_tokens=8192,
        ),
    ]
)
LETTER = pb.DeadLetter(
    tenant="acme",
    request_id="0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    pool="smollm2/fp4",
    attempts=3,
    detail="engine failed:\nCUDA error 700 while reading kv block 17 of 4096, which the scheduler had freed before",
    worker="node-a-2",
    died_at=at(20, 3, 4),
)
EVENTS = [
    pb.AuditEvent(
        time=at(20, 17),
        actor="operator/local",
        action="UpdateTenant",
        resource="tenant/acme",
        tenant="acme",
        before=json.dumps({"weight": 1.0, "quota": {"limits": {"requests_per_minute": 600}}, "state": "active"}),
        after=json.dumps({"weight": 2.5, "quota": {"limits": {"requests_per_minute": 60}}, "state": "active"}),
    ),
    pb.AuditEvent(
        time=at(18, 12),
        actor="acme/admin",
        action="CreateApiKey",
        resource="key/acme/ci",
        tenant="acme",
        after=json.dumps({"scopes": ["infer"], "created": "2026-11-03T08:00:00Z"}),
    ),
    pb.AuditEvent(
        time=at(17),
        actor="operator/local",
        action="SetWorkerState",
        resource="worker/smollm2/fp4/node-a-2",
        before="serve",
        after="drain",
    ),
]
