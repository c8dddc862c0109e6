"""`make chart-test`: the files of the stack in containers, read by the programs that they are for, without a daemon."""
# pyright: basic

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.compose.init import broker_users, prepare
from tests.containers.images import ROOT

_BIN = Path(sys.executable).parent
_COMPOSE = _BIN / "docker-compose"
_ENV_FILES = {"cpu": ".env", "gpu": "deploy/compose/gpu.env"}


@pytest.fixture(params=_ENV_FILES)
def profile(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def services(profile: str) -> dict[str, Any]:
    """The services of a profile, as Docker Compose understands them."""
    if not _COMPOSE.is_file():
        pytest.skip("`make chart-test` runs this, in an environment of its own")
    command = [_COMPOSE, "--env-file", _ENV_FILES[profile], "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return yaml.safe_load(done.stdout)["services"]


def test_a_profile_brings_its_workers(services: dict[str, Any], profile: str) -> None:
    workers = {name: each["environment"]["BITLANE_WORKER_POOL"] for name, each in services.items() if "worker-" in name}
    precisions = sorted(pool.rpartition("/")[2] for pool in workers.values())
    assert precisions == ["fp4", "fp8"]
    models = yaml.safe_load((ROOT / "deploy" / "compose" / f"models.{profile}.yaml").read_text(encoding="utf-8"))
    (model,) = models["models"]
    assert {pool.rpartition("/")[0] for pool in workers.values()} == {model["name"]}
    for name in workers:
        devices = services[name].get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        assert len(devices) == (profile == "gpu")


@pytest.mark.parametrize("profile", ["gpu"])
@pytest.mark.parametrize("engine", ["sglang", "vllm", "tensorrt_llm"])
def test_engines_files_and_environments_fit(
    services: dict[str, Any], engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Together they make options that the engine takes, with the context that the router checks against."""
    (model,) = yaml.safe_load((ROOT / "deploy" / "compose" / "models.gpu.yaml").read_text(encoding="utf-8"))["models"]
    password = tmp_path / "password"
    password.write_text("x", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["workers", "--engine", engine])
    for name in ("worker-fp4-gpu", "worker-fp8-gpu"):
        environment = services[name]["environment"]
        path = environment["BITLANE_WORKER_CONFIG"].replace("config/", f"config/engines/{engine}-")
        given = {"BITLANE_WORKER_CONFIG": str(ROOT / path), "BITLANE_WORKER_BROKER_PASSWORD_FILE": str(password)}
        for variable, value in {**environment, **given}.items():
            monkeypatch.setenv(variable, value)
        made = importlib.import_module("workers.settings").WorkerSettings.from_command_line()
        options = importlib.import_module("workers.engines.options").driver_options(made.engine_options)
        assert (made.engine, made.pool) == (engine, environment["BITLANE_WORKER_POOL"])
        assert made.broker_options().url == "redis://worker@redis:6379/0"
        assert options.driver.model.startswith("/models/")
        assert options.driver.context_tokens == model["context_tokens"]
        assert options.driver.engine_args


def test_every_service_is_locked(services: dict[str, Any]) -> None:
    for name, each in services.items():
        assert each["read_only"], name
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
        assert not each.get("privileged")
        once = name in ("init", "setup")
        assert each.get("restart") == (None if once else "unless-stopped"), name
        assert once or "mem_limit" in each or name.endswith("-gpu"), f"{name}: may use all memory"
        for port in each.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1"


def test_environments_hold_settings_that_exist_and_no_secret(services: dict[str, Any]) -> None:
    router = importlib.import_module("router.settings").RouterSettings.model_fields
    worker = importlib.import_module("workers.settings").WorkerSettings.model_fields
    for name, each in services.items():
        for variable, value in (each.get("environment") or {}).items():
            for prefix, fields in (("BITLANE_ROUTER_", router), ("BITLANE_WORKER_", worker)):
                if variable.startswith(prefix):
                    assert variable.removeprefix(prefix).lower() in fields, variable
            assert variable.endswith("FILE") or "PASSWORD" not in variable, f"{name}: {variable}"
            assert not re.search(r"bl_[\w-]{20}|://\w+:[^@]+@", str(value))


def test_files_that_are_mounted_exist(services: dict[str, Any]) -> None:
    for each in services.values():
        for mount in each.get("volumes", ()):
            if mount["type"] == "bind" and mount["target"] != "/models":
                assert Path(mount["source"]).exists(), mount


def test_envoy_reads_its_configuration() -> None:
    envoy = pytest.importorskip("envoy", reason="`make chart-test` runs this, in an environment of its own")
    binary = Path(envoy.__file__).parent / "_bin" / "envoy"
    command = [binary, "--mode", "validate", "--log-level", "warning", "-c", "deploy/compose/envoy.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Deprecated" not in done.stderr


def test_grafana_finds_its_data() -> None:
    """Dashboards name data sources by kind or id; the provisioned ones have the ids that others refer to."""
    folder = ROOT / "deploy" / "compose" / "grafana"
    sources = yaml.safe_load((folder / "datasources" / "bitlane.yaml").read_text(encoding="utf-8"))["datasources"]
    ids = {source["uid"] for source in sources}
    for source in sources:
        for link in source.get("jsonData", {}).get("exemplarTraceIdDestinations", ()):
            assert link["datasourceUid"] in ids


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("redis", "data", "router", "worker", "setup", "grafana"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_secrets_are_made_once(folders: Path) -> None:
    """Whatever the run before had got to: secrets stay, what follows from them follows."""
    users = (ROOT / "deploy" / "redis" / "users.acl.example").read_text(encoding="utf-8")
    models = (ROOT / "deploy" / "compose" / "models.cpu.yaml").read_text(encoding="utf-8")
    prepare(folders, models, users)
    files = [path for path in folders.rglob("*") if path.is_file()]
    before = {path: path.read_text(encoding="utf-8") for path in files}
    derived = {folders / "redis" / "users.acl", folders / "router" / "config.yaml"}
    assert derived < before.keys()
    for path in derived:
        path.unlink()
    prepare(folders, models, users)
    assert {path: path.read_text(encoding="utf-8") for path in files} == before
    secrets = [text for path, text in before.items() if path not in derived]
    assert len(set(secrets)) == len(secrets) == 6
    assert not any(secret in before[path] for path in derived for secret in secrets)
    assert {path.stat().st_mode & 0o777 for path in files if "grafana" not in path.parts} == {0o400}


def test_the_brokers_users_are_the_documented_ones() -> None:
    users = [
        "user default off -@all",
        "user router on ~bl:* +ping",
        "user worker on +ping",
        "user operator on +info",
        "",
    ]
    made = list(broker_users(users, {"router": "a", "worker": "b"}))
    assert [line.split()[1] for line in made] == ["router", "worker", "default", "health"]
    assert re.fullmatch(r"user router #[0-9a-f]{64} on ~bl:\* \+ping", made[0])
    # Off, and yet allowed all: its rights are those that an append-only file is replayed with.
    assert made[2].split()[2:] == ["off", "resetpass", "~*", "&*", "+@all"]
