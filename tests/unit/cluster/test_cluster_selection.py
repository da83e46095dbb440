import pytest

from solera_cluster import selection
from solera_cluster.errors import ClusterError
from solera_cluster.selection import Target


@pytest.mark.parametrize(
    ("wanted", "docker", "kind", "kubeconfig", "expected"),
    [
        ("auto", True, True, "", Target.KIND),
        ("auto", True, False, "", Target.LOCAL),
        ("auto", False, True, "", Target.LOCAL),
        ("auto", False, False, "/some/kubeconfig", Target.LOCAL),
        ("local", True, True, "", Target.LOCAL),
        ("kind", True, True, "", Target.KIND),
        ("existing", True, True, "/some/kubeconfig", Target.EXISTING),
    ],
)
def test_choice(wanted, docker, kind, kubeconfig, expected):
    assert selection.choose(wanted, docker, kind, kubeconfig) is expected


@pytest.mark.parametrize(
    ("wanted", "docker", "kind", "message"),
    [
        ("existing", False, False, "needs KUBECONFIG"),
        ("kind", False, True, "needs a Docker daemon that answers"),
        ("kind", True, False, "needs the program kind"),
        ("minikube", True, True, "unknown; write one of: auto, local, kind, existing"),
    ],
)
def test_a_setting_that_cannot_be_followed_says_why(wanted, docker, kind, message):
    with pytest.raises(ClusterError, match=message):
        selection.choose(wanted, docker, kind, "")


def test_the_environment_decides(monkeypatch, tmp_path):
    monkeypatch.setenv("CLUSTER", "existing")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert selection.current() is Target.EXISTING
    monkeypatch.setenv("CLUSTER", "local")
    assert selection.current() is Target.LOCAL
    monkeypatch.setenv("CLUSTER", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert selection.current() is Target.LOCAL, "neither kind nor docker is on PATH"
