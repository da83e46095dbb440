"""What the operator's account may do, asked of the API server, and nothing else."""

import itertools

import manifest_objects as manifests
import pytest
from api_server import Api, wait_for

ACCOUNT = "system:serviceaccount:solera-system:solera-operator"
READ = {"get", "list", "watch"}
OWN = READ | {"create", "patch", "delete"}

ALLOWED = {
    ("solera.dev", "trainedmodels"): READ,
    ("solera.dev", "trainedmodels/status"): {"patch"},
    ("solera.dev", "modelversions"): READ | {"create", "delete"},
    ("solera.dev", "modelversions/status"): {"patch"},
    ("batch", "jobs"): OWN,
    ("", "services"): OWN,
    ("", "serviceaccounts"): OWN,
    ("apps", "deployments"): OWN,
    ("autoscaling", "horizontalpodautoscalers"): OWN,
    ("policy", "poddisruptionbudgets"): OWN,
    ("networking.k8s.io", "networkpolicies"): OWN,
    ("gateway.networking.k8s.io", "httproutes"): OWN,
    ("gateway.networking.k8s.io", "gateways"): {"get"},
    ("", "pods"): READ,
    ("", "events"): {"list"},
    ("events.k8s.io", "events"): {"create", "patch"},
}
VERBS = (*sorted(OWN), "update", "deletecollection", "escalate", "bind", "impersonate", "approve", "use")
OTHERS = [
    ("", "secrets"), ("", "configmaps"), ("", "nodes"), ("", "namespaces"), ("", "persistentvolumeclaims"),
    ("", "pods/exec"), ("", "pods/log"), ("", "pods/eviction"), ("", "serviceaccounts/token"),
    ("", "services/proxy"), ("apps", "deployments/scale"), ("apps", "replicasets"), ("batch", "cronjobs"),
    ("batch", "jobs/status"), ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"), ("rbac.authorization.k8s.io", "clusterroles"),
    ("apiextensions.k8s.io", "customresourcedefinitions"), ("coordination.k8s.io", "leases"),
    ("solera.dev", "trainedmodels/finalizers"), ("solera.dev", "modelversions/finalizers"),
    ("networking.k8s.io", "ingresses"), ("gateway.networking.k8s.io", "gateways/status"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
]  # fmt: skip


Kind = tuple[str, str]
"""Group, and resource with its subresource."""


def may(api: Api, namespace: str, kind: Kind, verb: str, *, name: str = "") -> bool:
    """Ask whether the operator's account may do this."""
    group, resource = kind
    plural, _, subresource = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": plural, "name": name}
    if subresource:
        attributes["subresource"] = subresource
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": ACCOUNT, "groups": ["system:serviceaccounts"], "resourceAttributes": attributes},
    }
    answer = api.ok(api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review))
    return bool(answer["status"]["allowed"])


def rights(api: Api, namespace: str) -> dict[Kind, set[str]]:
    """All that the account may do among everything that is asked here; empty ones left out."""
    found: dict[Kind, set[str]] = {}
    for kind, verb in itertools.product([*ALLOWED, *OTHERS], VERBS):
        if may(api, namespace, kind, verb):
            found.setdefault(kind, set()).add(verb)
    return found


@pytest.fixture
def granted(api: Api, namespace):
    """A namespace with the Role and RoleBinding of the namespaced overlay."""
    for obj in manifests.kustomize(manifests.MANIFESTS / "overlays" / "namespaced"):
        if obj["kind"] in {"Role", "RoleBinding"} and obj["metadata"]["name"] == "solera-controller":
            api.ok(api.apply(manifests.path_of(obj, namespace), manifests.moved(obj, namespace)))
    wait_for("the role to count", lambda: may(api, namespace, ("batch", "jobs"), "create"))
    return namespace


def test_in_a_namespace_of_models_it_may_do_what_the_controllers_do_and_no_more(api: Api, granted):
    assert rights(api, granted) == ALLOWED


def test_elsewhere_it_may_do_nothing(api: Api, granted):
    assert granted != "kube-system"
    assert rights(api, "kube-system") == {}


def test_of_leases_it_has_its_own_in_its_own_namespace(api: Api, namespace):
    for obj in manifests.kustomize(manifests.MANIFESTS / "base"):
        if obj["kind"] in {"Role", "RoleBinding"}:
            api.ok(api.apply(manifests.path_of(obj, namespace), manifests.moved(obj, namespace)))
    leases = ("coordination.k8s.io", "leases")
    wait_for("the role to count", lambda: may(api, namespace, leases, "create"))
    own = {verb for verb in VERBS if may(api, namespace, leases, verb, name="solera-operator")}
    assert own == {"create", "get", "update"}
    assert {verb for verb in VERBS if may(api, namespace, leases, verb, name="another")} == {"create"}
    assert set(rights(api, namespace)) == {leases}


def test_the_cluster_wide_overlay_grants_the_same_rules_everywhere():
    def rules(overlay, kind):
        objects = manifests.kustomize(manifests.MANIFESTS / "overlays" / overlay)
        [role] = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, "solera-controller")]
        return role["rules"]

    assert rules("cluster-wide", "ClusterRole") == rules("namespaced", "Role")
    objects = manifests.kustomize(manifests.MANIFESTS / "overlays" / "cluster-wide")
    [binding] = [o for o in objects if o["kind"] == "ClusterRoleBinding"]
    assert binding["roleRef"]["kind"] == "ClusterRole"
    assert binding["roleRef"]["name"] == "solera-controller"
    [subject] = binding["subjects"]
    assert f"system:serviceaccount:{subject['namespace']}:{subject['name']}" == ACCOUNT
