"""Where credentials come from, and in which order."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kubernetes.aio.config import ConfigException, incluster_config

from solera_operator.engine import credentials


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Callable[..., Path]:
    def write(**user: str) -> Path:
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1/"}}],
            "users": [{"name": "u", "user": user}],
        }
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The environment and files that the kubelet gives to a pod; returns the token's file."""
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    authority.write_bytes((Path(__file__).parent / "authority.pem").read_bytes())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    return token


async def test_a_kubeconfig_with_a_token(kubeconfig: Callable[..., Path]):
    found = await credentials.load(kubeconfig(token="secret"))
    assert found.server == "http://127.0.0.1:1"
    assert await found.authorization() == "Bearer secret"
    assert found.tls is None
    await found.close()


async def test_a_kubeconfig_without_a_token(kubeconfig: Callable[..., Path]):
    found = await credentials.load(kubeconfig())
    assert await found.authorization() is None
    await found.close()


async def test_the_environment_names_the_kubeconfig(
    kubeconfig: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(token="named")))
    found = await credentials.load()
    assert await found.authorization() == "Bearer named"
    await found.close()


async def test_a_pod_uses_its_service_account_and_reads_a_new_token(
    in_a_pod: Path, monkeypatch: pytest.MonkeyPatch
):
    found = await credentials.load()
    assert found.server == "https://10.0.0.1:443"
    assert found.tls is not None
    assert await found.authorization() == "bearer first"
    await asyncio.to_thread(in_a_pod.write_text, "second")  # the kubelet rotates it
    loader = incluster_config.datetime.datetime
    later = loader.now() + incluster_config.datetime.timedelta(minutes=2)

    class Later(loader):  # type: ignore[misc, valid-type] # a class that is looked up at run time
        @classmethod
        def now(cls, _: object = None) -> object:
            return later

    monkeypatch.setattr(incluster_config.datetime, "datetime", Later)
    assert await found.authorization() == "bearer second"


async def test_a_named_kubeconfig_comes_before_the_pods_account(
    in_a_pod: Path, kubeconfig: Callable[..., Path]
):
    found = await credentials.load(kubeconfig(token="named"))
    assert await found.authorization() == "Bearer named"
    await found.close()


async def test_nothing_to_be_found_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigException):
        await credentials.load(tmp_path / "nowhere")
