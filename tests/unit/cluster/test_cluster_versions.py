import json
import re

import pytest

from solera_cluster import versions
from solera_cluster.errors import ClusterError

TEXT = versions.VERSIONS_FILE.read_text()


def test_the_versions_file_is_complete_and_well_formed():
    loaded = versions.parse(TEXT)
    assert re.fullmatch(r"1\.\d+\.\d+", loaded.kubernetes)
    assert loaded.kubernetes_libraries == loaded.kubernetes.replace("1.", "0.", 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('etcd = "', 'etcd = "v', 'etcd is .*write a version such as "1.2.3", without v'),
        ("etcd = ", "ectd = ", "does not name a version of: etcd"),
        ("[components]", '[components]\nk3s = "1.0.0"', "nothing uses: k3s"),
        ('suite = "bookworm"', "", "does not name a version of: debian_suite"),
        ("[components]", "[components", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(old, new, message):
    with pytest.raises(ClusterError, match=message):
        versions.parse(TEXT.replace(old, new, 1))


def test_a_number_instead_of_text_is_refused():
    with pytest.raises(ClusterError, match=r"coredns is 1\.14"):
        versions.parse(re.sub(r'coredns = "[^"]+"', "coredns = 1.14", TEXT))


def test_key_follows_what_is_compiled_and_nothing_else():
    loaded = versions.parse(TEXT)
    key = loaded.key("1.26.8")
    assert key == versions.parse(TEXT).key("1.26.8")
    assert key.startswith(f"{loaded.kubernetes}-")
    assert key != loaded.key("1.26.9")
    assert key != versions.parse(re.sub(r'coredns = "[^"]+"', 'coredns = "9.9.9"', TEXT)).key("1.26.8")
    assert key == versions.parse(re.sub(r'envoy = "[^"]+"', 'envoy = "9.9.9"', TEXT)).key("1.26.8")
    assert key == versions.parse(TEXT.replace('"bookworm"', '"trixie"')).key("1.26.8")


@pytest.mark.parametrize(
    ("text", "expected"), [("1.26.8", (1, 26, 8)), ("go1.27", (1, 27)), ("v1.37.2-rc.1", (1, 37, 2))]
)
def test_versions_compare_as_numbers(text, expected):
    assert versions.as_tuple(text) == expected


def test_kind_runs_the_same_minor_version_of_kubernetes():
    loaded = versions.load()
    minor = loaded.kubernetes.rpartition(".")[0]
    assert f":v{minor}." in loaded.kind_node_image, json.dumps(loaded.kind_node_image)


def test_the_pinned_uv_is_the_named_one():
    pinned = (versions.VERSIONS_FILE.parents[1] / "requirements" / "uv.txt").read_text()
    assert pinned.startswith(f"uv=={versions.parse(TEXT).python_uv} ")
