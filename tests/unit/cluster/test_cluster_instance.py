import json
import stat

import pytest

from solera_cluster import instance, lifecycle, paths
from solera_cluster.errors import ClusterError


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SOLERA_CACHE", str(tmp_path / "cache"))


def test_record_reads_back_and_is_private():
    made = instance.create("api", controllers=True)
    assert instance.read("api") == made
    assert instance.names() == ["api"]
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o700
    assert made.checkout == str(paths.CHECKOUT)
    assert made.server == f"https://127.0.0.1:{made.ports['kube-apiserver']}"


def test_main_is_on_the_nodes_address_and_others_on_free_ports_of_loopback():
    assert instance.create("main", controllers=True).server == "https://10.221.0.1:6443"
    one = instance.create("one", controllers=False)
    two = instance.create("two", controllers=False)
    assert len({*one.ports.values(), *two.ports.values()}) >= len(one.ports) + 1
    assert not one.has_node


@pytest.mark.parametrize("name", ["", "Main", "a/b", "../x", "1a", "a" * 22, "kind", "a b"])
def test_names_that_are_no_directory_of_ours_are_refused(name):
    with pytest.raises(ClusterError, match="is no cluster name"):
        instance.create(name, controllers=False)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ports": {}}'])
def test_damaged_record_says_what_to_do(text):
    made = instance.create("api", controllers=False)
    (made.directory / "instance.json").write_text(text)
    with pytest.raises(ClusterError, match=r"damaged .*run `down --name api`"):
        instance.read("api")
    assert lifecycle.down("api")
    assert instance.read("api") is None


def test_forgetting_keeps_what_is_named():
    made = instance.create("api", controllers=False)
    for name in ("pki", "logs", "etcd"):
        (made.directory / name).mkdir()
    instance.forget("api", keep=("logs",))
    assert [entry.name for entry in made.directory.iterdir()] == ["logs"]
    instance.forget("never-there", keep=())


def test_cluster_of_another_checkout_or_of_other_versions_is_refused_with_the_reason():
    made = instance.create("api", controllers=False)
    assert lifecycle.refusal(made, made.checkout, made.binaries) is None
    assert "another checkout" in (lifecycle.refusal(made, "/elsewhere", made.binaries) or "")
    assert "other versions" in (lifecycle.refusal(made, made.checkout, "/other") or "")


def test_a_dead_cluster_of_another_checkout_is_cleared_away(capsys):
    made = instance.create("api", controllers=False)
    record = made.directory / "instance.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "checkout": "/elsewhere"}))
    assert lifecycle.usable("api", takeover=False) is None
    assert instance.read("api") is None
    assert (
        "Clearing away cluster api: it was started from another checkout, /elsewhere."
        in capsys.readouterr().err
    )


def test_nothing_to_stop():
    assert lifecycle.down("api") is False
