"""Kubeconfig files; JSON, which every reader of YAML reads."""

import base64
import json
from pathlib import Path

from solera_cluster.instance import Instance

COMPONENTS = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")


def render(server: str, context: str, authority: bytes, certificate: bytes, key: bytes) -> str:
    """Write a kubeconfig that holds its certificates, so that the file can be copied."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    cluster = {"server": server, "certificate-authority-data": encoded(authority)}
    user = {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": context, "user": user}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
    }
    return json.dumps(document, indent=2) + "\n"


def write_all(instance: Instance) -> None:
    """Write the admin's kubeconfig and one for each component that has a certificate."""
    for user in ("admin", *COMPONENTS):
        certificate = instance.pki / f"{user}.crt"
        if certificate.exists():
            _write(instance, user, certificate)


def _write(instance: Instance, user: str, certificate: Path) -> None:
    text = render(
        instance.server,
        f"solera-{instance.name}",
        (instance.pki / "ca.crt").read_bytes(),
        certificate.read_bytes(),
        (instance.pki / f"{user}.key").read_bytes(),
    )
    target = instance.kubeconfig(user)
    if not target.exists() or target.read_text() != text:
        target.touch(mode=0o600)
        target.write_text(text)
