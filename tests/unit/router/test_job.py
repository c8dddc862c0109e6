"""The job that a worker gets: every default filled in, nothing that the client set changed."""

import pytest

from bitlane.v1 import inference_pb2 as pb
from precision.decision import Features, TaskSource
from precision.tasks import Task
from router.config import ModelConfig, PoolConfig
from router.directory.tenants import Tenant
from router.job import digest_of, make_job

MODEL = ModelConfig(name="m", context_tokens=300, default_temperature=0.25, pools=(PoolConfig(precision="FP8"),))
TENANT = Tenant(id="acme", uid="1", created_ms=0)


def job_of(request: pb.GenerateRequest, prompt_tokens: int = 10) -> pb.SamplingParams:
    features = Features(Task.CHAT, TaskSource.HINT, 1.0, prompt_tokens)
    return make_job(request, "r1", TENANT, MODEL, features, ("", "")).sampling


def test_defaults_are_filled_in() -> None:
    sampling = job_of(pb.GenerateRequest(model="m", prompt="x"))
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (256, 0.25, 1.0, 0)
    for field in ("max_tokens", "temperature", "top_p", "top_k", "seed"):
        assert sampling.HasField(field), field
    assert not sampling.HasField("logprobs")


@pytest.mark.parametrize(("prompt_tokens", "max_tokens"), [(10, 256), (100, 200), (299, 1), (5000, 1)])
def test_the_default_length_stays_in_the_context(prompt_tokens: int, max_tokens: int) -> None:
    assert job_of(pb.GenerateRequest(model="m", prompt="x"), prompt_tokens).max_tokens == max_tokens


def test_what_the_client_set_is_kept_zeros_too() -> None:
    wanted = pb.SamplingParams(max_tokens=7, temperature=0, top_p=0.5, top_k=3, seed=0, stop=["x"], logprobs=0)
    assert job_of(pb.GenerateRequest(model="m", prompt="x", sampling=wanted)) == wanted


def test_each_request_gets_a_seed_of_its_own() -> None:
    seeds = {job_of(pb.GenerateRequest(model="m", prompt="x")).seed for _ in range(20)}
    assert len(seeds) == 20


def test_the_digest_is_of_everything_but_the_id() -> None:
    one = pb.GenerateRequest(model="m", prompt="x", request_id="a", labels={"b": "1", "a": "2"})
    same = pb.GenerateRequest(model="m", prompt="x", request_id="b", labels={"a": "2", "b": "1"})
    other = pb.GenerateRequest(model="m", prompt="x", request_id="a", labels={"a": "2"})
    assert digest_of(one) == digest_of(same) != digest_of(other)
