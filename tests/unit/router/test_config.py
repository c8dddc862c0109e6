"""The configuration: tenants to start with, prices, limits, and what is said about a bad file."""

from pathlib import Path

import pytest

from broker.types import Limits, Price
from precision.profile import Precision
from router.config import Config, ConfigError, load_config
from router.directory.quota import UNBOUNDED
from router.scopes import Scope

BASE = """
models: [{{name: m, context_tokens: 1024, pools: [{{precision: FP4{pool}}}, {{precision: FP8}}]}}]
tenants:
  - id: acme
    keys: [{{name: k, sha256: "{key}"{scopes}}}]
    {tenant}
operators: [{{name: op, sha256: "{operator}"}}]
{more}
"""
KEY, OPERATOR = "a" * 64, "b" * 64


def load(
    folder: Path, tenant: str = "", scopes: str = "", operator: str = OPERATOR, pool: str = "", more: str = ""
) -> Config:
    path = folder / "config.yaml"
    path.write_text(BASE.format(key=KEY, operator=operator, scopes=scopes, tenant=tenant, pool=pool, more=more))
    return load_config(path)


def test_an_inline_policy_is_the_tenants_first(tmp_path: Path) -> None:
    (tenant,) = load(tmp_path, "policy: {map: {chat: FP8}}").tenants
    assert "chat: FP8" in tenant.policy_text


def test_a_policy_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "a.yaml").write_text("# why\nspill: false\n")
    (tenant,) = load(tmp_path, "policy_file: policies/a.yaml").tenants
    assert tenant.policy_text == "# why\nspill: false\n"


def test_no_policy_is_no_document(tmp_path: Path) -> None:
    assert load(tmp_path).tenants[0].policy_text == ""


@pytest.mark.parametrize(
    ("tenant", "said"),
    [
        (
            "policy: {map: {chat: FP6}, spil: true}",
            "policy: spil: is not known; did you mean 'spill'?; policy: map.chat: is",
        ),
        ("policy_file: nowhere.yaml", "nowhere.yaml cannot be read"),
        ("policy: {}\n    policy_file: a.yaml", "exclude each other"),
        ("policy: [1]", "tenants.0.policy"),
        ("max_waiting: 3", "tenants.0.max_waiting: Extra inputs are not permitted"),
        ("models: [n]", "tenants.acme.models: unknown: n"),
        ("quota: {model_limits: {n: {}}}", "tenants.acme.quota.model_limits: unknown: n"),
        ("quota: {limits: {requests_per_minute: -2}}", "tenants.0.quota.limits.requests_per_minute"),
        ("quota: {limits: {day_budget: -0.5}}", "tenants.0.quota.limits.day_budget"),
        ("quota: {limits: {day_budget: .nan}}", "tenants.0.quota.limits.day_budget"),
        ("quota: {limits: {day_budget: 1e12}}", "tenants.0.quota.limits.day_budget"),
        ("weight: .inf", "tenants.0.weight"),
        (
            "priority_ceiling: urgent",
            "tenants.0.priority_ceiling: Value error, use one of interactive, standard, batch",
        ),
    ],
)
def test_a_bad_tenant_stops_the_start_and_names_the_place(tmp_path: Path, tenant: str, said: str) -> None:
    with pytest.raises(ConfigError) as bad:
        load(tmp_path, tenant)
    assert said in str(bad.value)


@pytest.mark.parametrize(
    ("scopes", "operator", "said"),
    [
        (", scopes: [operate]", OPERATOR, "list the key under operators"),
        (", scopes: [root]", OPERATOR, "tenants.0.keys.0.scopes.0"),
        (", expires: 2031-01-01", OPERATOR, "tenants.0.keys.0.expires"),
        ("", KEY, f"keys: {KEY} is there twice"),
    ],
)
def test_bad_keys_are_refused(tmp_path: Path, scopes: str, operator: str, said: str) -> None:
    with pytest.raises(ConfigError) as bad:
        load(tmp_path, scopes=scopes, operator=operator)
    assert said in str(bad.value)


def test_limits_of_tenants_and_keys(tmp_path: Path) -> None:
    tenant_quota = "quota: {limits: {day_budget: 2.5, month_budget: -1}, model_limits: {m: {queued_requests: 0}}}"
    key_quota = ", scopes: [admin], expires: 2031-01-01T00:00:00Z, quota: {limits: {tokens_per_minute: 7}}"
    (tenant,) = load(tmp_path, tenant_quota, key_quota).tenants
    quota = tenant.quota.quota
    assert (quota.limits.day_budget_nanos, quota.limits.month_budget_nanos) == (2_500_000_000, UNBOUNDED)
    assert quota.limits.applied(Limits(month_budget=5, queued_requests=9)) == Limits(
        day_budget=2_500_000_000, queued_requests=9
    )
    assert quota.model_limits["m"].queued_requests == 0
    (key,) = tenant.keys
    assert (key.scopes, key.quota.quota.limits.tokens_per_minute) == ({Scope.ADMIN}, 7)
    assert key.expires is not None
    assert key.expires.timestamp() == 1_924_992_000


def test_defaults_apply_to_what_a_tenant_leaves_out(tmp_path: Path) -> None:
    assert load(tmp_path).default_limits == Limits(queued_requests=256)
    limits = load(tmp_path, more="defaults: {limits: {requests_per_minute: 60, queued_requests: -1}}").default_limits
    assert limits == Limits(requests_per_minute=60)


def test_prices_are_whole_nanos_a_token(tmp_path: Path) -> None:
    model = load(tmp_path, pool=", price: {prompt: 0.15, output: 0.605}, max_waiting: 7").models[0]
    assert model.prices[Precision.FP4] == Price(prompt=150, cached_prompt=150, output=605)
    assert model.prices[Precision.FP8] == Price()
    assert [pool.max_waiting for pool in model.pools] == [7, 10_000]
    discounted = load(tmp_path, pool=", price: {prompt: 1, cached_prompt: 0.1}").models[0]
    assert discounted.prices[Precision.FP4] == Price(prompt=1000, cached_prompt=100)
    for bad in ("prompt: 0.0001", "output: -1", "prompt: .inf", "prompt: 1e9"):
        with pytest.raises(ConfigError, match=r"models.0.pools.0.price"):
            load(tmp_path, pool=f", price: {{{bad}}}")


def test_a_service_may_start_without_tenants(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("models: [{name: m, context_tokens: 16, pools: [{precision: FP8}]}]\n")
    assert load_config(path).tenants == ()
