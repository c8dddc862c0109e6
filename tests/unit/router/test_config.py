"""The configuration: what seeds a tenant's policy, who may call for what, and what is said about a bad file."""

from pathlib import Path

import pytest

from precision.profile import Precision
from precision.tasks import Task
from router.config import Config, ConfigError, Scope, load_config
from router.identity import callers_of

BASE = """
models: [{{name: m, context_tokens: 1024, pools: [{{precision: FP4}}]}}]
tenants:
  - id: acme
    keys: [{{name: k, sha256: "{key}"{scopes}}}]
    {policy}
operators: [{{name: op, sha256: "{operator}"}}]
"""
KEY, OPERATOR = "a" * 64, "b" * 64


def load(folder: Path, policy: str = "", scopes: str = "", operator: str = OPERATOR) -> Config:
    path = folder / "config.yaml"
    path.write_text(BASE.format(key=KEY, operator=operator, scopes=scopes, policy=policy))
    return load_config(path)


def test_an_inline_policy_seeds_the_tenant(tmp_path: Path) -> None:
    (tenant,) = load(tmp_path, "policy: {map: {chat: FP8}}").tenants
    assert tenant.seed.policy.default_map == {Task.CHAT: Precision.FP8}
    assert tenant.seed.policy.version == "acme-file"
    assert "chat: FP8" in tenant.seed.text


def test_a_policy_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "a.yaml").write_text("# why\nspill: false\n")
    (tenant,) = load(tmp_path, "policy_file: policies/a.yaml").tenants
    assert (tenant.seed.policy.spill, tenant.seed.text) == (None, "# why\nspill: false\n")


def test_without_a_policy_the_products_default_applies(tmp_path: Path) -> None:
    assert load(tmp_path).tenants[0].seed.policy.rules == ()


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            "policy: {map: {chat: FP6}, spil: true}",
            "policy: spil: is not known; did you mean 'spill'?; policy: map.chat: is",
        ),
        ("policy_file: nowhere.yaml", "nowhere.yaml cannot be read"),
        ("policy: {}\n    policy_file: a.yaml", "exclude each other"),
        ("policy: [1]", "tenants.0.policy"),
    ],
)
def test_a_bad_seed_stops_the_start_and_names_the_place(tmp_path: Path, policy: str, said: str) -> None:
    with pytest.raises(ConfigError) as bad:
        load(tmp_path, policy)
    assert said in str(bad.value)


def test_keys_have_scopes(tmp_path: Path) -> None:
    callers = callers_of(load(tmp_path))
    assert callers[KEY].scopes == {Scope.INFER, Scope.READ}
    assert callers[KEY].name == "acme/k"
    assert callers[OPERATOR].scopes == {Scope.READ, Scope.ADMIN, Scope.OPERATE}
    assert callers[OPERATOR].name == "operator/op"
    assert callers_of(load(tmp_path, scopes=", scopes: [admin]"))[KEY].scopes == {Scope.ADMIN}


@pytest.mark.parametrize(
    ("scopes", "operator", "said"),
    [
        (", scopes: [operate]", OPERATOR, "list the key under operators"),
        (", scopes: [root]", OPERATOR, "tenants.0.keys.0.scopes.0"),
        ("", KEY, f"keys: {KEY} is there twice"),
    ],
)
def test_bad_scopes_and_shared_keys_are_refused(tmp_path: Path, scopes: str, operator: str, said: str) -> None:
    with pytest.raises(ConfigError) as bad:
        load(tmp_path, scopes=scopes, operator=operator)
    assert said in str(bad.value)
