"""Deployment, autoscaler, budget, Services and route of a served version."""

import copy

import pytest
from owned_objects import (
    BARE_SETTINGS,
    BARE_SPEC,
    DIGEST,
    FULL_SPEC,
    SETTINGS,
    all_objects,
    built_version,
    trained_model,
    trained_version,
)

from solera_operator.api import ModelVersion
from solera_operator.resources import autoscaling, network, route, serving
from solera_operator.resources.versions import model_version

MODEL = trained_model()
OBJECTS = all_objects(MODEL)
DEPLOYMENT = OBJECTS["deployment"]
POD = DEPLOYMENT["spec"]["template"]["spec"]
[SERVER] = POD["containers"]
[FETCH] = POD["initContainers"]


def selected(selector, labels):
    return selector.items() <= labels.items()


def test_selectors_choose_the_pods_of_their_version_and_no_other():
    pods = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    other = all_objects(MODEL, number=4)["deployment"]["spec"]["template"]["metadata"]["labels"]
    jobs = OBJECTS["train-job"]["spec"]["template"]["metadata"]["labels"]
    namesake = all_objects(trained_model(name="adult-x"))["deployment"]["spec"]["template"]["metadata"][
        "labels"
    ]
    selectors = [
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        OBJECTS["version-service"]["spec"]["selector"],
        OBJECTS["stable-service"]["spec"]["selector"],
        OBJECTS["disruption-budget"]["spec"]["selector"]["matchLabels"],
        *(c["labelSelector"]["matchLabels"] for c in POD["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert selected(selector, pods)
        assert not selected(selector, other)
        assert not selected(selector, jobs)
        assert not selected(selector, namesake)


def test_the_stable_service_turns_by_its_selector_alone():
    before = network.stable_service(MODEL, "adult-v3")
    after = network.stable_service(MODEL, "adult-v4")
    assert before["spec"]["selector"]["solera.dev/version"] == "adult-v3"
    assert after["spec"]["selector"].pop("solera.dev/version") == "adult-v4"
    before["spec"]["selector"].pop("solera.dev/version")
    assert before == after


@pytest.mark.parametrize("name", ["version-service", "stable-service"])
def test_services_reach_the_model_port_by_name(name):
    [port] = OBJECTS[name]["spec"]["ports"]
    assert (port["port"], port["targetPort"], port["appProtocol"]) == (80, "http", "http")
    assert {p["name"]: p["containerPort"] for p in SERVER["ports"]} == {"http": 8080, "management": 8081}


def test_the_number_of_replicas_is_the_autoscalers():
    assert "replicas" not in DEPLOYMENT["spec"]


def test_a_rollout_takes_no_server_away_first():
    assert DEPLOYMENT["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": "25%"}


def test_the_artifact_is_fetched_and_verified_before_serving():
    arguments = FETCH["command"]
    assert arguments[:4] == ["python3", "-m", "solera_server", "fetch"]
    assert arguments[arguments.index("--digest") + 1] == DIGEST
    assert arguments[arguments.index("--uri") + 1].endswith(DIGEST.replace(":", "-"))
    assert SERVER["command"][SERVER["command"].index("--digest") + 1] == DIGEST
    assert SERVER["command"][SERVER["command"].index("--version") + 1] == "adult-v3"


def test_probes_ask_the_management_port():
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert SERVER[probe]["httpGet"]["port"] == "management"
    assert SERVER["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert SERVER["readinessProbe"]["httpGet"]["path"] == "/readyz"
    # A server that still loads is not killed before its Deployment says that it does not progress.
    startup = SERVER["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] <= serving.PROGRESS_DEADLINE_SECONDS


def test_the_pod_template_is_the_same_for_the_same_inputs():
    again = all_objects(trained_model(copy.deepcopy(FULL_SPEC)))["deployment"]
    assert list(map(str, again.items())) == list(map(str, DEPLOYMENT.items()))


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": {"min": 4, "max": 20}},
        {"autoscaling": {"cpuPercent": 30}},
        {"rollbackWindow": "2h"},
        {"pin": {"version": "adult-v3"}},
        {"gateway": {"name": "other", "hostname": "other.example.com"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_not_about_pods_rolls_no_pod(change):
    spec = copy.deepcopy(FULL_SPEC)
    spec["serving"].update(change)
    assert all_objects(trained_model(spec))["deployment"] == DEPLOYMENT


def test_new_images_and_another_store_in_the_settings_roll_no_pod():
    moved = SETTINGS.model_copy(
        update={
            "runtimes": BARE_SETTINGS.runtimes,
            "artifact_store": SETTINGS.artifact_store.model_copy(update={"uri": "s3://elsewhere"}),
        }
    )
    assert serving.server_deployment(MODEL, trained_version(MODEL), moved) == DEPLOYMENT


@pytest.mark.parametrize(
    ("given", "cpu"),
    [
        (None, "200m"),
        ({"requests": {"memory": "1Gi"}}, "200m"),
        ({"limits": {"memory": "1Gi"}}, "200m"),
        ({"requests": {"cpu": "3"}}, "3"),
    ],
    ids=str,
)
def test_there_is_a_cpu_request_for_the_autoscaler(given, cpu):
    found = serving.server_resources(given)
    assert found["requests"]["cpu"] == cpu
    for kind, values in (given or {}).items():
        assert values.items() <= found[kind].items()


def test_a_cpu_limit_is_request_enough():
    assert serving.server_resources({"limits": {"cpu": "2"}}) == {"limits": {"cpu": "2"}}


def test_there_is_always_an_autoscaler():
    bare = all_objects(trained_model(BARE_SPEC), BARE_SETTINGS)["autoscaler"]["spec"]
    assert (bare["minReplicas"], bare["maxReplicas"]) == (1, 1)
    spec = OBJECTS["autoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "adult-v3"}
    [metric] = spec["metrics"]
    assert metric["containerResource"]["container"] == SERVER["name"]
    assert metric["containerResource"]["target"]["averageUtilization"] == 60


@pytest.mark.parametrize(("floor", "lowest"), [(None, 2), (7, 7), (10, 10), (25, 10)])
def test_a_new_champion_is_brought_to_the_old_ones_size(floor, lowest):
    spec = autoscaling.autoscaler(MODEL, trained_version(MODEL), floor)["spec"]
    assert spec["minReplicas"] == lowest
    assert spec["minReplicas"] <= spec["maxReplicas"] == 10


def test_a_drain_takes_one_pod_and_is_never_held_up_by_a_broken_one():
    spec = OBJECTS["disruption-budget"]["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_servers_account_has_no_token():
    assert OBJECTS["service-account"]["automountServiceAccountToken"] is False
    assert POD["serviceAccountName"] == OBJECTS["service-account"]["metadata"]["name"]


def test_the_route_names_one_backend_with_a_filter_of_its_own():
    spec = OBJECTS["http-route"]["spec"]
    assert spec["parentRefs"] == [{"name": "public", "namespace": "gateways", "sectionName": "http"}]
    assert spec["hostnames"] == ["adult.example.com"]
    [rule] = spec["rules"]
    [backend] = rule["backendRefs"]
    assert (backend["name"], backend["port"]) == ("adult-v3", 80)
    assert backend["filters"] == [
        {
            "type": "ResponseHeaderModifier",
            "responseHeaderModifier": {"set": [{"name": "solera-version", "value": "adult-v3"}]},
        }
    ]


def test_a_gateway_of_the_same_namespace_needs_no_more_than_its_name():
    spec = copy.deepcopy(FULL_SPEC)
    spec["serving"]["gateway"] = {"name": "public", "hostname": "adult.example.com"}
    built = route.http_route(trained_model(spec), "adult-v3")
    assert built["spec"]["parentRefs"] == [{"name": "public"}]


def test_what_cannot_be_built_is_refused():
    bare = trained_model(BARE_SPEC)
    with pytest.raises(ValueError, match="names no gateway"):
        route.http_route(bare, "adult-v3")
    untrained = ModelVersion.model_validate(built_version(bare))
    with pytest.raises(ValueError, match="has no artifact to serve"):
        serving.server_deployment(bare, untrained, SETTINGS)


def test_a_version_is_a_snapshot_that_its_own_type_can_read():
    built = OBJECTS["model-version"]
    version = ModelVersion.model_validate(built)
    assert version.spec.training == MODEL.spec.training
    assert version.spec.store.uri == "s3://solera/prod"
    assert version.spec.runtime.server_image == "registry.example.com/solera-server:1"
    assert "status" not in built
    assert built == model_version(
        MODEL,
        number=3,
        token="0123456789abcdef",
        reason="Created",
        salt="5" * 64,
        runtime=SETTINGS.default_runtime(),
        store=SETTINGS.artifact_store,
    )
