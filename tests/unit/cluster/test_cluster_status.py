import dataclasses

from solera_cluster.status import Component, Status

RUNNING = Status(
    name="main",
    checkout="/home/someone/solera",
    server="https://10.221.0.1:6443",
    kubeconfig="/cache/cluster/main/kubeconfig",
    api_ready=True,
    node="True",
    components=(
        Component("etcd", 101, "/cache/cluster/main/logs/etcd.log"),
        Component("kube-apiserver", 102, "/cache/cluster/main/logs/kube-apiserver.log"),
    ),
)


def test_cluster_that_works():
    assert RUNNING.is_up
    text = RUNNING.describe()
    assert "main: up" in text
    assert "Ready=True" in text
    assert "  etcd            pid 101       /cache/cluster/main/logs/etcd.log" in text.splitlines()
    assert "kubeconfig  /cache/cluster/main/kubeconfig" in text.splitlines()


def test_each_thing_that_is_wrong_makes_it_not_up_and_shows():
    dead = (RUNNING.components[0], dataclasses.replace(RUNNING.components[1], pid=None))
    for change, shown in (
        ({"components": dead}, "kube-apiserver  NOT running"),
        ({"api_ready": False}, "does not answer"),
        ({"node": "False"}, "Ready=False"),
        ({"node": ""}, "Ready=unknown"),
    ):
        broken = dataclasses.replace(RUNNING, **change)
        assert not broken.is_up, change
        assert "main: NOT up" in broken.describe()
        assert shown in broken.describe()


def test_cluster_without_a_node_is_up_without_one():
    alone = dataclasses.replace(RUNNING, name="api", node=None)
    assert alone.is_up
    assert "node " not in alone.describe()
