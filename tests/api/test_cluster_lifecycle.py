"""The cluster tool itself, on API servers of its own beside whatever else is running."""

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from solera_cluster import build, instance, paths, processes, status

NAME = f"lifecycle-{os.getpid()}"  # several test runs may share the machine


def run(*arguments: str, checkout: Path = paths.CHECKOUT) -> "subprocess.CompletedProcess[str]":
    """Run the tool of a checkout in a process of its own, as a person would."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "cluster"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "solera_cluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=900)


def succeed(*arguments: str, checkout: Path = paths.CHECKOUT) -> str:
    result = run(*arguments, checkout=checkout)
    assert result.returncode == 0, f"{arguments} failed:\n{result.stdout}\n{result.stderr}"
    return result.stdout.strip()


def up(*arguments: str, checkout: Path = paths.CHECKOUT) -> str:
    return succeed("up", "--api-only", "--name", NAME, *arguments, checkout=checkout)


def kubectl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    kubeconfig = paths.cluster_dir(NAME) / "kubeconfig"
    command = [str(build.ensure(["kubectl"]) / "kubectl"), f"--kubeconfig={kubeconfig}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def pids() -> dict[str, int | None]:
    seen = status.observe(NAME)
    assert seen is not None
    return {component.name: component.pid for component in seen.components}


def http_status(port: int, path: str, context: ssl.SSLContext) -> int | None:
    """Give the status of the answer; None when the connection was refused."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    run("down", "--name", NAME)
    shutil.rmtree(paths.cluster_dir(NAME), ignore_errors=True)
    paths.cluster_dir(NAME).with_suffix(".lock").unlink(missing_ok=True)


def test_up_twice_then_down_leaves_nothing():
    kubeconfig = up()
    assert kubeconfig == succeed("kubeconfig", "--name", NAME)
    assert Path(kubeconfig).stat().st_mode & 0o077 == 0, "the kubeconfig holds the admin's key"
    version = kubectl("version").stdout
    assert "Server Version: v1.37." in version, version
    made, before = instance.read(NAME), pids()
    assert made is not None
    assert all(before.values())
    assert "up" in succeed("status", "--name", NAME).splitlines()[0]

    up()
    assert pids() == before, "what ran was left alone"

    succeed("down", "--name", NAME)
    assert processes.running_from(paths.cache_dir() / "bin", str(made.directory)) == []
    assert sorted(entry.name for entry in made.directory.iterdir()) == ["logs"]
    for port in made.ports.values():
        socket.create_server(("127.0.0.1", port)).close()
    assert run("status", "--name", NAME).returncode == 1
    succeed("down", "--name", NAME)


def test_traffic_without_a_certificate_is_refused():
    up()
    made = instance.read(NAME)
    assert made is not None
    pki = made.pki
    stranger = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    assert http_status(made.ports["kube-apiserver"], "/api/v1/pods", stranger) == 403

    to_etcd = ssl.create_default_context(cafile=str(pki / "etcd-ca.crt"))
    assert http_status(made.ports["etcd"], "/version", to_etcd) is None, "etcd answered a stranger"
    to_etcd.load_cert_chain(pki / "etcd-client.crt", pki / "etcd-client.key")
    assert http_status(made.ports["etcd"], "/version", to_etcd) == 200


@pytest.mark.parametrize("victim", ["etcd", "kube-apiserver"])
def test_killed_process_is_seen_and_started_again_with_its_data(victim):
    up()
    assert kubectl("create", "namespace", "kept").returncode == 0
    pid = pids()[victim]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    processes.end([pid], patience=0)
    broken = run("status", "--name", NAME)
    assert broken.returncode == 1
    assert any(victim in line and "NOT running" in line for line in broken.stdout.splitlines()), broken.stdout
    up()
    assert kubectl("get", "namespace", "kept").returncode == 0
    succeed("status", "--name", NAME)


def test_controllers_come_and_go():
    up()
    account = ("get", "serviceaccount", "default", "--namespace", "default")
    assert "NotFound" in kubectl(*account).stderr
    up("--controllers")
    assert kubectl(*account).returncode == 0, "up returns when pods can be made"
    assert "kube-controller-manager" in pids()
    up()
    assert "kube-controller-manager" not in pids()


def test_another_checkout_is_told_what_to_do_and_may_take_over_or_stop(tmp_path):
    other = tmp_path / "other checkout"
    shutil.copytree(
        paths.CHECKOUT / "cluster", other / "cluster", ignore=shutil.ignore_patterns("__pycache__")
    )
    up()
    assert kubectl("create", "namespace", "first").returncode == 0
    refused = run("up", "--api-only", "--name", NAME, checkout=other)
    assert refused.returncode == 1
    assert f"started from another checkout, {paths.CHECKOUT}" in refused.stderr
    assert f"`down --name {NAME}`" in refused.stderr
    assert "--takeover" in refused.stderr
    assert kubectl("get", "namespace", "first").returncode == 0, "a refusal changes nothing"

    up("--takeover", checkout=other)
    assert f"started by  {other}" in succeed("status", "--name", NAME, checkout=other)
    assert "NotFound" in kubectl("get", "namespace", "first").stderr

    succeed("down", "--name", NAME)


def test_wrong_combinations_are_refused():
    for arguments, message in (
        (("up", "--controllers"), "--controllers goes with --api-only"),
        (("up", "--name", "other"), "any other name goes with --api-only"),
        (("up", "--api-only", "--name", "main"), "any other name goes with --api-only"),
        (("up", "--api-only", "--name", "../x"), "is no cluster name"),
    ):
        refused = run(*arguments)
        assert refused.returncode == 1, arguments
        assert message in refused.stderr
