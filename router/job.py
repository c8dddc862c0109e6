"""From a valid request to the job that a worker gets, with every default filled in."""

import hashlib
import random

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from precision.decision import Features
from router.config import ModelConfig
from router.directory.tenants import Tenant

DEFAULT_MAX_TOKENS = 256


def digest_of(request: pb.GenerateRequest) -> str:
    """Of everything but the id: what must be equal for two requests with one id to be the same."""
    body = pb.GenerateRequest()
    body.CopyFrom(request)
    body.ClearField("request_id")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).hexdigest()


def output_tokens(request: pb.GenerateRequest, model: ModelConfig, prompt_tokens: int) -> int:
    """The most that a request may generate: what it says, or else a default that stays in the context."""
    if request.sampling.HasField("max_tokens"):
        return request.sampling.max_tokens
    return max(1, min(DEFAULT_MAX_TOKENS, model.context_tokens - prompt_tokens))


def make_job(
    request: pb.GenerateRequest,
    request_id: str,
    tenant: Tenant,
    model: ModelConfig,
    features: Features,
    trace: tuple[str, str],
) -> job_pb2.Job:
    """The validated request with every default filled in."""
    job = job_pb2.Job(
        request_id=request_id,
        tenant=tenant.id,
        model=model.name,
        prompt=request.prompt,
        messages=request.messages,
        sampling=request.sampling,
        priority=pb.Priority.ValueType(features.priority),
        conversation_id=request.conversation_id,
        traceparent=trace[0],
        tracestate=trace[1],
    )
    if request.HasField("guided"):
        job.guided.CopyFrom(request.guided)
    sampling = job.sampling
    sampling.max_tokens = output_tokens(request, model, features.prompt_tokens)
    if not sampling.HasField("temperature"):
        sampling.temperature = model.default_temperature
    if not sampling.HasField("top_p"):
        sampling.top_p = 1.0
    if not sampling.HasField("top_k"):
        sampling.top_k = 0
    if not sampling.HasField("seed"):
        sampling.seed = random.getrandbits(64)
    return job
