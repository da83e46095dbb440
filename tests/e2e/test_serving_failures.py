"""What can go wrong around servers, names, images and gateways: told at once, and the old version goes on."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kube import Kube, wait_for
from models import SERVER_POD, SETOSA, Model, conditions, merged, quick
from traffic import GATEWAY

Measured = Callable[[str], None]


def test_servers_run_out_of_memory_while_the_old_ones_answer(
    kube: Kube, namespace: str, measured: Measured
) -> None:
    model = Model(kube, namespace)
    model.apply(quick())
    model.wait_ready()
    pods = set(model.ready_pods("iris-v1"))
    tiny = merged(SERVER_POD, {"resources": {"requests": {"memory": "30Mi"}, "limits": {"memory": "30Mi"}}})
    begun = time.time()
    model.change({"serving": {"pod": tiny}})
    told = model.wait_reason("OutOfMemory", seconds=60, stalled=False)
    after = time.time() - begun
    assert "30Mi" in told["message"], told
    assert model.conditions()["Available"]["status"] == "True"
    assert model.predict(SETOSA) == ["setosa"]
    assert pods <= set(model.ready_pods("iris-v1"))
    model.change({"serving": {"pod": SERVER_POD}})
    model.wait_ready(seconds=60)
    assert model.predict(SETOSA) == ["setosa"]
    measured(f"told {after:.1f} s after the apply: {told['message']}")


def test_a_name_is_taken(kube: Kube, namespace: str, measured: Measured) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "iris"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "mine"}},
    }
    before = kube.create("services", namespace, foreign)
    model = Model(kube, namespace)
    begun = time.time()
    model.apply(quick())
    told = model.wait_reason("NameConflict", seconds=30, stalled=True)
    after = time.time() - begun
    assert after < 8
    assert "Service" in told["message"], told
    assert "iris" in told["message"], told
    assert not model.versions(), "nothing is trained that could never serve"
    now = kube.get("services", namespace, "iris")
    assert now["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    kube.delete("services", namespace, "iris")
    wait_for(lambda: model.versions() and "Stalled" not in model.conditions(), 30, "the training begins")
    measured(f"told {after:.1f} s after the apply: {told['message']}")


def test_gateways_that_are_not_there_or_do_not_take_the_host(
    kube: Kube, namespace: str, measured: Measured
) -> None:
    classes = kube.ask("GET", "/apis/gateway.networking.k8s.io/v1/namespaces/gateways/gateways/public").json()
    listener = {"name": "http", "port": 80, "protocol": "HTTP", "hostname": "*.allowed.example.com"}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "narrow"},
        "spec": {"gatewayClassName": classes["spec"]["gatewayClassName"], "listeners": [listener]},
    }
    kube.create("gateways", namespace, gateway)
    model = Model(kube, namespace)
    hostname = f"{namespace}.example.com"
    wrong = {**GATEWAY, "name": "no-such-gateway", "hostname": hostname}
    model.apply(quick(serving={"gateway": wrong}))
    told = model.wait_reason("GatewayNotFound")
    assert "no-such-gateway" in told["message"], told
    assert model.conditions()["Available"]["status"] == "True", "the stable Service answers all the same"

    begun = time.time()
    model.change({"serving": {"gateway": {"name": "public", "sectionName": "nope"}}})
    told = model.wait_reason("GatewayNotFound", seconds=20)
    wait_for(lambda: "nope" in conditions(model.get())["Ready"]["message"], 20, "the listener is named")
    measured(f"listener told {time.time() - begun:.1f} s after the apply")

    begun = time.time()
    narrow = {"name": "narrow", "namespace": namespace, "sectionName": "http"}
    model.change({"serving": {"gateway": narrow}})
    told = model.wait_reason("NoMatchingListenerHostname", seconds=30)
    measured(f"hostname told {time.time() - begun:.1f} s after the apply: {told['message']}")

    model.change({"serving": {"gateway": GATEWAY}})
    model.wait_ready(seconds=60)
    assert model.status()["url"] == f"http://{hostname}"


def image_policy(name: str, namespace: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a policy that gives new pods an image that does not exist, and its binding to a namespace."""
    api = "admissionregistration.k8s.io/v1"
    image = 'JSONPatch{op: "replace", path: "/spec/containers/0/image", value: "localhost:1/no-such-image:1"}'
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    policy = {
        "apiVersion": api,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{image}]"}}],
        },
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = {
        "apiVersion": api,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": here},
    }
    return policy, binding


def gets_no_image(kube: Kube, namespace: str) -> bool:
    """Whether a new pod of the namespace would ask for the image that does not exist."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe"},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "image": "localhost/a:1", "securityContext": security}],
        },
    }
    answer = kube.ask("POST", f"/api/v1/namespaces/{namespace}/pods", params={"dryRun": "All"}, json=probe)
    if answer.status_code != 201:
        return False
    image: str = answer.json()["spec"]["containers"][0]["image"]
    return "no-such-image" in image


@pytest.fixture
def no_image(kube: Kube, namespace: str) -> Iterator[Callable[[], None]]:
    """Every new pod of the namespace asks for an image that does not exist, as a registry that lost it would.

    A policy of the API server, bound to this namespace alone: no other test sees it. Call it to end it.
    """
    name = f"no-image-{uuid.uuid4().hex[:6]}"
    policy, binding = image_policy(name, namespace)

    def end() -> None:
        kube.delete("mutatingadmissionpolicybindings", None, name)
        kube.delete("mutatingadmissionpolicies", None, name)

    kube.create("mutatingadmissionpolicies", None, policy)
    kube.create("mutatingadmissionpolicybindings", None, binding)
    try:
        wait_for(lambda: gets_no_image(kube, namespace), 60, "the policy is in force")

        def end_and_wait() -> None:
            end()
            wait_for(lambda: not gets_no_image(kube, namespace), 60, "the policy is gone")

        yield end_and_wait
    finally:
        end()


def test_an_image_cannot_be_pulled(
    kube: Kube, namespace: str, no_image: Callable[[], None], measured: Measured
) -> None:
    model = Model(kube, namespace)
    begun = time.time()
    model.apply(quick(training={"retries": 2}))
    told = model.wait_reason("ImagePullFailed", seconds=60, stalled=False)
    after = time.time() - begun
    assert after < 15
    assert "no-such-image" in told["message"], told
    no_image()
    for pod in model.pods("iris-v1", "train"):
        kube.delete("pods", namespace, pod["metadata"]["name"])
    model.wait_trained(1)
    measured(f"told {after:.1f} s after the apply: {told['message']}")
