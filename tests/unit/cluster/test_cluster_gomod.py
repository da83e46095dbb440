import dataclasses

import pytest

from solera_cluster import gomod, parts, paths, versions
from solera_cluster.errors import ClusterError

KUBERNETES_GO_MOD = """\
module k8s.io/kubernetes

require (
	k8s.io/api v0.0.0
	k8s.io/klog/v2 v2.140.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/client-go => ./staging/src/k8s.io/client-go
)
replace k8s.io/kubelet => ./staging/src/k8s.io/kubelet
"""


def test_libraries_that_kubernetes_takes_from_its_own_tree_are_found():
    assert gomod.staged_libraries(KUBERNETES_GO_MOD) == ["k8s.io/api", "k8s.io/client-go", "k8s.io/kubelet"]


def test_rendered_module_requires_every_version_and_replaces_every_library():
    wanted = dataclasses.replace(versions.load(), kubernetes="1.99.3")
    text = gomod.render(wanted, ["k8s.io/api", "k8s.io/kubelet"])
    assert gomod.direct_requirements(text) == gomod.modules(wanted)
    assert "\tk8s.io/api => k8s.io/api v0.99.3\n" in text
    assert f"\ngo {wanted.go_minimum}\n" in text
    for part in parts.PARTS:
        assert (f"\t{part.package}\n" in text) != part.package.startswith("./"), part.name


def test_indirect_requirements_are_told_apart():
    text = (
        "require one.org/a v1.0.0\n\nrequire (\n\ttwo.org/b/v2 v2.0.0\n\tthree.org/c v0.1.0 // indirect\n)\n"
    )
    assert gomod.direct_requirements(text) == {"one.org/a": "v1.0.0", "two.org/b/v2": "v2.0.0"}


def test_committed_module_is_locked_to_the_versions_file():
    text = (paths.GO_MODULE / "go.mod").read_text()
    wanted = versions.load()
    locked = gomod.direct_requirements(text) | {
        name: version
        for name, version in gomod.modules(wanted).items()
        if f"\t{name} {version} // indirect" in text
    }
    assert locked == gomod.modules(wanted), "run `python3 -m solera_cluster lock`"
    assert f" => k8s.io/api v{wanted.kubernetes_libraries}\n" in text
    for part in parts.PARTS:
        assert part.package.startswith("./") or f"\t{part.package}\n" in text, part.name


def test_parts_are_selected_by_group_and_by_name_in_building_order():
    assert [part.name for part in parts.select(["kubelet", "etcd"])] == ["etcd", "kubelet"]
    assert parts.select([]) == parts.PARTS
    assert {part.group for part in parts.select(["node"])} == {"node"}
    assert [part.name for part in parts.select(["control-plane", "etcd"])].count("etcd") == 1


def test_unknown_part_is_refused_with_the_known_ones():
    with pytest.raises(ClusterError, match=r"no part kublet; write one of: .*kubelet"):
        parts.select(["kublet"])


def test_every_versioned_binary_is_told_its_version():
    wanted = versions.load()
    flags = {part.name: parts.linker_flags(part, wanted) for part in parts.PARTS}
    for name in ("kubectl", "kubelet", "kube-apiserver"):
        assert f"-X k8s.io/component-base/version.gitVersion=v{wanted.kubernetes}" in flags[name]
    assert f"version.Version=v{wanted.containerd}" in flags["containerd-shim-runc-v2"]
    assert f"main.Version=v{wanted.versitygw}" in flags["versitygw"]
    assert "-X" not in flags["pause"]
