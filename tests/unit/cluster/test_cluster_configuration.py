import json
import tarfile
import tomllib

import pytest

from solera_cluster import (
    control_plane,
    instance,
    kubeconfig,
    network,
    node,
    pause_image,
    progress,
    toolchain,
)


@pytest.fixture
def main(monkeypatch, tmp_path):
    monkeypatch.setenv("SOLERA_CACHE", str(tmp_path / "cache with a blank"))
    return instance.create("main", controllers=True)


def value(flags, name):
    return next(flag.split("=", 1)[1] for flag in flags if flag.startswith(f"--{name}="))


def test_nothing_listens_beyond_the_machine(main):
    api = instance.create("api", controllers=False)
    for made in (main, api):
        etcd = control_plane.etcd_flags(made)
        for name in ("listen-client-urls", "listen-peer-urls"):
            assert value(etcd, name).startswith("https://127.0.0.1:")
        assert value(control_plane.api_server_flags(made, controllers=True), "bind-address") == made.address
        assert value(control_plane.controller_manager_flags(made), "bind-address") == "127.0.0.1"
    assert value(control_plane.scheduler_flags(main), "bind-address") == "127.0.0.1"
    kubelet = node.kubelet_configuration(main)
    assert (kubelet["address"], kubelet["healthzBindAddress"], kubelet["readOnlyPort"]) == (
        network.NODE_ADDRESS, "127.0.0.1", 0,
    )  # fmt: skip
    proxy = node.kube_proxy_configuration(main)
    assert str(proxy["healthzBindAddress"]).startswith("127.0.0.1:")
    assert str(proxy["metricsBindAddress"]).startswith("127.0.0.1:")
    assert proxy["nodePortAddresses"] == ["10.221.0.1/32"]


def test_pods_can_be_made_without_service_accounts_only_where_nobody_makes_those(main):
    assert "--disable-admission-plugins=ServiceAccount" in control_plane.api_server_flags(
        main, controllers=False
    )
    assert not any(
        "disable-admission" in flag for flag in control_plane.api_server_flags(main, controllers=True)
    )


def test_containerd_configuration_is_valid_toml_with_odd_paths(main):
    parsed = tomllib.loads(node.containerd_configuration(main.directory, main.directory / "bin", "1"))
    assert parsed["root"] == str(main.directory / "containerd")
    images = parsed["plugins"]["io.containerd.cri.v1.images"]
    assert images["pinned_images"]["sandbox"] == "localhost/pause:1"


def test_pods_find_the_dns_service(main):
    assert node.kubelet_configuration(main)["clusterDNS"] == ["10.223.0.10"]


def test_kubeconfig_holds_its_certificates():
    document = json.loads(kubeconfig.render("https://x:1", "solera-main", b"ca", b"cert", b"key"))
    assert document["current-context"] == "solera-main"
    assert document["clusters"][0]["cluster"] == {
        "server": "https://x:1",
        "certificate-authority-data": "Y2E=",
    }
    assert document["users"][0]["user"]["client-key-data"] == "a2V5"


def test_pause_image_is_a_complete_archive(tmp_path):
    (tmp_path / "pause").write_bytes(b"\x7fELF")
    pause_image.write(tmp_path / "pause.tar", tmp_path / "pause", "1")
    with tarfile.open(tmp_path / "pause.tar") as tar:
        content = {name: tar.extractfile(name).read() for name in tar.getnames()}
    described = json.loads(content["index.json"])["manifests"][0]
    assert described["annotations"] == {"io.containerd.image.name": "localhost/pause:1"}
    manifest = json.loads(content["blobs/sha256/" + described["digest"].removeprefix("sha256:")])
    for blob in (manifest["config"], *manifest["layers"]):
        assert len(content["blobs/sha256/" + blob["digest"].removeprefix("sha256:")]) == blob["size"]


@pytest.mark.parametrize(
    ("found", "enough"), [("1.26.7", True), ("1.27", True), ("1.26", False), ("1.9.9", False), (None, False)]
)
def test_go_is_new_enough(found, enough):
    assert toolchain.new_enough(found, "1.26.7") is enough


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (119.4, "119 s"), (185, "3 min 05 s")],
)
def test_durations_are_for_people(seconds, text):
    assert progress.duration(seconds) == text


def test_a_step_says_what_it_does_and_how_it_ends(capsys):
    with progress.step("compiling etcd", expected_seconds=60):
        pass
    with pytest.raises(ZeroDivisionError), progress.step("dividing"):
        raise ZeroDivisionError
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  compiling etcd (usually about 60 s)"
    assert lines[1].startswith("    took ")
    assert lines[3].startswith("    failed after ")
