"""The Pod Security Standard "restricted" as a checker, after the published list of its controls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VOLUME_TYPES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
    "secret",
}  # fmt: skip
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
}  # fmt: skip
SECCOMP_TYPES = {"RuntimeDefault", "Localhost"}


def violations(pod: dict[str, Any]) -> list[str]:
    """What in a pod's spec "restricted" forbids, a sentence each; empty if nothing."""
    return [*_of_the_pod(pod), *(v for c in _containers(pod) for v in _of_a_container(c, pod))]


def _containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(kind, [])


def _of_the_pod(pod: dict[str, Any]) -> Iterator[str]:
    context = pod.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is set"
    for volume in pod.get("volumes", []):
        for kind in set(volume) - {"name"}:
            if kind not in VOLUME_TYPES:
                yield f"volume {volume['name']} is a {kind}"
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _of_a_context("pod", context)


def _of_a_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    name, outer = f"container {container['name']}", pod.get("securityContext", {})
    context = container.get("securityContext", {})
    yield from _of_a_context(name, context)
    if context.get("privileged"):
        yield f"{name} is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may escalate privileges"
    if context.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True:
        yield f"{name} may run as root"
    if "seccompProfile" not in context and "seccompProfile" not in outer:
        yield f"{name} has no seccomp profile"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name} keeps capabilities"
    if added := set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds capabilities {sorted(added)}"
    if context.get("procMount", "Default") != "Default":
        yield f"{name} has its own procMount"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{name} takes a host port"


def _of_a_context(name: str, context: dict[str, Any]) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield f"{name} runs as user 0"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in SECCOMP_TYPES:
        yield f"{name} has seccomp profile {context['seccompProfile']['type']}"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name} is a host process"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") == "Unconfined":
        yield f"{name} is unconfined by AppArmor"
    options = context.get("seLinuxOptions", {})
    if options.get("user") or options.get("role"):
        yield f"{name} sets a SELinux user or role"
