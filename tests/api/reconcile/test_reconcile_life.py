"""From a created model to an answering one, and what an unchanged one costs."""

from player import evaluate_result, train_result
from scene import Scene


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
    assert scene.condition("Available") == ("True", "Serving")
    assert scene.condition("Reconciling") == ("", "")
    assert scene.condition("Stalled") == ("", "")
    assert scene.condition("Training") == ("", "")

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
