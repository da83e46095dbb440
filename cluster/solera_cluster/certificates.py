"""Certificate authorities and certificates, by the openssl command; all of a cluster's traffic is TLS."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from solera_cluster import network
from solera_cluster.errors import ClusterError
from solera_cluster.instance import Instance

_DAYS = "3650"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """
    One key pair.

    `subject` is in openssl's form ("/O=group/CN=name"), `names` are subject alternative names ("DNS:…",
    "IP:…"), `authority` the file name of the authority that signs it.
    """

    name: str
    subject: str
    names: Sequence[str] = ()
    authority: str = "ca"


AUTHORITIES = ("ca", "etcd-ca", "front-proxy-ca")


def wanted(instance: Instance) -> list[Certificate]:
    """List every certificate of a cluster."""
    server_names = [
        "DNS:localhost",
        "DNS:kubernetes",
        "DNS:kubernetes.default",
        "DNS:kubernetes.default.svc",
        "DNS:kubernetes.default.svc.cluster.local",
        f"IP:{network.API_SERVICE_ADDRESS}",
        "IP:127.0.0.1",
        f"IP:{instance.address}",
    ]
    local = ["DNS:localhost", "IP:127.0.0.1"]
    certificates = [
        Certificate("etcd", "/CN=etcd", local, "etcd-ca"),
        Certificate("etcd-client", "/CN=kube-apiserver", (), "etcd-ca"),
        Certificate("kube-apiserver", "/CN=kube-apiserver", server_names),
        Certificate("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
        Certificate("front-proxy-client", "/CN=front-proxy-client", (), "front-proxy-ca"),
        Certificate("admin", "/O=system:masters/CN=solera-admin"),
        Certificate("kube-controller-manager", "/CN=system:kube-controller-manager", local),
    ]
    if instance.has_node:
        node = [f"DNS:{network.NODE_NAME}", f"IP:{network.NODE_ADDRESS}"]
        certificates += [
            Certificate("kube-scheduler", "/CN=system:kube-scheduler", local),
            Certificate("kube-proxy", "/CN=system:kube-proxy"),
            Certificate("kubelet", f"/O=system:nodes/CN=system:node:{network.NODE_NAME}", node),
        ]
    return certificates


def ensure(instance: Instance) -> None:
    """Make the authorities, keys and certificates that are missing; raises ClusterError without openssl."""
    if shutil.which("openssl") is None:
        raise ClusterError("openssl is missing; install it (`apt-get install openssl`)")
    directory = instance.pki
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for authority in AUTHORITIES:
        if not (directory / f"{authority}.crt").exists():
            _make_authority(directory, authority, instance.name)
    for certificate in wanted(instance):
        if not (directory / f"{certificate.name}.crt").exists():
            _make_certificate(directory, certificate)
    key, public = directory / "service-accounts.key", directory / "service-accounts.pub"
    if not public.exists():
        _openssl(
            directory, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key.name
        )
        _openssl(directory, "pkey", "-in", key.name, "-pubout", "-out", public.name)


def _make_authority(directory: Path, name: str, cluster: str) -> None:
    _openssl(
        directory, "req", "-x509", *_CURVE, "-days", _DAYS, "-subj", f"/CN=solera-{cluster}-{name}",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        "-keyout", f"{name}.key", "-out", f"{name}.crt",
    )  # fmt: skip


def _make_certificate(directory: Path, certificate: Certificate) -> None:
    extensions = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature,keyEncipherment",
        "extendedKeyUsage=clientAuth,serverAuth",
    ]
    if certificate.names:
        extensions.append("subjectAltName=" + ",".join(certificate.names))
    name = certificate.name
    (directory / f"{name}.ext").write_text("\n".join(extensions))
    request = ("-subj", certificate.subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
    _openssl(directory, "req", "-new", *_CURVE, *request)
    _openssl(
        directory, "x509", "-req", "-in", f"{name}.csr", "-days", _DAYS, "-extfile", f"{name}.ext",
        "-CA", f"{certificate.authority}.crt", "-CAkey", f"{certificate.authority}.key", "-CAcreateserial",
        "-out", f"{name}.unfinished",
    )  # fmt: skip
    (directory / f"{name}.unfinished").replace(directory / f"{name}.crt")
    for scratch in ("csr", "ext"):
        (directory / f"{name}.{scratch}").unlink()


def _openssl(directory: Path, *arguments: str) -> None:
    result = subprocess.run(
        ["openssl", *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise ClusterError(f"`openssl {' '.join(arguments)}` failed: {result.stderr.strip()[-800:]}")
