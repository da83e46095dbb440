"""The document that tells a Job what to do: made by the operator, read by the trainer.

`training` and `gates` are the spec's parts as stored; the trainer parses them with the types in `spec`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from solera_core.artifact import is_digest
from solera_core.canonical import canonical_json

KINDS = ("train", "evaluate", "report")
ENVIRONMENT_VARIABLE = "SOLERA_JOB"
STORE_CREDENTIALS = "/var/run/solera/store"
DATA_CREDENTIALS = "/var/run/solera/data"
DATA_VOLUME = "/var/run/solera/pvc"


class BadJob(ValueError):  # noqa: N818 - names the document
    """The Job document is not one. The message gives the field's path."""


@dataclass(frozen=True)
class StoreLocation:
    """The artifact store. Credentials are files, never here."""

    uri: str
    endpoint_url: str | None = None
    region: str | None = None
    ca_file: str | None = None


@dataclass(frozen=True)
class DataDefaults:
    """What the operator's settings say about users' data: S3 endpoint and region, https hosts."""

    endpoint_url: str | None = None
    region: str | None = None
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runtime:
    """The runtime that a version is trained and served by. Images as they were named to Kubernetes."""

    name: str
    sklearn_version: str | None = None
    trainer_image: str | None = None
    server_image: str | None = None


@dataclass(frozen=True)
class ArtifactReference:
    """Where an artifact is and what it must be."""

    uri: str
    digest: str


@dataclass(frozen=True)
class Job:
    """One Job's document. `evaluation` is the 8 hexadecimal digits of what is judged."""

    kind: str
    namespace: str
    model: str
    version: str
    uid: str
    task: str
    training: Mapping[str, Any]
    salt: str
    store: StoreLocation
    runtime: Runtime
    deadline_seconds: int
    gates: tuple[Mapping[str, Any], ...] = ()
    artifact: ArtifactReference | None = None
    data_defaults: DataDefaults = field(default_factory=DataDefaults)
    evaluation: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document: camelCase, absent fields left out."""
        return _document(self)

    def encode(self) -> str:
        """Return the document as one line of canonical JSON, for the environment variable."""
        return canonical_json(self.to_json()).decode().rstrip("\n")

    @property
    def version_folder(self) -> str:
        """Name of the version's folder in the store: distinct for a version that was deleted and made
        again.
        """
        return f"{self.version}-{self.uid[:8]}"


def parse_job(text: str | bytes) -> Job:
    """Read a Job document.

    Raises BadJob with the path of the field that is wrong, missing or unknown.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BadJob(f"the Job document is not JSON: {error}") from error
    fields = _fields(data, Job, "")
    job = Job(
        kind=_text(fields, "kind", ""),
        namespace=_text(fields, "namespace", ""),
        model=_text(fields, "model", ""),
        version=_text(fields, "version", ""),
        uid=_text(fields, "uid", ""),
        task=_text(fields, "task", ""),
        training=_object(fields.get("training"), "training"),
        salt=_text(fields, "salt", ""),
        store=_flat(StoreLocation, fields.get("store"), "store"),
        runtime=_flat(Runtime, fields.get("runtime"), "runtime"),
        deadline_seconds=_seconds(fields.get("deadline_seconds")),
        gates=_gates(fields.get("gates", [])),
        artifact=_optional(ArtifactReference, fields.get("artifact"), "artifact"),
        data_defaults=_optional(DataDefaults, fields.get("data_defaults"), "dataDefaults") or DataDefaults(),
        evaluation=_optional_text(fields, "evaluation", ""),
    )
    _check(job)
    return job


def _check(job: Job) -> None:
    if job.kind not in KINDS:
        raise BadJob(f"kind: write {', '.join(KINDS)}, not {job.kind!r}")
    if len(job.salt) != 64 or not set(job.salt) <= set("0123456789abcdef"):
        raise BadJob("salt: write 64 hexadecimal digits")
    if job.kind == "evaluate":
        if job.artifact is None:
            raise BadJob("artifact: an evaluation needs it")
        if job.evaluation is None:
            raise BadJob("evaluation: an evaluation needs it")
    if job.artifact is not None and not is_digest(job.artifact.digest):
        raise BadJob("artifact.digest: write sha256: and 64 hexadecimal digits")
    if job.evaluation is not None and (
        len(job.evaluation) != 8 or not set(job.evaluation) <= set("0123456789abcdef")
    ):
        raise BadJob("evaluation: write 8 hexadecimal digits")


def _document(value: Any) -> dict[str, Any]:
    result = {}
    for item in dataclasses.fields(value):
        content = getattr(value, item.name)
        if content is None:
            continue
        if dataclasses.is_dataclass(content):
            content = _document(content)
        elif isinstance(content, tuple):
            content = list(content)
        result[_camel(item.name)] = content
    return result


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _fields(data: Any, kind: type, path: str) -> dict[str, Any]:
    """Return the object's fields by Python name; refuses unknown ones."""
    known = {_camel(item.name): item.name for item in dataclasses.fields(kind)}
    fields = {}
    for name, value in _object(data, path or "the Job document").items():
        if name not in known:
            raise BadJob(f"{path}{'.' if path else ''}{name}: there is no such field")
        fields[known[name]] = value
    return fields


def _flat(kind: type[Any], data: Any, path: str) -> Any:
    fields = _fields(data, kind, path)
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        if item.name == "allowed_hosts":
            hosts = fields.get(item.name, [])
            if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
                raise BadJob(f"{path}.allowedHosts: write a list of host names")
            values[item.name] = tuple(hosts)
        elif item.default is dataclasses.MISSING:
            values[item.name] = _text(fields, item.name, path)
        else:
            values[item.name] = _optional_text(fields, item.name, path)
    return kind(**values)


def _optional(kind: type[Any], data: Any, path: str) -> Any:
    return None if data is None else _flat(kind, data, path)


def _object(data: Any, path: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise BadJob(f"{path}: write an object")
    return data


def _text(fields: Mapping[str, Any], name: str, path: str) -> str:
    value = _optional_text(fields, name, path)
    if not value:
        raise BadJob(f"{path}{'.' if path else ''}{_camel(name)}: required, and not empty")
    return value


def _optional_text(fields: Mapping[str, Any], name: str, path: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadJob(f"{path}{'.' if path else ''}{_camel(name)}: write a string")
    return value


def _seconds(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise BadJob("deadlineSeconds: write a positive integer")
    return value


def _gates(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(gate, dict) for gate in value):
        raise BadJob("gates: write a list of objects")
    return tuple(value)
