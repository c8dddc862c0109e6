"""Tenants of a test's own, as seeds of a configuration, and what the admin API says of them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1.admin_pb2_grpc import AdminServiceStub
from tests.process.scripted import OPERATOR

if TYPE_CHECKING:
    # Exists in the stub file only.
    from bitlane.v1.admin_pb2_grpc import AdminServiceAsyncStub

OPERATOR_METADATA = (("authorization", f"Bearer {OPERATOR}"),)


def key_of(tenant: str) -> str:
    """The API key of a seeded tenant."""
    return f"bl_test_{tenant}"


def seeded(folder: Path, tenants: Mapping[str, Mapping[str, Any]], **settings: object) -> Path:
    """The local configuration with more tenants, each with one key and what its mapping says, and other settings."""
    config: dict[str, Any] = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
    config["tenants"] = [
        {
            "id": name,
            "keys": [{"name": "test", "sha256": hashlib.sha256(key_of(name).encode()).hexdigest()}],
            # The scripted engine has nothing to calibrate.
            "policy": {"allow_uncalibrated_fp4": True},
            **said,
        }
        for name, said in tenants.items()
    ]
    path = folder / "seeded.yaml"
    path.write_text(yaml.safe_dump({**config, **settings}), encoding="utf-8")
    return path


class Operator:
    """The admin API as an operator calls it."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub = cast("AdminServiceAsyncStub", AdminServiceStub(channel))

    async def quota(self, tenant: str) -> apb.QuotaState:
        """Of all of the tenant's keys and models together."""
        request = apb.GetQuotaStateRequest(tenant=tenant)
        response = await self._stub.GetQuotaState(request, metadata=OPERATOR_METADATA)
        return response.states[0]

    async def usage(
        self, tenant: str, since_s: float, by: Sequence[apb.UsageDimension.ValueType] = ()
    ) -> list[apb.UsageRow]:
        """From a time on, by the minute's buckets."""
        request = apb.GetUsageRequest(
            tenant=tenant, start_time=Timestamp(seconds=int(since_s)), interval=apb.USAGE_INTERVAL_MINUTE, group_by=by
        )
        response = await self._stub.GetUsage(request, metadata=OPERATOR_METADATA)
        return list(response.rows)
