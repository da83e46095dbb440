"""TrainedModel: what the user writes, and what Solera says about it."""

import re
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict

from solera_core.spec import LearningSpec, PodOptions
from solera_core.spec.base import SpecModel
from solera_core.spec.names import MODEL_NAME_RULES, Digest, LabelName, ObjectName, VersionName
from solera_core.spec.quantities import duration, parse_duration
from solera_core.spec.rules import ListMap, Rule, Rules, matches
from solera_operator.api.objects import Condition, Count, Message, ObjectMeta, Reason, Timestamp

DEFAULT_CPU_PERCENT = 70


class Pin(SpecModel):
    """A version that serves whatever else happens."""

    version: VersionName
    """The ModelVersion that serves, such as iris-v6. It must exist and have an artifact."""
    digest: Digest | None = None
    """Its artifact's digest: another artifact under this version is refused."""


class Replicas(SpecModel):
    """How many server pods there may be."""

    rules = (
        Rule(
            message="max may not be smaller than min",
            cel="!has(self.max) || self.min <= self.max",
            check=lambda self: self.max is None or self.min <= self.max,
            at="max",
        ),
    )

    min: Annotated[int, Strict(), Field(ge=1, le=1000)] = 1
    """Least number of server pods."""
    max: Annotated[int, Strict(), Field(ge=1, le=1000)] | None = None
    """Largest number of server pods. Larger than min: a HorizontalPodAutoscaler decides. When absent: min."""


class Autoscaling(SpecModel):
    """What the autoscaler aims at."""

    cpu_percent: Annotated[int, Strict(), Field(ge=10, le=100)] = DEFAULT_CPU_PERCENT
    """CPU use that the autoscaler aims at, in percent of the requested CPU, averaged over the server pods."""


class Gateway(SpecModel):
    """A Gateway listener that the model is reached through."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: LabelName | None = None
    """Namespace of the Gateway, which has to allow routes from here. When absent: the model's own."""
    section_name: ObjectName | None = None
    """Name of the listener. When absent: every listener that takes the hostname."""
    hostname: Annotated[
        str,
        Field(min_length=1, max_length=253),
        Rules(
            matches(
                r"([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z]([-a-z0-9]*[a-z0-9])?",
                "write a host name such as iris.example.com, in lower case, without scheme, port, path or *",
            )
        ),
    ]
    """Host name that clients use. It belongs to this model alone."""


class Serving(SpecModel):
    """How the model is served. A change rolls the Deployment and trains nothing."""

    rules = (
        Rule(
            message="autoscaling needs replicas.max larger than replicas.min: raise max or leave "
            "autoscaling out",
            cel="!has(self.autoscaling) || (has(self.replicas) && has(self.replicas.max) && "
            "self.replicas.max > self.replicas.min)",
            check=lambda self: self.autoscaling is None or self.max_replicas() > self.replicas.min,
            at="autoscaling",
        ),
    )

    pin: Pin | None = None
    """Holds one version, for a rollback or a freeze. Trainings and gates go on; nothing is promoted
    meanwhile."""
    replicas: Replicas = Replicas()
    """How many server pods there may be."""
    autoscaling: Autoscaling | None = None
    """How the autoscaler decides, where replicas.max is larger than replicas.min. When absent: 70% of the
    requested CPU."""
    rollback_window: Annotated[str, Field(min_length=2, max_length=20), duration("0s", "168h")] = "10m"
    """How long the old version stays warm after a promotion."""
    pod: PodOptions | None = None
    """What can be chosen about the server pods."""
    gateway: Gateway | None = None
    """A Gateway that routes to the model. When absent the model is reached through its Service alone."""

    def max_replicas(self) -> int:
        """Return the largest number of server pods."""
        return self.replicas.max or self.replicas.min

    def autoscales(self) -> bool:
        """Say whether a HorizontalPodAutoscaler decides the number of pods."""
        return self.max_replicas() > self.replicas.min

    def cpu_percent(self) -> int:
        """Return the CPU use that the autoscaler aims at, in percent of the request."""
        return self.autoscaling.cpu_percent if self.autoscaling else DEFAULT_CPU_PERCENT

    def rollback_window_seconds(self) -> int:
        """Return how long the old version stays warm, in seconds."""
        return int(parse_duration(self.rollback_window).total_seconds())


class TrainedModelSpec(LearningSpec):
    """What to learn and how to serve it."""

    serving: Serving = Serving()
    """How the model is served."""
    version_history_limit: Annotated[int, Strict(), Field(ge=0, le=100)] = 10
    """How many old versions are kept besides those that serve, are champion or are pinned."""


class Address(SpecModel):
    """Where the model is reached inside the cluster."""

    url: Annotated[str, Field(max_length=512)]
    """URL of the model's Service."""


class Champion(SpecModel):
    """The version that should serve."""

    version: VersionName
    """Name of the ModelVersion."""
    digest: Digest
    """Digest of its artifact."""
    revision: Annotated[int, Strict(), Field(ge=1, le=2**53)]
    """Grows by one whenever the champion changes; a verdict counts only for the revision that it was made
    against."""
    since: Timestamp
    """When it became champion."""
    reason: Reason
    """Why it became champion."""


class ServedVersion(SpecModel):
    """The version that does serve."""

    version: VersionName
    """Name of the ModelVersion."""
    digest: Digest
    """Digest of its artifact."""
    replicas: Count = 0
    """Server pods that are wanted."""
    ready_replicas: Count = 0
    """Server pods that answer."""
    since: Timestamp | None = None
    """When traffic turned to it."""


class CandidateVersion(SpecModel):
    """A version on its way: being trained, judged or brought up."""

    version: VersionName
    """Name of the ModelVersion."""
    digest: Digest | None = None
    """Digest of its artifact, once it is trained."""
    since: Timestamp
    """When it was made."""
    reason: Reason
    """Where it stands."""
    message: Message = ""
    """Where it stands, for people."""


class PreviousVersion(SpecModel):
    """The old champion, kept warm for the rollback window."""

    version: VersionName
    """Name of the ModelVersion."""
    digest: Digest
    """Digest of its artifact."""
    until: Timestamp
    """When its pods go."""


class LastVersion(SpecModel):
    """The newest number that was given. It is written before the version is made and never given again."""

    number: Annotated[int, Strict(), Field(ge=1, le=10**9)]
    """The number."""
    token: Annotated[str, Field(min_length=1, max_length=128)]
    """What caused the version; the same cause makes no second one."""
    name: VersionName
    """Name of the ModelVersion."""
    uid: Annotated[str, Field(max_length=64)] | None = None
    """UID of the ModelVersion, once it is known to exist."""


class RejectedVersion(SpecModel):
    """A version that is not promoted by itself (again)."""

    version: VersionName
    """Name of the ModelVersion."""
    digest: Digest | None = None
    """Digest of its artifact."""
    reason: Reason
    """Why, as one word."""
    message: Message = ""
    """Why, for people."""
    time: Timestamp
    """When it was rejected."""


class Failure(SpecModel):
    """The last thing that went wrong."""

    reason: Reason
    """What went wrong, as one word."""
    message: Message = ""
    """What went wrong and what to do, for people."""
    exit_code: Annotated[int, Strict(), Field(ge=-1, le=255)] | None = None
    """Exit code of the container, where one ended."""
    time: Timestamp
    """When it was seen."""
    version: VersionName | None = None
    """The ModelVersion that it happened to."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32), ListMap("type")]


class TrainedModelStatus(SpecModel):
    """What Solera says about the model. Only Solera writes it."""

    observed_generation: Count | None = None
    """The generation of the spec that this status is about."""
    url: Annotated[str, Field(max_length=512)] | None = None
    """Where clients reach the model: through the gateway, or its Service where there is none."""
    address: Address | None = None
    """Where the model is reached inside the cluster."""
    champion: Champion | None = None
    """The version that should serve."""
    serving: ServedVersion | None = None
    """The version that does serve."""
    candidate: CandidateVersion | None = None
    """The version on its way."""
    previous: PreviousVersion | None = None
    """The old champion while it is kept warm."""
    last_version: LastVersion | None = None
    """The newest number that was given."""
    rejected: Annotated[tuple[RejectedVersion, ...], Field(max_length=128), ListMap("version")] = ()
    """Versions that a pin to an older one has rolled back: they are not promoted again by themselves."""
    last_failure: Failure | None = None
    """The last thing that went wrong; it stays until something succeeds."""
    conditions: Conditions = ()
    """Ready, Available, Training, Reconciling, Stalled: see the table on this page."""


def about_name(rule: Rule) -> Rule:
    """Turn a rule about a name into one about an object, for the only place where CEL sees its name."""

    def check(kind: "TrainedModel") -> bool:
        return rule.check is None or rule.check(kind.metadata.name)

    return replace(
        rule,
        cel=(rule.cel or "").replace("self", "self.metadata.name"),
        check=check,
        at="metadata.name",
        shown_cel=rule.shown_cel and rule.shown_cel.replace("self", "self.metadata.name"),
        shown=rule.shown and (lambda kind: rule.shown(kind.metadata.name) if rule.shown else ""),
    )


class TrainedModel(SpecModel):
    """A model: which data, which candidates, which gates, and how it is served."""

    plural: ClassVar[str] = "trainedmodels"
    rules = (
        *(about_name(rule) for rule in MODEL_NAME_RULES),
        Rule(
            message="pin a version of this model: {}-v<number>",
            cel="!has(self.spec.serving) || !has(self.spec.serving.pin) || "
            "self.spec.serving.pin.version.startsWith(self.metadata.name + '-v') && "
            "self.spec.serving.pin.version.substring(self.metadata.name.size() + 2).matches('^[0-9]+$')",
            check=lambda self: (
                self.spec.serving.pin is None
                or re.fullmatch(re.escape(self.metadata.name) + "-v[0-9]+", self.spec.serving.pin.version)
                is not None
            ),
            at="spec.serving.pin.version",
            shown_cel="self.metadata.name",
            shown=lambda self: self.metadata.name,
        ),
    )

    api_version: Literal["solera.dev/v1alpha1"] = "solera.dev/v1alpha1"
    kind: Literal["TrainedModel"] = "TrainedModel"
    metadata: ObjectMeta
    spec: TrainedModelSpec
    """What to learn and how to serve it."""
    status: TrainedModelStatus = TrainedModelStatus()
    """What Solera says about the model."""
