"""`make chart-test`: what the chart makes is what Kubernetes and the operators take, and fits together."""
# Manifests are plain JSON, which types say nothing about.
# pyright: basic

import importlib
import re
from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.containers.chart import CHART, Manifest, of_kind, pods, render, selects, values

helm = pytest.importorskip("helm_python", reason="`make chart-test` runs this, in an environment of its own")

EXAMPLES = ("minimal", "production")
KUBERNETES = ("1.31", "1.34", "1.37")
# Custom resources, and the models that are made from their definitions.
CUSTOM = {
    "ScaledObject": ("cloudcoil.models.keda.v1alpha1", "ScaledObject"),
    "ServiceMonitor": ("cloudcoil.models.prometheus_operator.v1", "ServiceMonitor"),
}


@pytest.fixture(params=EXAMPLES)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(values(request.param))


def test_helm_finds_nothing_wrong() -> None:
    messages = helm.lint(str(CHART))["messages"]
    assert [each["error"] for each in messages if each["severity"] > 1] == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(manifests: list[Manifest], version: str) -> None:
    """Strict: a field that the API does not have is an error."""
    validator = importlib.import_module("kubernetes_validate")
    own = [each for each in manifests if each["kind"] not in CUSTOM]
    assert {each["kind"] for each in own} >= {"Deployment", "StatefulSet", "Service", "NetworkPolicy", "ConfigMap"}
    for each in own:
        validator.validate(each, version, strict=True)


def test_operators_know_every_field() -> None:
    found = [each for each in render(values("production")) if each["kind"] in CUSTOM]
    assert {each["kind"] for each in found} == set(CUSTOM)
    for each in found:
        module, name = CUSTOM[each["kind"]]
        model = getattr(importlib.import_module(module), name).model_validate(each)
        # What a model does not know it drops.
        assert _plain(model.model_dump(by_alias=True, exclude_unset=True, mode="json")) == _plain(each)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else str(value)


def test_pods_are_restricted(manifests: list[Manifest]) -> None:
    """The level `restricted` of the Pod Security Standards, and more."""
    for name, pod in pods(manifests).items():
        spec, context = pod["spec"], pod["spec"]["securityContext"]
        assert context["runAsNonRoot"], name
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
        assert not any("hostPath" in volume for volume in spec["volumes"])


def test_everything_is_selected_by_what_is_meant_for_it(manifests: list[Manifest]) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests).items()}
    for name, maker in (of_kind(manifests, "Deployment") | of_kind(manifests, "StatefulSet")).items():
        chosen = [other for other, found in labels.items() if selects(maker["spec"]["selector"]["matchLabels"], found)]
        assert chosen == [name]
    for name, budget in of_kind(manifests, "PodDisruptionBudget").items():
        chosen = [other for other, found in labels.items() if selects(budget["spec"]["selector"]["matchLabels"], found)]
        assert chosen == [name], "one budget for each"
    services = of_kind(manifests, "Service")
    for service in services.values():
        ports = {
            port["name"]
            for name, pod in pods(manifests).items()
            if selects(service["spec"]["selector"], labels[name])
            for port in pod["spec"]["containers"][0]["ports"]
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for name, workers in of_kind(manifests, "StatefulSet").items():
        assert workers["spec"]["serviceName"] in services, name
    guarded = [
        name
        for name, found in labels.items()
        for policy in of_kind(manifests, "NetworkPolicy").values()
        if selects(policy["spec"]["podSelector"]["matchLabels"], found)
    ]
    assert sorted(guarded) == sorted(labels), "one policy for each pod"


def test_volumes_and_mounts_fit(manifests: list[Manifest]) -> None:
    claims = {
        name: {claim["metadata"]["name"] for claim in workers["spec"].get("volumeClaimTemplates", ())}
        for name, workers in of_kind(manifests, "StatefulSet").items()
    }
    for name, pod in pods(manifests).items():
        (container,) = pod["spec"]["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]} | claims.get(name, set())
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        for variable in container["env"]:
            if variable["name"].endswith("_FILE"):
                assert any(variable["value"].startswith(f"{path}/") for path in paths), variable


def test_grace_covers_the_drain(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests).items():
        (container,) = pod["spec"]["containers"]
        (drain,) = [float(each["value"]) for each in container["env"] if each["name"].endswith("_DRAIN_S")]
        hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {"command": ["sleep", "0"]})["command"]
        assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + float(hook[1]) + 5, name


def test_roles_see_their_own_password_only() -> None:
    for name, pod in pods(render(values("production"))).items():
        role = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        (items,) = [
            volume["secret"]["items"] for volume in pod["spec"]["volumes"] if volume["name"] == "broker-password"
        ]
        assert [item["key"] for item in items] == [f"{role}-password"], name
        urls = [each["value"] for each in pod["spec"]["containers"][0]["env"] if each["name"].endswith("_BROKER_URL")]
        assert urls == [f"rediss://{role}@redis-cluster.data.svc:6379/0"]


def test_pools_scale_on_metrics_that_exist() -> None:
    catalogue = importlib.import_module("telemetry.catalogue").CATALOGUE
    naming = importlib.import_module("telemetry.naming")
    known = {name for each in catalogue for name in naming.series_names(each)}
    labels = {naming.label_name(attribute) for each in catalogue for attribute in each.attributes}
    manifests = render(values("production"))
    sets = of_kind(manifests, "StatefulSet")
    scaled = of_kind(manifests, "ScaledObject")
    assert scaled.keys() == sets.keys()
    for name, each in scaled.items():
        assert each["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in sets[name]["spec"], "who scales it sets them"
        assert each["spec"]["minReplicaCount"] >= 1
        pool = next(
            found["value"]
            for found in sets[name]["spec"]["template"]["spec"]["containers"][0]["env"]
            if found["name"] == "BITLANE_WORKER_POOL"
        )
        assert [trigger["name"] for trigger in each["spec"]["triggers"]] == ["queue-depth", "queue-age", "slots"]
        for trigger in each["spec"]["triggers"]:
            query = trigger["metadata"]["query"]
            assert set(re.findall(r"(bitlane_\w+)\{", query)) <= known
            assert set(re.findall(r"(\w+)!?=", query)) <= labels
            assert f'bitlane_pool="{pool}"' in query


def test_every_setting_exists(manifests: list[Manifest]) -> None:
    router = importlib.import_module("router.settings").RouterSettings.model_fields
    worker = importlib.import_module("workers.settings").WorkerSettings.model_fields
    for pod in pods(manifests).values():
        for each in pod["spec"]["containers"][0]["env"]:
            for prefix, fields in (("BITLANE_ROUTER_", router), ("BITLANE_WORKER_", worker)):
                if each["name"].startswith(prefix):
                    assert each["name"].removeprefix(prefix).lower() in fields, each["name"]


def test_engines_take_their_options() -> None:
    read = importlib.import_module("workers.engines.options").driver_options
    for workers in of_kind(render(values("production")), "StatefulSet").values():
        (container,) = workers["spec"]["template"]["spec"]["containers"]
        env = {each["name"]: each["value"] for each in container["env"]}
        options = read(yaml.safe_load(env["BITLANE_WORKER_ENGINE_OPTIONS"])).driver
        assert any(options.model.startswith(f"{mount['mountPath']}/") for mount in container["volumeMounts"])
        assert options.context_tokens == values("production")["router"]["config"]["models"][0]["context_tokens"]


def test_the_router_reads_its_configuration(manifests: list[Manifest], tmp_path: Any) -> None:
    (config,) = of_kind(manifests, "ConfigMap").values()
    path = tmp_path / "config.yaml"
    path.write_text(config["data"]["config.yaml"], encoding="utf-8")
    read = importlib.import_module("router.config").load_config(path)
    pools = {
        each["value"]
        for name, workers in pods(manifests).items()
        for each in workers["spec"]["containers"][0]["env"]
        if each["name"] == "BITLANE_WORKER_POOL"
    }
    assert pools == {pool for model in read.models for pool in model.pool_names.values()}


BAD = {
    "broker.url": ({"broker": {"url": ""}}, "broker.url"),
    "a password in the URL": ({"broker": {"url": "redis://x:y@h:1/0"}}, "url"),
    "no way to plaintext by accident": ({"router": {"tls": {"plaintext": False}}}, "router.tls"),
    "no models": ({"router": {"config": {"models": []}}}, "router.config.models"),
    "an unknown value": ({"router": {"replica": 3}}, "replica"),
    "a pool that scales to nothing": ({"poolDefaults": {"autoscaling": {"minReplicas": 0}}}, "minReplicas"),
    "a pool without a precision": ({"pools": {"x": {"pool": "smollm2"}}}, "pool"),
    "an unknown engine": ({"pools": {"x": {"pool": "m/fp4", "engine": "magic"}}}, "engine"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_refused_by_name(name: str) -> None:
    changes, named = BAD[name]
    with pytest.raises(helm.HelmError, match=re.escape(named)):
        render(_merged(values("minimal"), changes))


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = deepcopy(one)
    for key, value in other.items():
        merged[key] = _merged(merged.get(key, {}), value) if isinstance(value, dict) else value
    return merged


def test_two_releases_do_not_meet() -> None:
    one, other = (render(values("minimal"), release) for release in ("bitlane", "canary"))
    names = [{(each["kind"], each["metadata"]["name"]) for each in found} for found in (one, other)]
    assert not names[0] & names[1]
    labels = [pod["metadata"]["labels"] for pod in pods(other).values()]
    for deployment in (of_kind(one, "Deployment") | of_kind(one, "StatefulSet")).values():
        assert not any(selects(deployment["spec"]["selector"]["matchLabels"], found) for found in labels)


def test_examples_are_yaml_without_secrets() -> None:
    for name in EXAMPLES:
        assert not re.search(r"bl_[\w-]{20,}|password:\s*\S", yaml.safe_dump(values(name)))
