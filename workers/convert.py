"""Protobuf at the edge: the one place where a worker turns jobs, chunks and profiles from and into messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from broker.types import Claim
from precision.decision import PriorityClass
from precision.profile import ComputePath, Profile
from telemetry.attempts import Claimed
from telemetry.attributes import ResourceAttributes
from telemetry.context import TraceContext
from workers.engine import Generated, Job, Message, Sampling, TokenLogprobs

_ROLES = {pb.ROLE_SYSTEM: "system", pb.ROLE_USER: "user", pb.ROLE_ASSISTANT: "assistant"}
_COMPUTE_PATHS = {
    ComputePath.NATIVE: pb.COMPUTE_PATH_NATIVE,
    ComputePath.WEIGHT_ONLY: pb.COMPUTE_PATH_WEIGHT_ONLY,
    ComputePath.EMULATED: pb.COMPUTE_PATH_EMULATED,
}
_PRIORITIES = {
    pb.PRIORITY_INTERACTIVE: PriorityClass.INTERACTIVE,
    pb.PRIORITY_STANDARD: PriorityClass.STANDARD,
    pb.PRIORITY_BATCH: PriorityClass.BATCH,
}


def _priority(message: job_pb2.Job) -> PriorityClass:
    """One that a newer router knows, and this worker does not, is the middle one."""
    return _PRIORITIES.get(message.priority, PriorityClass.STANDARD)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A claimed job as messages: what the router sent, and what earlier attempts logged."""

    job: job_pb2.Job
    logged: tuple[job_pb2.Chunk, ...]


UNREADABLE = Parsed(job_pb2.Job(), ())


def parse(data: bytes, chunks: Sequence[bytes]) -> Parsed:
    """Raises google.protobuf.message.DecodeError: the bytes are no job, or no chunk."""
    return Parsed(job_pb2.Job.FromString(data), tuple(map(job_pb2.Chunk.FromString, chunks)))


def told_of(claim: Claim, parsed: Parsed) -> tuple[TraceContext, Claimed]:
    """What telemetry tells of a claimed request, and the trace it belongs to."""
    message = parsed.job
    claimed = Claimed(
        request_id=claim.lease.ref.request_id,
        tenant=claim.lease.ref.tenant,
        model=message.model,
        operation="chat" if message.messages else "text_completion",
        priority=_priority(message).name.lower(),
        epoch=claim.lease.epoch,
        attempt=claim.attempt,
        waited_s=claim.waited_ms / 1000,
        inherited_tokens=sum(len(chunk.token_ids) + chunk.unnamed_tokens for chunk in parsed.logged),
    )
    return TraceContext(message.traceparent, message.tracestate), claimed


def job_of(job_id: str, parsed: Parsed, trace_headers: Mapping[str, str]) -> Job:
    """A job for the engine. Raises KeyError for a role that a newer router knows and this worker does not."""
    message, logged = parsed.job, parsed.logged
    sampling = message.sampling
    guide = message.guided.WhichOneof("guide")
    return Job(
        id=job_id,
        sampling=Sampling(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=sampling.seed,
            stop=tuple(sampling.stop),
            logprobs=sampling.logprobs if sampling.HasField("logprobs") else None,
        ),
        prompt=None if message.messages else message.prompt,
        messages=tuple(Message(_ROLES[m.role], m.content) for m in message.messages),
        generated=Generated(
            token_ids=tuple(token for chunk in logged for token in chunk.token_ids),
            text="".join(chunk.text for chunk in logged),
            unnamed_tokens=sum(chunk.unnamed_tokens for chunk in logged),
        ),
        guided=None if guide is None else (guide, getattr(message.guided, guide)),
        priority=_priority(message),
        trace_headers=trace_headers,
    )


def chunk_to_bytes(
    text: str, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs], unnamed_tokens: int = 0
) -> bytes:
    """One entry of the token log."""
    chunk = job_pb2.Chunk(text=text, token_ids=token_ids, unnamed_tokens=unnamed_tokens)
    for entry in logprobs:
        chunk.logprobs.add(
            logprob=entry.logprob,
            top=[pb.TopLogprob(token_id=token, logprob=value) for token, value in entry.top],
        )
    return chunk.SerializeToString()


def profile_to_bytes(profile: Profile) -> bytes:
    return pb.Profile(
        precision=pb.Precision.ValueType(profile.precision.value),
        weight_format=profile.weight_format,
        activation_format=profile.activation_format,
        kv_cache_format=profile.kv_cache_format,
        group_size=profile.group_size,
        compute_path=_COMPUTE_PATHS[profile.compute_path],
        checkpoint_digest=profile.checkpoint_digest,
        calibrated=profile.calibrated,
        engine=profile.engine,
        engine_version=profile.engine_version,
        gpu=profile.gpu,
        sm=profile.sm,
    ).SerializeToString()


def profile_attributes(profile: Profile, pool: str) -> ResourceAttributes:
    """What a worker's telemetry says of its engine; unknown parts are empty, and are left out."""
    return {
        "bitlane.pool": pool,
        "bitlane.precision": profile.precision.name,
        "bitlane.profile.weight_format": profile.weight_format,
        "bitlane.profile.activation_format": profile.activation_format,
        "bitlane.profile.kv_cache_format": profile.kv_cache_format,
        "bitlane.profile.compute_path": profile.compute_path.value,
        "bitlane.profile.checkpoint_digest": profile.checkpoint_digest,
        "bitlane.profile.engine": profile.engine,
        "bitlane.profile.engine_version": profile.engine_version,
        "bitlane.gpu.name": profile.gpu,
        "bitlane.gpu.sm": profile.sm,
    }
