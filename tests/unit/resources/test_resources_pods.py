"""What holds for every pod of Solera: Pod Security "restricted", no token, no secret in an environment."""

import copy
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from owned_objects import (
    BARE_SETTINGS,
    BARE_SPEC,
    SETTINGS,
    all_objects,
    pod_specs,
    trained_model,
    trained_version,
)
from pod_security import violations

from solera_operator.resources import pods

SCRATCH = "/tmp"  # noqa: S108 - where pods mount it

PODS = {f"full {name}": pod for name, pod in pod_specs(all_objects(trained_model())).items()} | {
    f"bare {name}": pod
    for name, pod in pod_specs(all_objects(trained_model(BARE_SPEC), BARE_SETTINGS)).items()
}


def containers(pod):
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("name", PODS)
class TestEveryPod:
    def test_is_restricted(self, name):
        assert violations(PODS[name]) == []

    def test_has_no_token_and_no_service_variables(self, name):
        assert PODS[name]["automountServiceAccountToken"] is False
        assert PODS[name]["enableServiceLinks"] is False

    def test_writes_only_to_bounded_scratch_space(self, name):
        volumes = {volume["name"]: volume for volume in PODS[name]["volumes"]}
        for container in containers(PODS[name]):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert SCRATCH in [mount["mountPath"] for mount in container["volumeMounts"]]
            for mount in container["volumeMounts"]:
                volume = volumes[mount["name"]]
                assert mount.get("readOnly") or volume["emptyDir"]["sizeLimit"]

    def test_mounts_every_volume_and_no_other(self, name):
        used = {mount["name"] for c in containers(PODS[name]) for mount in c["volumeMounts"]}
        assert used == {volume["name"] for volume in PODS[name]["volumes"]}

    def test_reads_no_secret_from_its_environment(self, name):
        for container in containers(PODS[name]):
            assert "envFrom" not in container
            for variable in container["env"]:
                assert "secretKeyRef" not in variable.get("valueFrom", {})

    def test_bounds_memory_and_requests_cpu(self, name):
        for container in containers(PODS[name]):
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]

    def test_speaks_through_its_termination_message_or_its_log(self, name):
        assert {c["terminationMessagePolicy"] for c in containers(PODS[name])} == {"FallbackToLogsOnError"}

    def test_runs_without_a_shell(self, name):
        for container in containers(PODS[name]):
            assert container["command"][:2] == ["python3", "-m"]


BREAKS = {
    "privileged": ("securityContext", {"privileged": True}),
    "escalation": ("securityContext", {"allowPrivilegeEscalation": True}),
    "root": ("securityContext", {"runAsNonRoot": False}),
    "user 0": ("securityContext", {"runAsUser": 0}),
    "capability": ("securityContext", {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
    "kept capabilities": ("securityContext", {"capabilities": {}}),
    "unconfined": ("securityContext", {"seccompProfile": {"type": "Unconfined"}}),
    "host port": ("ports", [{"containerPort": 1, "hostPort": 1}]),
}


@pytest.mark.parametrize("case", BREAKS)
def test_the_checker_sees_a_container_that_breaks_the_rules(case):
    field, value = BREAKS[case]
    pod = copy.deepcopy(PODS["full deployment"])
    container = pod["containers"][0]
    container[field] = {**container[field], **value} if isinstance(value, dict) else value
    assert len(violations(pod)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"hostNetwork": True},
        {"hostPID": True},
        {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
        {"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "Unconfined"}}},
    ],
    ids=str,
)
def test_the_checker_sees_a_pod_that_breaks_the_rules(change):
    assert violations({**PODS["full deployment"], **change}) != []


def mounts(pod, container=0):
    return {mount["mountPath"]: mount for mount in pod["containers"][container]["volumeMounts"]}


def test_the_serving_process_holds_no_credentials_and_cannot_change_the_model():
    server = mounts(PODS["full deployment"])
    assert set(server) == {"/model", SCRATCH}
    assert server["/model"]["readOnly"] is True
    fetch = {m["mountPath"] for m in PODS["full deployment"]["initContainers"][0]["volumeMounts"]}
    assert fetch == {"/model", SCRATCH, "/var/run/solera/store", "/var/run/solera/ca"}


def test_only_jobs_that_read_data_get_its_secret():
    assert "/var/run/solera/data" in mounts(PODS["full train-job"])
    assert "/var/run/solera/data" in mounts(PODS["full evaluate-job"])
    assert "/var/run/solera/data" not in mounts(PODS["full report-train-job"])
    assert "/var/run/solera/data" not in mounts(PODS["bare train-job"])


def test_without_a_secret_or_authority_in_the_settings_nothing_is_mounted_for_the_store():
    assert set(mounts(PODS["bare train-job"])) == {SCRATCH}
    store = trained_version(trained_model()).spec.store
    assert "caFile" not in pods.store_document(store, BARE_SETTINGS)
    assert json.loads(pods.store_document(store, SETTINGS))["caFile"] == "/var/run/solera/ca/ca.crt"


def expanded(text, variables):
    """What the kubelet makes of $(NAME) and $$ in an environment variable or argument."""
    pattern = re.compile(r"\$(\$|\(([^)]*)\))?")

    def one(found):
        if found.group(1) == "$":
            return "$"
        if found.group(2) is not None:
            return variables.get(found.group(2), found.group(0))
        return found.group(0)

    return pattern.sub(one, text)


@given(st.text(alphabet="$()ABC{}\" '", max_size=40))
def test_text_of_users_survives_variable_expansion(text):
    assert expanded(pods.literal(text), {"A": "expanded", "": "expanded"}) == text


def test_a_dollar_in_a_column_name_reaches_the_trainer():
    spec = copy.deepcopy(BARE_SPEC)
    spec["training"]["data"]["target"] = "price_$$(HOME)"
    job = all_objects(trained_model(spec))["train-job"]
    value = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    document = json.loads(expanded(value, {"HOME": "/home"}))
    assert document["training"]["data"]["target"] == "price_$$(HOME)"
