"""containerd, the kubelet and kube-proxy: their configuration, start and readiness."""

import http.client
import json
import subprocess
from pathlib import Path

from solera_cluster import instance, network, paths, pause_image, processes
from solera_cluster.errors import ClusterError
from solera_cluster.instance import Instance
from solera_cluster.processes import Process

CONTAINERD = "containerd"
KUBELET = "kubelet"
KUBE_PROXY = "kube-proxy"

_READY_SECONDS = 120.0
_KUBELET_HEALTH_PORT = 10248
_PROXY_HEALTH_PORT = 10256
_PROXY_METRICS_PORT = 10249
LOOPBACK_PORTS = (_KUBELET_HEALTH_PORT, _PROXY_HEALTH_PORT, _PROXY_METRICS_PORT)


def socket(cluster: Path) -> Path:
    """Give containerd's socket below a cluster's directory."""
    return cluster / "run" / "containerd.sock"


def ctr(*arguments: str) -> str:
    """
    Run ctr in the namespace of Kubernetes against the main cluster's containerd; give its output.

    Raises ClusterError when containerd does not run or refuses.
    """
    address = socket(paths.cluster_dir(instance.MAIN))
    if not address.exists():
        raise ClusterError("containerd is not running; start the cluster with `up`")
    command = [str(paths.bin_dir() / "ctr"), "--address", str(address), "--namespace", "k8s.io", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"`ctr {' '.join(arguments)}` failed: {result.stderr.strip()[-800:]}")
    return result.stdout


def containerd_configuration(cluster: Path, binaries: Path, version: str) -> str:
    """Write containerd's TOML (version 3); images and snapshots outlive the cluster, all else does not."""
    run = cluster / "run"
    return f"""version = 3
root = {_quoted(images_directory(cluster))}
state = {_quoted(run / "containerd")}
disabled_plugins = [
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.differ.v1.erofs", "io.containerd.nri.v1.nri",
]

[grpc]
address = {_quoted(socket(cluster))}

[ttrpc]
address = {_quoted(run / "containerd.sock.ttrpc")}

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = {_quoted(pause_image.reference(version))}

[plugins.'io.containerd.cri.v1.runtime']
# Lowering a process's oom_score_adj needs CAP_SYS_RESOURCE, which root in a sandbox may lack.
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{_quoted(network.CNI_PLUGINS)}]
conf_dir = {_quoted(cluster / "cni" / "net.d")}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = {_quoted(binaries / "containerd-shim-runc-v2")}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "/usr/sbin/runc"
Root = {_quoted(run / "runc")}
SystemdCgroup = false

[plugins.'io.containerd.grpc.v1.cri']
disable_tcp_service = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
"""


def images_directory(cluster: Path) -> Path:
    """Give containerd's root, which `down` keeps: images take long to make."""
    return cluster / "containerd"


def _quoted(value: Path | str) -> str:
    return json.dumps(str(value))


def kubelet_configuration(made: Instance) -> dict[str, object]:
    """Give the KubeletConfiguration; it suits machines without systemd, cgroup v2 or a registry."""
    pki = made.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": _KUBELET_HEALTH_PORT,
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{socket(made.directory)}",
        "clusterDNS": [network.DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(made.directory / "resolv.conf"),
        "podLogsDir": str(made.directory / "pod-logs"),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        # An image that the kubelet removed could not be pulled again: there is no registry.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "200Mi"},
    }


def kube_proxy_configuration(made: Instance) -> dict[str, object]:
    """Give the KubeProxyConfiguration: nftables, and nothing listens beyond the node's address."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(made.kubeconfig(KUBE_PROXY))},
        "mode": "nftables",
        "hostnameOverride": network.NODE_NAME,
        "clusterCIDR": network.POD_CIDR,
        "detectLocalMode": "ClusterCIDR",
        "nodePortAddresses": [f"{network.NODE_ADDRESS}/32"],
        "healthzBindAddress": f"127.0.0.1:{_PROXY_HEALTH_PORT}",
        "metricsBindAddress": f"127.0.0.1:{_PROXY_METRICS_PORT}",
        "conntrack": {"maxPerCore": 0},
        "oomScoreAdj": 0,
    }


def process(made: Instance, name: str) -> Process:
    """Give the process of that name of a cluster."""
    return Process(name, made.directory / "pids", made.logs)


def _write_configuration(made: Instance, binaries: Path, pause_version: str) -> Path:
    directory = made.directory / "config"
    for needed in (directory, made.directory / "run", made.directory / "kubelet"):
        needed.mkdir(parents=True, exist_ok=True)
    network.write_cni_configuration(made.directory / "cni" / "net.d", made.directory / "cni" / "leases")
    (made.directory / "resolv.conf").write_text("# Pods resolve the cluster's own names only.\n")
    (directory / "containerd.toml").write_text(
        containerd_configuration(made.directory, binaries, pause_version)
    )
    (directory / "kubelet.json").write_text(json.dumps(kubelet_configuration(made), indent=2))
    (directory / "kube-proxy.json").write_text(json.dumps(kube_proxy_configuration(made), indent=2))
    return directory


def _containerd_answers() -> bool:
    try:
        ctr("version")
    except ClusterError:
        return False
    return True


def start(made: Instance, binaries: Path, pause_version: str) -> None:
    """Start what is not running of the node; returns before the node is Ready."""
    configuration = _write_configuration(made, binaries, pause_version)
    containerd = process(made, CONTAINERD)
    containerd.start([binaries / CONTAINERD, "--config", configuration / "containerd.toml"])
    containerd.wait_until(_containerd_answers, "it answers", _READY_SECONDS)
    if not (made.directory / "kubelet" / "pods").exists():
        _remove_containers()  # of an earlier cluster that was not stopped but died
    if pause_image.reference(pause_version) not in ctr("images", "ls", "-q").split():
        archive = made.directory / "run" / "pause.tar"
        pause_image.write(archive, binaries / "pause", pause_version)
        ctr("images", "import", str(archive))
        archive.unlink()
    process(made, KUBE_PROXY).start([binaries / KUBE_PROXY, "--config", configuration / "kube-proxy.json"])
    process(made, KUBELET).start(
        [
            binaries / KUBELET,
            f"--config={configuration / 'kubelet.json'}",
            f"--kubeconfig={made.kubeconfig(KUBELET)}",
            f"--hostname-override={network.NODE_NAME}",
            f"--node-ip={network.NODE_ADDRESS}",
            f"--root-dir={made.directory / 'kubelet'}",
            f"--cert-dir={made.pki}",
        ]
    )


def _kubectl(made: Instance, *arguments: str) -> str:
    command = [str(paths.bin_dir() / "kubectl"), f"--kubeconfig={made.kubeconfig()}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def readiness(made: Instance) -> str:
    """Give the status of the node's Ready condition ("True", "False", "Unknown"), "" without a node."""
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return _kubectl(made, "get", "node", network.NODE_NAME, "-o", ready, "--request-timeout=3s")


def _kubelet_answers() -> bool:
    """Whether the kubelet works: the node's condition alone may be what it was before the kubelet ended."""
    connection = http.client.HTTPConnection("127.0.0.1", _KUBELET_HEALTH_PORT, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_ready(made: Instance) -> None:
    """Wait for the node's Ready condition; raises ClusterError with the end of the kubelet's log."""
    process(made, KUBELET).wait_until(
        lambda: _kubelet_answers() and readiness(made) == "True",
        f"node {network.NODE_NAME} is Ready",
        _READY_SECONDS,
    )


def stop(made: Instance) -> None:
    """Stop the kubelet and kube-proxy, then every container, then containerd and its shims."""
    process(made, KUBELET).stop(patience=5)
    process(made, KUBE_PROXY).stop(patience=5)
    if process(made, CONTAINERD).pid():
        _remove_containers()
    process(made, CONTAINERD).stop(patience=10)
    stray = processes.running_from(paths.cache_dir() / "bin", str(made.directory))
    processes.end(stray, patience=0)


def _remove_containers() -> None:
    """Kill and forget all containers and sandboxes, while containerd still runs."""
    for task in ctr("tasks", "ls", "-q").split():
        _tolerantly("tasks", "kill", "--all", "--signal", "SIGKILL", task)
    for task in ctr("tasks", "ls", "-q").split():
        _tolerantly("tasks", "delete", "--force", task)
    for container in ctr("containers", "ls", "-q").split():
        _tolerantly("containers", "delete", container)
    for line in ctr("sandboxes", "ls").splitlines()[1:]:
        _tolerantly("sandboxes", "remove", "--force", line.split()[0])


def _tolerantly(*arguments: str) -> None:
    """Run ctr for something that may have ended by itself; what remains is found by `leftovers`."""
    try:
        ctr(*arguments)
    except ClusterError:
        return
