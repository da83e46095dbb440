"""What NetworkPolicies allow, evaluated as the API's reference describes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Peer:
    """One end of a connection. Outside the cluster: no namespace."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)

    def in_namespace_with(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


def allowed(
    policies: list[dict[str, Any]], source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """Whether both the policies of the source and those of the target let a new connection through."""
    return _one_way(policies, target, source, (protocol, port), "Ingress") and _one_way(
        policies, source, target, (protocol, port), "Egress"
    )


def _one_way(
    policies: list[dict[str, Any]], pod: Peer, other: Peer, port: tuple[str, int], direction: str
) -> bool:
    """``pod`` is the end whose policies count; pods that no policy selects are open."""
    chosen = [
        policy
        for policy in policies
        if pod.namespace == policy["metadata"]["namespace"]
        and _selects(policy["spec"]["podSelector"], pod.labels)
        and direction in policy["spec"]["policyTypes"]
    ]
    if not chosen:
        return True
    key, side = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    return any(
        _port(rule, *port) and _peer(rule.get(side), other, policy["metadata"]["namespace"])
        for policy in chosen
        for rule in policy["spec"].get(key, [])
    )


def _port(rule: dict[str, Any], protocol: str, port: int) -> bool:
    ports = rule.get("ports")
    return not ports or any(
        entry.get("protocol", "TCP") == protocol and entry.get("port", port) == port for entry in ports
    )


def _peer(peers: list[dict[str, Any]] | None, other: Peer, own_namespace: str) -> bool:
    if not peers:
        return True
    for peer in peers:
        if "ipBlock" in peer:
            raise NotImplementedError("no policy of ours names addresses")
        if not other.namespace:
            continue
        if "namespaceSelector" in peer:
            fits = _selects(peer["namespaceSelector"], other.in_namespace_with())
        else:
            fits = other.namespace == own_namespace
        if fits and _selects(peer.get("podSelector", {}), other.labels):
            return True
    return False


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if "matchExpressions" in selector:
        raise NotImplementedError("no policy of ours uses expressions")
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
