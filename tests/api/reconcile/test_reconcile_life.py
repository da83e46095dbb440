"""From a created model to an answering one; what an unchanged one costs; its end."""

from collections.abc import Callable

import pytest
from api_server import connect
from operator_process import OperatorProcess
from player import Object, ended, evaluate_result, train_result
from recorder import Recorder
from scene import Scene, conditions_of

QUIET_SECONDS = 6.0


def test_create_trains_evaluates_promotes_and_serves(scene: Scene):
    scene.create()
    v1 = scene.version(1)

    train = scene.until_job(f"{v1}-train")
    scene.until_condition("Ready", "False", "Training")
    assert scene.condition("Available") == ("False", "NoChampion")
    assert scene.condition("Reconciling") == ("True", "Training")
    assert scene.condition("Training") == ("True", "Training")
    assert scene.status["lastVersion"]["number"] == 1
    version = scene.player.get("ModelVersion", v1)
    assert version is not None
    assert version["metadata"]["ownerReferences"][0]["uid"] == scene.live["metadata"]["uid"]
    assert version["spec"]["reason"] == "Created"
    owner = train["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("ModelVersion", v1, version["metadata"]["uid"])
    assert train["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "solera",
        "app.kubernetes.io/name": scene.name,
        "solera.dev/model": scene.name,
        "solera.dev/version": v1,
        "solera.dev/component": "train",
    }

    scene.player.complete(train, train_result(train))
    evaluate = scene.until_evaluation(1)
    scene.until_condition("Ready", "False", "Evaluating")
    assert scene.status["candidate"]["version"] == v1
    assert scene.player.names("Deployment") == [], "nothing serves before the gates have said yes"

    scene.player.complete(evaluate, evaluate_result(evaluate))
    scene.until("a champion", lambda: scene.champion() == (v1, 1, "FirstVersion"))
    scene.bring_up(1)
    scene.until_condition("Ready", "True", "Serving")
    assert {kind: said[0] for kind, said in conditions_of(scene.status).items()} == {
        "Ready": "True",
        "Available": "True",
    }

    status = scene.status
    address = f"http://{scene.name}.{scene.namespace}.svc"
    assert status["url"] == address
    assert status["address"] == {"url": address}
    assert status["serving"]["version"] == v1
    assert status["serving"]["readyReplicas"] == 1
    assert status["champion"]["digest"] == train_result(train)["artifact"]["digest"]
    assert scene.target() == v1
    assert scene.player.names("Job") == [evaluate["metadata"]["name"], train["metadata"]["name"]]
    for kind, names in {
        "Deployment": [v1],
        "Service": [scene.name, v1],
        "HorizontalPodAutoscaler": [v1],
        "PodDisruptionBudget": [v1],
        "NetworkPolicy": [scene.name],
        "ServiceAccount": [scene.name],
    }.items():
        assert scene.player.names(kind) == names, kind
        for item in scene.player.all(kind):
            assert item["metadata"]["ownerReferences"][0]["uid"] == scene.live["metadata"]["uid"], kind


def test_first_status_comes_before_anything_is_made(scene: Scene, api_kubeconfig):
    path = scene.player.path("TrainedModel")
    with connect(api_kubeconfig) as http, Recorder(http, path, scene.name) as seen:
        scene.create()
        scene.until_job(f"{scene.version(1)}-train")
        scene.until_condition("Training", "True")
    stages = [conditions_of(state["status"]) for state in seen.states if "status" in state]
    assert stages[0] == {
        "Ready": ("Unknown", "Progressing"),
        "Available": ("False", "NoChampion"),
        "Reconciling": ("True", "Progressing"),
    }
    assert all("lastVersion" in state["status"] for state in seen.states if "status" in state)
    made = scene.player.get("ModelVersion", scene.version(1))
    assert made is not None
    first = next(state for state in seen.states if "status" in state)
    assert int(first["metadata"]["resourceVersion"]) < int(made["metadata"]["resourceVersion"])


def test_version_tells_its_own_stages(scene: Scene, api_kubeconfig):
    path = scene.player.path("ModelVersion")
    v1 = scene.version(1)
    with connect(api_kubeconfig) as http, Recorder(http, path, v1) as seen:
        scene.create()
        scene.serve(1)
    stages = []
    for state in seen.states:
        said = {kind: status for kind, (status, _) in conditions_of(state.get("status", {})).items()}
        if said and said not in stages:
            stages.append(said)
    assert stages == [
        {"Ready": "False", "Reconciling": "True", "Trained": "False", "Evaluated": "False"},
        {"Ready": "False", "Reconciling": "True", "Trained": "True", "Evaluated": "False"},
        {"Ready": "True", "Trained": "True", "Evaluated": "True"},
    ]
    status = seen.states[-1]["status"]
    assert status["verdict"] == "Accepted"
    assert status["rows"] == {"train": 120, "test": 30}
    assert status["candidate"]["cvScore"] == "0.96"
    assert status["gates"][0]["outcome"] == "Passed"
    assert [metric["name"] for metric in status["metrics"]] == ["accuracy"]


def test_labels_and_annotations_of_the_model_stay_with_it(scene: Scene):
    scene.create(
        metadata={
            "labels": {"argocd.example/app": "iris"},
            "annotations": {"argocd.example/tracking": "iris"},
        }
    )
    scene.serve(1)
    for kind in ("ModelVersion", "Job", "Deployment", "Service", "HorizontalPodAutoscaler", "NetworkPolicy"):
        for item in scene.player.all(kind):
            meta = {**item["metadata"].get("labels", {}), **item["metadata"].get("annotations", {})}
            assert not [key for key in meta if key.startswith("argocd.example/")], item["metadata"]["name"]


def test_result_is_read_once_then_jobs_may_go(scene: Scene):
    scene.create()
    train = scene.until_job(f"{scene.version(1)}-train")
    assert "ttlSecondsAfterFinished" not in train["spec"], "nobody may remove it before it is read"
    scene.serve(1)
    scene.until(
        "a time to live on both Jobs",
        lambda: [job["spec"].get("ttlSecondsAfterFinished") for job in scene.player.all("Job")] == [600, 600],
    )
    jobs = scene.player.names("Job")
    for name in jobs:
        scene.player.remove("Job", name)
    scene.holds("no Job comes back", lambda: scene.player.names("Job") == [], 2)
    assert scene.condition("Ready") == ("True", "Serving")


def test_unchanged_apply_does_nothing(scene: Scene):
    scene.create()
    scene.serve(1)
    scene.settle()
    before = scene.objects()
    scene.apply()
    scene.holds("all objects as they were", lambda: scene.objects() == before, 2)


def test_steady_state_writes_nothing(own: Scene):
    operator = own.operators[0]
    own.create()
    own.serve(1)
    own.settle()
    own.until("nothing more to be written", _unchanging(own, operator))
    objects, writes = own.objects(), operator.writes(events=True)
    own.holds("unchanged objects", lambda: own.objects() == objects, QUIET_SECONDS)
    assert operator.writes(events=True) == writes


def _unchanging(own: Scene, operator: OperatorProcess) -> Callable[[], bool]:
    """True when nothing was written since the last look."""
    last: list[object] = [None]

    def check() -> bool:
        seen = (own.objects(), operator.writes(events=True))
        same, last[0] = seen == last[0], seen
        return same

    return check


def test_restart_in_steady_state_writes_nothing(own: Scene):
    operator = own.operators[0]
    own.create(serving={"rollbackWindow": "0s", "replicas": {"min": 2, "max": 5}})
    own.settle()
    own.until("nothing more to be written", _unchanging(own, operator))
    objects = own.objects()
    for end in (operator.stop, operator.kill):
        end()
        operator.start()
        own.until("the new operator to lead", operator.leads)
        own.holds("unchanged objects", lambda: own.objects() == objects, QUIET_SECONDS / 2)
        assert operator.writes(events=True) == {}


STAGES: dict[str, Callable[[Scene], object]] = {
    "training": lambda own: own.until_job("iris-v1-train"),
    "trained": lambda own: own.train(1),
    "evaluating": lambda own: (own.train(1), own.until_evaluation(1)),
    "evaluated": lambda own: (own.train(1), own.evaluate(1)),
    "champion": lambda own: (own.train(1), own.evaluate(1), own.until("champion", lambda: own.champion()[1])),
    "brought up": lambda own: (own.train(1), own.evaluate(1), own.bring_up(1)),
}


@pytest.mark.parametrize("stage", STAGES)
def test_restart_in_the_middle_goes_on_with_the_same_objects(own: Scene, stage: str):
    operator = own.operators[0]
    own.create()
    STAGES[stage](own)
    operator.kill()
    uids = {
        o["metadata"]["uid"] for kind in ("ModelVersion", "Job", "Deployment") for o in own.player.all(kind)
    }
    operator.start()
    own.settle()
    assert own.player.names("ModelVersion") == ["iris-v1"]
    assert len(own.player.names("Job")) == 2
    kept = {
        o["metadata"]["uid"] for kind in ("ModelVersion", "Job", "Deployment") for o in own.player.all(kind)
    }
    assert uids <= kept, "nothing was made twice"
    assert own.champion() == ("iris-v1", 1, "FirstVersion")


EDITS: dict[str, tuple[str, str, Object]] = {
    "target port": (
        "Service",
        "{model}",
        {"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 9}]}},
    ),
    "port that goes with no other": (
        "Service",
        "{model}",
        {"spec": {"ports": [{"port": 81, "targetPort": 9}]}},
    ),
    "selector of the stable Service": (
        "Service",
        "{model}",
        {"spec": {"selector": {"solera.dev/version": "x-v9"}}},
    ),
    "pods of the servers": (
        "Deployment",
        "{version}",
        {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}},
    ),
    "limits of the autoscaler": ("HorizontalPodAutoscaler", "{version}", {"spec": {"maxReplicas": 99}}),
    "disruption budget": ("PodDisruptionBudget", "{version}", {"spec": {"maxUnavailable": 7}}),
    "network policy": ("NetworkPolicy", "{model}", {"spec": {"ingress": [{}]}}),
    "token of the account": ("ServiceAccount", "{model}", {"automountServiceAccountToken": True}),
    "labels": ("Deployment", "{version}", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
    "owner": ("Service", "{model}", {"metadata": {"ownerReferences": None}}),
}


def test_what_somebody_edits_is_put_back(scene: Scene):
    scene.create()
    scene.serve(1)
    scene.settle()
    for what, (kind, name, patch) in EDITS.items():
        name = name.format(model=scene.name, version=scene.version(1))  # noqa: PLW2901 - the name as it is in this test
        before = scene.player.get(kind, name)
        changed = scene.api.ok(scene.api.patch(scene.player.path(kind, name), patch))
        assert _content(changed) != _content(before), what

        def restored(kind: str = kind, name: str = name, before: Object | None = before) -> bool:
            return _content(scene.player.get(kind, name)) == _content(before)

        scene.until(f"{what} to be put back", restored)
    assert scene.target() == scene.version(1)


def _content(obj: Object | None) -> Object:
    """An object without what every write changes."""
    assert obj is not None
    meta = {k: obj["metadata"].get(k) for k in ("labels", "ownerReferences", "name")}
    rest = {k: v for k, v in obj.items() if k not in {"metadata", "status", "apiVersion", "kind"}}
    return {"metadata": meta, **rest}


def test_what_somebody_deletes_comes_back(scene: Scene):
    scene.create()
    scene.serve(1)
    scene.settle()
    for kind in (
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ServiceAccount",
    ):
        names = scene.player.names(kind)
        for name in names:
            scene.player.remove(kind, name)
        scene.until(f"{kind} {names} to come back", lambda k=kind, n=names: scene.player.names(k) == n)
    scene.player.remove("Deployment", scene.version(1))
    scene.bring_up(1)
    scene.until_condition("Ready", "True")


def test_number_of_replicas_belongs_to_the_autoscaler(scene: Scene):
    scene.create(serving={"rollbackWindow": "0s", "replicas": {"min": 1, "max": 5}})
    scene.serve(1)
    v1 = scene.version(1)
    scene.player.scale(v1, 4)

    def replicas() -> int:
        found = scene.player.get("Deployment", v1)
        assert found is not None
        count: int = found["spec"]["replicas"]
        return count

    scene.player.roll(v1, 1, total=4, updated=4)
    scene.until("four wanted replicas in status", lambda: scene.status["serving"]["replicas"] == 4)
    assert scene.condition("Ready") == ("True", "Serving"), "scaling is no reason not to be Ready"
    scene.change(serving={"rollbackWindow": "1m"})
    scene.until("the change to be seen", lambda: scene.status["observedGeneration"] == 2)
    scene.holds("four replicas", lambda: replicas() == 4, 1)


def test_deleted_model_leaves_nothing_and_nothing_is_written_after(own: Scene):
    operator = own.operators[0]
    own.create()
    own.serve(1)
    own.retrain(2)
    own.until_job("iris-v2-train")
    own.delete()
    own.until("the operator to have seen the end", lambda: _cached(operator, "trainedmodels.solera.dev") == 0)
    writes = operator.writes()
    removed = own.player.collect_garbage()
    assert {"ModelVersion/iris-v1", "ModelVersion/iris-v2", "Job/iris-v2-train", "Service/iris"} <= set(
        removed
    )
    left = {kind: own.player.names(kind) for kind in ("ModelVersion", "Job", "Deployment", "Service")}
    assert left == {"ModelVersion": [], "Job": [], "Deployment": [], "Service": []}
    own.until("the operator to see it", lambda: _cached(operator, "jobs.batch") == 0)
    assert operator.writes() == writes
    assert not operator.troubles()


def _cached(operator: OperatorProcess, resource: str) -> int:
    line = f'solera_cache_objects{{resource="{resource}"}} '
    return int(float(operator.metrics().split(line)[1].split("\n")[0]))


@pytest.mark.parametrize("garbage", ["collected first", "collected late"])
def test_model_of_the_same_name_begins_anew(own: Scene, garbage: str):
    own.create()
    own.serve(1)
    first = own.live["metadata"]["uid"]
    own.delete()
    if garbage == "collected first":
        own.player.collect_garbage()
        own.create()
    else:
        own.create()
        own.until("the number to be reserved", lambda: own.status.get("lastVersion"))
        own.player.collect_garbage()
    own.serve(1)
    assert own.live["metadata"]["uid"] != first
    assert own.champion() == ("iris-v1", 1, "FirstVersion")
    for kind in ("ModelVersion", "Deployment", "Service", "NetworkPolicy", "ServiceAccount"):
        for item in own.player.all(kind):
            assert item["metadata"]["ownerReferences"][0]["uid"] == own.live["metadata"]["uid"]


def test_lost_message_is_read_from_the_store_by_a_report_job(scene: Scene):
    scene.create()
    v1 = scene.version(1)
    train = scene.until_job(f"{v1}-train")
    scene.player.complete(train, None)
    report = scene.until_job(f"{v1}-report-train")
    assert report["metadata"]["labels"]["solera.dev/component"] == "report"
    assert scene.player.names("Job") == [f"{v1}-report-train", f"{v1}-train"], "nothing is trained twice"
    scene.player.complete(report, train_result(train))

    evaluate = scene.until_evaluation(1)
    scene.player.complete(evaluate, None)
    name = evaluate["metadata"]["name"].replace("-evaluate-", "-report-")
    scene.player.complete(scene.until_job(name), evaluate_result(evaluate))
    scene.until("champion", lambda: scene.champion()[0] == v1)


def test_half_a_message_is_no_result(scene: Scene):
    scene.create()
    v1 = scene.version(1)
    train = scene.until_job(f"{v1}-train")
    cut = '{"kind":"train","ok":true,"artifact":{"uri":"s3://art'
    player = scene.player
    player.job_pod(train, ended("trainer", 0, cut))
    player.complete(train, None)
    player.complete(scene.until_job(f"{v1}-report-train"), train_result(train))
    scene.until_evaluation(1)
