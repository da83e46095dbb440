"""What a user may say about the pods that Solera runs: a small part of a PodSpec, on purpose."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, Strict

from solera_core.spec.base import SpecModel
from solera_core.spec.names import ObjectName
from solera_core.spec.quantities import Quantity, parse_quantity
from solera_core.spec.rules import Atomic, ListMap, Rule, Rules

_RESOURCE = (
    r"cpu|memory|ephemeral-storage|[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
)
_LABEL_KEY = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"


def _keys_match(pattern: str, message: str) -> Rule:
    compiled = re.compile(pattern)
    return Rule(
        message=message,
        cel=f"self.all(key, key.matches(r'^(?:{pattern})$'))",
        check=lambda value: all(compiled.fullmatch(key) for key in value),
    )


Quantities = Annotated[
    dict[str, Quantity],
    Field(min_length=1, max_length=6),
    Rules(
        _keys_match(
            _RESOURCE,
            "write cpu, memory, ephemeral-storage or an extended resource with its domain such as "
            "nvidia.com/gpu",
        )
    ),
]

NodeSelector = Annotated[
    dict[str, Annotated[str, Field(max_length=63)]],
    Field(min_length=1, max_length=16),
    Rules(
        _keys_match(_LABEL_KEY, "write label keys such as disk or example.com/disk"),
        Rule(
            message="write label values of letters, digits, '-', '_' and '.'",
            cel=f"self.all(key, self[key].matches(r'^(?:{_LABEL_VALUE})$'))",
            check=lambda value: all(re.fullmatch(_LABEL_VALUE, text) for text in value.values()),
        ),
    ),
]


def _within_limits(resources: Any) -> bool:
    requests, limits = resources.requests or {}, resources.limits or {}
    return all(
        parse_quantity(amount) <= parse_quantity(limits[name])
        for name, amount in requests.items()
        if name in limits
    )


class Resources(SpecModel):
    """Requests and limits of the container, as in a pod."""

    rules = (
        Rule(
            message="a request may not exceed the limit of the same resource: raise the limit or lower the "
            "request",
            cel="!has(self.requests) || !has(self.limits) || "
            "self.requests.all(name, !(name in self.limits) || "
            "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            check=_within_limits,
            at="requests",
        ),
    )

    requests: Quantities | None = None
    """What the scheduler sets aside for the container, by resource: quantities such as 500m or 1Gi."""
    limits: Quantities | None = None
    """What the container may use at most, by resource. More memory than this ends it (OutOfMemory)."""


class TolerationOperator(StrEnum):
    """How a toleration compares a taint."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """The effect of the taint that is tolerated."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(SpecModel):
    """A taint that the pod may run in spite of, as in a pod."""

    rules = (
        Rule(
            message="with operator Exists leave value out",
            cel="!has(self.operator) || self.operator != 'Exists' || !has(self.value)",
            check=lambda self: self.operator is not TolerationOperator.EXISTS or self.value is None,
            at="value",
        ),
        Rule(
            message="write a key, or operator: Exists to tolerate every taint",
            cel="has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            check=lambda self: self.key is not None or self.operator is TolerationOperator.EXISTS,
            at="key",
        ),
        Rule(
            message="tolerationSeconds needs effect: NoExecute",
            cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            check=lambda self: self.toleration_seconds is None or self.effect is TaintEffect.NO_EXECUTE,
            at="tolerationSeconds",
        ),
    )

    key: Annotated[str, Field(min_length=1, max_length=317)] | None = None
    """Key of the taint; absent with operator Exists: every taint."""
    operator: TolerationOperator | None = None
    """How the taint's value is compared. Equal when absent, as in a pod."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """Value of the taint, for operator Equal."""
    effect: TaintEffect | None = None
    """Effect of the taint; absent: all effects."""
    toleration_seconds: Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)] | None = None
    """How long the pod stays after a NoExecute taint appears."""


class SecretName(SpecModel):
    """A Secret of the model's own namespace, by name."""

    name: ObjectName
    """Name of the Secret."""


class PodOptions(SpecModel):
    """What can be chosen about Solera's pods; the rest is fixed (Pod Security level restricted)."""

    resources: Resources | None = None
    """Requests and limits of the container. When absent, Solera's own modest requests and limits apply."""
    node_selector: NodeSelector | None = None
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(min_length=1, max_length=16), Atomic()] | None = None
    """Taints that the pod may run in spite of."""
    priority_class_name: ObjectName | None = None
    """Name of the PriorityClass of the pod."""
    image_pull_secrets: (
        Annotated[tuple[SecretName, ...], Field(min_length=1, max_length=8), ListMap("name")] | None
    ) = None
    """Secrets with registry credentials, for a runtime whose images need them."""


class TrainingPodOptions(PodOptions):
    """What can be chosen about the pods of training Jobs."""

    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods, for workload identity at the data store. Its token is not mounted."""
