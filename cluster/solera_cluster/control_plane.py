"""etcd, the API server, the controller manager and the scheduler: their settings, start and readiness."""

import http.client
import ssl
from pathlib import Path

from solera_cluster import network
from solera_cluster.instance import Instance
from solera_cluster.processes import Process

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"

_READY_SECONDS = 90.0
_SCHEDULER_PORT = 10259


def etcd_flags(instance: Instance) -> list[str]:
    """One member, TLS on both ports; a power cut may lose its last writes, which this cluster can bear."""
    pki = instance.pki
    client = f"https://127.0.0.1:{instance.ports['etcd']}"
    peer = f"https://127.0.0.1:{instance.ports['etcd-peer']}"
    return [
        "--name=solera",
        f"--data-dir={instance.directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=solera={peer}",
        f"--cert-file={pki / 'etcd.crt'}",
        f"--key-file={pki / 'etcd.key'}",
        "--client-cert-auth",
        f"--trusted-ca-file={pki / 'etcd-ca.crt'}",
        f"--peer-cert-file={pki / 'etcd.crt'}",
        f"--peer-key-file={pki / 'etcd.key'}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={pki / 'etcd-ca.crt'}",
        "--unsafe-no-fsync",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=10m",
        "--log-level=warn",
    ]


def api_server_flags(instance: Instance, controllers: bool) -> list[str]:
    """
    Flags of the API server; admission is upstream's default.

    Without the controller manager nobody makes the default service accounts, so their admission is off then,
    or no pod could be created.
    """
    pki = instance.pki
    flags = [
        f"--advertise-address={instance.address}",
        f"--bind-address={instance.address}",
        f"--secure-port={instance.ports[API_SERVER]}",
        f"--etcd-servers=https://127.0.0.1:{instance.ports['etcd']}",
        f"--etcd-cafile={pki / 'etcd-ca.crt'}",
        f"--etcd-certfile={pki / 'etcd-client.crt'}",
        f"--etcd-keyfile={pki / 'etcd-client.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'kube-apiserver.crt'}",
        f"--tls-private-key-file={pki / 'kube-apiserver.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        # The node's name resolves nowhere: without this order, logs, exec and port-forward fail.
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--service-cluster-ip-range={network.SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--enable-aggregator-routing=true",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
        "--profiling=false",
    ]
    if not instance.has_node:
        # An address on loopback may not be published as the endpoint of the service `kubernetes`.
        flags.append("--endpoint-reconciler-type=none")
    if not controllers:
        flags.append("--disable-admission-plugins=ServiceAccount")
    return flags


def controller_manager_flags(instance: Instance) -> list[str]:
    """Flags of the controller manager; the autoscaler looks every 5 s so that tests need not wait long."""
    pki = instance.pki
    kubeconfig = instance.kubeconfig(CONTROLLER_MANAGER)
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={instance.ports[CONTROLLER_MANAGER]}",
        f"--tls-cert-file={pki / 'kube-controller-manager.crt'}",
        f"--tls-private-key-file={pki / 'kube-controller-manager.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--use-service-account-credentials=true",
        f"--service-cluster-ip-range={network.SERVICE_CIDR}",
        f"--cluster-cidr={network.POD_CIDR}",
        "--allocate-node-cidrs=false",
        "--leader-elect=false",
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--profiling=false",
    ]


def scheduler_flags(instance: Instance) -> list[str]:
    """Flags of the scheduler."""
    pki = instance.pki
    kubeconfig = instance.kubeconfig(SCHEDULER)
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={_SCHEDULER_PORT}",
        f"--tls-cert-file={pki / 'kube-scheduler.crt'}",
        f"--tls-private-key-file={pki / 'kube-scheduler.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--leader-elect=false",
        "--profiling=false",
    ]


def process(instance: Instance, name: str) -> Process:
    """Give the process of that name of a cluster."""
    return Process(name, instance.directory / "pids", instance.logs)


def answers_ready(instance: Instance) -> bool:
    """Whether the API server says on /readyz that it is ready."""
    return _get_succeeds(instance, "/readyz")


def _takes_pods(instance: Instance) -> bool:
    """Whether the controller manager has made the service account without which no pod can be created."""
    return _get_succeeds(instance, "/api/v1/namespaces/default/serviceaccounts/default")


def _get_succeeds(instance: Instance, path: str) -> bool:
    context = ssl.create_default_context(cafile=str(instance.pki / "ca.crt"))
    context.load_cert_chain(instance.pki / "admin.crt", instance.pki / "admin.key")
    connection = http.client.HTTPSConnection(
        instance.address, instance.ports[API_SERVER], timeout=2, context=context
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def start(instance: Instance, binaries: Path, controllers: bool) -> None:
    """
    Start what is not running and return when the API server is ready and takes pods.

    The others start after it: earlier, the controller manager ends, because its roles are not there yet.
    """
    process(instance, ETCD).start([binaries / ETCD, *etcd_flags(instance)])
    server = process(instance, API_SERVER)
    server.start([binaries / API_SERVER, *api_server_flags(instance, controllers)])
    server.wait_until(lambda: answers_ready(instance), "/readyz answers", _READY_SECONDS)
    if controllers:
        manager = process(instance, CONTROLLER_MANAGER)
        manager.start([binaries / CONTROLLER_MANAGER, *controller_manager_flags(instance)])
        manager.wait_until(lambda: _takes_pods(instance), "it makes service accounts", _READY_SECONDS)
    if instance.has_node:
        process(instance, SCHEDULER).start([binaries / SCHEDULER, *scheduler_flags(instance)])
