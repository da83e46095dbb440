"""The admission policies as shipped, bound to one namespace: who is let through, and what the others read."""

import copy
import uuid

import manifest_objects as manifests
import pytest
from api_server import GROUP, Api, connect, wait_for

OPERATOR = "system:serviceaccount:solera-system:solera-operator"
COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"


def as_user(api_kubeconfig, name):
    """A client that acts as somebody else, whom RBAC allows everything."""
    with connect(api_kubeconfig) as http:
        http.headers.update({"Impersonate-User": name, "Impersonate-Group": "system:masters"})
        yield Api(http)


@pytest.fixture
def operator(api_kubeconfig):
    yield from as_user(api_kubeconfig, OPERATOR)


@pytest.fixture
def collector(api_kubeconfig):
    yield from as_user(api_kubeconfig, COLLECTOR)


@pytest.fixture
def policies(api: Api, namespace):
    """The policies under names of their own and for this namespace, with the shipped parameters in it."""
    suffix = uuid.uuid4().hex[:8]
    objects = [copy.deepcopy(o) for o in manifests.kustomize(manifests.MANIFESTS / "policies")]
    created = []
    for obj in sorted(objects, key=lambda o: o["kind"] == "ValidatingAdmissionPolicyBinding"):
        if obj["kind"] == "ClusterRole":
            continue
        if obj["kind"] != "ConfigMap":
            obj["metadata"]["name"] += f"-{suffix}"
        if obj["kind"] == "ValidatingAdmissionPolicyBinding":
            obj["spec"]["policyName"] += f"-{suffix}"
            obj["spec"]["paramRef"]["namespace"] = namespace
            labels = {"kubernetes.io/metadata.name": namespace}
            obj["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": labels}}
        path = manifests.path_of(obj, namespace)
        api.ok(api.apply(path, manifests.moved(obj, namespace)))
        created.append(path)
    for refused in (
        version(namespace),
        model(namespace, data={"secretName": "x"}),
        deployment(namespace, "x"),
    ):
        path = manifests.collection(refused, namespace)
        wait_for(
            f"the policies to count for {refused['kind']}",
            lambda path=path, obj=refused: api.create(path, obj, dry_run=True).status_code == 403,
        )
    yield namespace
    for path in reversed(created):
        api.delete(path)


def version(namespace):
    return manifests.moved(manifests.owned.built_version(manifests.owned.trained_model()), namespace)


def model(namespace, *, data=None, training_pod=None, serving_pod=None):
    spec = copy.deepcopy(manifests.owned.BARE_SPEC)
    if data:
        spec["training"]["data"].update({"uri": "s3://models/a.csv"} | data)
    if training_pod:
        spec["training"]["pod"] = training_pod
    if serving_pod:
        spec["serving"] = {"pod": serving_pod}
    return {
        "apiVersion": "solera.dev/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": "adult", "namespace": namespace},
        "spec": spec,
    }


def deployment(namespace, image, *, managed_by="solera", fetch_image="localhost/solera-server:1"):
    built = copy.deepcopy(
        manifests.owned.all_objects(manifests.owned.trained_model(manifests.owned.BARE_SPEC))["deployment"]
    )
    built["metadata"]["labels"]["app.kubernetes.io/managed-by"] = managed_by
    built["spec"]["template"]["spec"]["containers"][0]["image"] = image
    built["spec"]["template"]["spec"]["initContainers"][0]["image"] = fetch_image
    return manifests.moved(built, namespace)


def test_only_solera_writes_versions(api: Api, operator, policies):
    path = f"{GROUP}/namespaces/{policies}/modelversions"
    refused = api.create(path, version(policies))
    assert refused.status_code == 403
    assert "only Solera writes modelversions" in refused.json()["message"]
    assert "change the TrainedModel, and Solera makes a new version" in refused.json()["message"]

    operator.ok(operator.create(path, version(policies)))
    assert api.patch(f"{path}/adult-v3", {"metadata": {"labels": {"a": "b"}}}).status_code == 403
    assert api.delete(f"{path}/adult-v3").is_success


def test_only_solera_writes_status(api: Api, operator, policies):
    models, versions = (
        f"{GROUP}/namespaces/{policies}/{kind}" for kind in ("trainedmodels", "modelversions")
    )
    api.ok(api.create(models, model(policies)))
    operator.ok(operator.create(versions, version(policies)))
    for path in (f"{models}/adult/status", f"{versions}/adult-v3/status"):
        refused = api.patch(path, {"status": {"observedGeneration": 1}})
        assert refused.status_code == 403
        assert "only Solera writes" in refused.json()["message"]
        operator.ok(operator.patch(path, {"status": {"observedGeneration": 1}}))
    api.ok(api.patch(f"{models}/adult", {"spec": {"versionHistoryLimit": 3}}))


def test_kubernetes_may_take_finalizers_away(api: Api, operator, collector, policies):
    path = f"{GROUP}/namespaces/{policies}/modelversions"
    operator.ok(operator.create(path, version(policies)))
    api.ok(api.delete(f"{path}/adult-v3", propagationPolicy="Foreground"))
    held = api.ok(api.get(f"{path}/adult-v3"))["metadata"]
    assert held["finalizers"] == ["foregroundDeletion"]
    collector.ok(collector.patch(f"{path}/adult-v3", {"metadata": {"finalizers": None}}))
    assert api.get(f"{path}/adult-v3").status_code == 404


ALLOWED = [
    {},
    {"data": {"secretName": "adult-data"}},
    {"data": {"uri": "pvc://warehouse-data/a/b.csv"}},
    {
        "training_pod": {
            "serviceAccountName": "adult-training",
            "imagePullSecrets": [{"name": "registry-pull"}],
        }
    },
    {"serving_pod": {"imagePullSecrets": [{"name": "registry-pull"}]}},
]
REFUSED = [
    ({"data": {"secretName": "solera-store"}}, "secretName: ", "not solera-store"),
    ({"data": {"secretName": "x-data-not"}}, "secretName: ", "not x-data-not"),
    (
        {"data": {"uri": "pvc://home/x.csv"}},
        "data.uri: ",
        "claims that match [a-z0-9.-]+-data, not pvc://home/x.csv",
    ),
    ({"training_pod": {"serviceAccountName": "admin"}}, "serviceAccountName: ", "not admin"),
    (
        {"training_pod": {"imagePullSecrets": [{"name": "a-pull"}, {"name": "tls"}]}},
        "imagePullSecrets: ",
        "tls",
    ),
    ({"serving_pod": {"imagePullSecrets": [{"name": "tls"}]}}, "imagePullSecrets: ", "not tls"),
]


@pytest.mark.parametrize("case", ALLOWED, ids=str)
def test_names_that_the_parameters_allow(api: Api, policies, case):
    path = f"{GROUP}/namespaces/{policies}/trainedmodels"
    api.ok(api.create(path, model(policies, **case), dry_run=True))


@pytest.mark.parametrize(("case", "path", "text"), REFUSED, ids=lambda value: str(value)[:60])
def test_names_that_they_do_not(api: Api, policies, case, path, text):
    collection = f"{GROUP}/namespaces/{policies}/trainedmodels"
    answer = api.create(collection, model(policies, **case), dry_run=True)
    assert answer.status_code == 403, answer.text
    assert path in answer.json()["message"]
    assert text in answer.json()["message"]


def test_images_of_solera_are_those_of_the_parameters(api: Api, policies):
    path = f"/apis/apps/v1/namespaces/{policies}/deployments"
    api.ok(api.create(path, deployment(policies, "localhost/solera-server:1"), dry_run=True))
    digest = "localhost/solera-server@sha256:" + "a" * 64
    api.ok(api.create(path, deployment(policies, digest), dry_run=True))
    for refused in (
        deployment(policies, "localhost/solera-server-evil"),
        deployment(policies, "localhost/solera-server:1", fetch_image="evil"),
    ):
        answer = api.create(path, refused, dry_run=True)
        assert answer.status_code == 403
        assert "allows Solera images that match" in answer.json()["message"]


def test_images_of_others_are_their_own_affair_even_without_parameters(api: Api, policies):
    path = f"/apis/apps/v1/namespaces/{policies}/deployments"
    api.ok(api.create(path, deployment(policies, "nginx", managed_by="helm"), dry_run=True))
    api.ok(api.delete(f"/api/v1/namespaces/{policies}/configmaps/solera-policy"))
    ours = deployment(policies, "localhost/solera-server:1")
    wait_for(
        "the parameters to be gone",
        lambda: "no params found" in api.create(path, ours, dry_run=True).text,
    )
    api.ok(api.create(path, deployment(policies, "nginx", managed_by="helm"), dry_run=True))
