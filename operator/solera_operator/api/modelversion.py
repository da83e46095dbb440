"""ModelVersion: one training of a TrainedModel and what came of it. Only Solera writes it."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict

from solera_core.spec import Judge, Task, Training
from solera_core.spec.base import SpecModel
from solera_core.spec.candidates import Params
from solera_core.spec.names import MODEL_NAME, MODEL_NAME_MAX, Digest, LabelName
from solera_core.spec.quantities import DecimalString, Measured
from solera_core.spec.rules import Atomic, ListMap, Rule, Rules, matches, unchanged
from solera_operator.api.objects import Count, Message, ObjectMeta, Timestamp
from solera_operator.api.trainedmodel import Conditions, Failure

Image = Annotated[
    str,
    Field(min_length=1, max_length=512),
    Rules(matches(r"[^\s@]+(@sha256:[0-9a-f]{64})?", "write an image reference")),
]


class VersionReason(StrEnum):
    """Why a version was made."""

    CREATED = "Created"
    SPEC_CHANGED = "SpecChanged"


class Runtime(SpecModel):
    """The images and library that a version is trained and served with, for its whole life."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the runtime in the operator's settings."""
    sklearn_version: Annotated[str, Field(min_length=1, max_length=32)]
    """Version of scikit-learn."""
    trainer_image: Image
    """Image of the Jobs."""
    server_image: Image
    """Image of the server pods."""


class Store(SpecModel):
    """The artifact store that the version lives in."""

    uri: Annotated[str, Field(min_length=1, max_length=1024)]
    """URI below which all artifacts lie."""
    endpoint_url: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Endpoint of an S3-compatible store."""
    region: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Region of the store."""


class ModelVersionSpec(SpecModel):
    """What was trained, on what and why. It never changes."""

    model_name: Annotated[
        str,
        Field(min_length=1, max_length=MODEL_NAME_MAX),
        Rules(matches(MODEL_NAME, "write the name of a TrainedModel")),
    ]
    """Name of the TrainedModel."""
    number: Annotated[int, Strict(), Field(ge=1, le=10**9)]
    """Number of the version, counted up for each model and never given twice."""
    token: Annotated[str, Field(min_length=1, max_length=128)]
    """What caused the version; the same cause makes no second one."""
    reason: VersionReason
    """Why the version was made."""
    task: Task
    """The task of the model."""
    training: Training
    """Snapshot of the TrainedModel's spec.training."""
    salt: Annotated[
        str,
        Field(min_length=64, max_length=64),
        Rules(matches(r"[0-9a-f]{64}", "write 64 lower-case hexadecimal digits")),
    ]
    """Salt of the split's hash, from the model's name and the split's seed."""
    runtime: Runtime
    """What the version is trained and served with."""
    store: Store
    """Where the artifact goes."""


class Artifact(SpecModel):
    """The trained model in the store."""

    uri: Annotated[str, Field(min_length=1, max_length=2048)]
    """Directory of the artifact."""
    digest: Digest
    """SHA-256 of its manifest, which holds the digests of its files."""
    size_bytes: Count
    """Size of its files together."""


class ChosenCandidate(SpecModel):
    """The candidate that won the cross-validation."""

    name: LabelName
    """Name of the candidate."""
    estimator: Annotated[str, Field(min_length=1, max_length=128)]
    """Full name of the estimator."""
    params: Params = Field(default={})
    """Its parameters, those that the search chose among them."""
    cv_metric: Annotated[str, Field(min_length=1, max_length=64)]
    """The metric that decided."""
    cv_score: Measured
    """Mean of the metric over the folds."""
    cv_std: Measured | None = None
    """Standard deviation of the metric over the folds."""


class Rows(SpecModel):
    """How many rows went where."""

    train: Count
    """Rows that the model was fitted on."""
    test: Count
    """Rows that were held out."""


class Metric(SpecModel):
    """A metric on the held-out rows."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """Name of the metric."""
    value: Measured
    """Its value."""
    lower: Measured | None = None
    """Lower end of its 95% interval."""
    upper: Measured | None = None
    """Upper end of its 95% interval."""


class GateOutcome(StrEnum):
    """Whether a gate was passed."""

    PASSED = "Passed"
    FAILED = "Failed"


class GateResult(SpecModel):
    """What one gate said."""

    metric: Annotated[str, Field(min_length=1, max_length=64)]
    """The metric."""
    min: DecimalString | None = None
    """Least value that passes."""
    max: DecimalString | None = None
    """Largest value that passes."""
    judge: Judge
    """Which number was judged."""
    value: Measured | None = None
    """Value of the metric; absent when there was none, which fails the gate."""
    bound: Measured | None = None
    """The end of the 95% interval that was judged, with judge LowerBound."""
    outcome: GateOutcome
    """Whether the gate was passed."""
    message: Message = ""
    """What was judged, for people."""


class Verdict(StrEnum):
    """What the gates say together."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"


class ModelVersionStatus(SpecModel):
    """What came of the training. Only Solera writes it."""

    observed_generation: Count | None = None
    """The generation of the spec that this status is about."""
    artifact: Artifact | None = None
    """The trained model."""
    candidate: ChosenCandidate | None = None
    """The candidate that won the cross-validation."""
    data_digest: Digest | None = None
    """Digest of the data that was read."""
    schema_digest: Digest | None = None
    """Digest of the feature schema."""
    rows: Rows | None = None
    """How many rows went where."""
    trained_at: Timestamp | None = None
    """When the result of the training was recorded."""
    evaluation: Annotated[str, Field(min_length=8, max_length=64)] | None = None
    """Which evaluation metrics and gates come from."""
    metrics: Annotated[tuple[Metric, ...], Field(max_length=64), ListMap("name")] = ()
    """Metrics on the held-out rows."""
    gates: Annotated[tuple[GateResult, ...], Field(max_length=32), Atomic()] = ()
    """What each gate said."""
    gates_hash: Annotated[str, Field(min_length=8, max_length=64)] | None = None
    """Hash of the gates that were judged."""
    verdict: Verdict | None = None
    """What the gates say together."""
    message: Message | None = None
    """The verdict for people."""
    last_failure: Failure | None = None
    """The last thing that went wrong."""
    conditions: Conditions = ()
    """Ready, Trained, Evaluated, Reconciling, Stalled: see the table on this page."""


class ModelVersion(SpecModel):
    """One training of a TrainedModel and what came of it: made by Solera, never changed by anybody."""

    plural: ClassVar[str] = "modelversions"
    rules = (
        Rule(
            message="metadata.name is made of modelName and number: write {}-v<number>",
            cel="self.metadata.name.startsWith(self.spec.modelName + '-v') && "
            "self.metadata.name.substring(self.spec.modelName.size() + 2).matches('^[1-9][0-9]{0,9}$') && "
            "int(self.metadata.name.substring(self.spec.modelName.size() + 2)) == self.spec.number",
            check=lambda self: self.metadata.name == f"{self.spec.model_name}-v{self.spec.number}",
            at="metadata.name",
            shown_cel="self.spec.modelName",
            shown=lambda self: self.spec.model_name,
        ),
    )

    api_version: Literal["solera.dev/v1alpha1"] = "solera.dev/v1alpha1"
    kind: Literal["ModelVersion"] = "ModelVersion"
    metadata: ObjectMeta
    spec: Annotated[
        ModelVersionSpec,
        Rules(unchanged("a ModelVersion never changes: change the TrainedModel, which makes a new version")),
    ]
    """What was trained, on what and why."""
    status: ModelVersionStatus = ModelVersionStatus()
    """What came of the training."""
