"""A dry run: recorded requests decided under two policies, with the gates as they are and pools that are idle."""

import asyncio
from collections.abc import Mapping, Sequence

from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from classifier import Classifier
from precision.policy import Policy, decide
from router.config import ModelConfig
from router.directory.tenants import Tenant
from router.features import estimate_prompt_tokens, extract_features
from router.policy_convert import outcome_message
from router.rulebook import Rulebook


async def replay(
    rows: Sequence[ppb.ReplayRow],
    old: Policy,
    new: Policy,
    tenant: Tenant,
    models: Mapping[str, ModelConfig],
    rulebook: Rulebook,
    classify: Classifier,
) -> list[ppb.ReplayResult]:
    """One result for each row. The rows were checked; between them the loop gets its turn."""
    results: list[ppb.ReplayResult] = []
    for row in rows:
        model = models[row.model]
        request = request_of(row)
        tokens = row.prompt_tokens if row.HasField("prompt_tokens") else estimate_prompt_tokens(request)
        features = extract_features(request, classify, tenant.priority_ceiling, tokens)
        gates, pools = rulebook.gate_states(model), rulebook.pools.idle_views(model)
        results.append(
            ppb.ReplayResult(
                task=pb.Task.ValueType(features.task),
                before=outcome_message(decide(features, old, gates, pools)),
                after=outcome_message(decide(features, new, gates, pools)),
            )
        )
        await asyncio.sleep(0)
    return results


def request_of(row: ppb.ReplayRow) -> pb.GenerateRequest:
    """The request that a row records."""
    return pb.GenerateRequest(
        model=row.model,
        prompt=row.text,
        messages=row.messages,
        task=row.task,
        labels=row.labels,
        priority=row.priority,
        precision=row.precision if row.HasField("precision") else None,
    )
