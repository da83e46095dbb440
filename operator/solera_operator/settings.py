"""The operator's settings: one YAML file, checked once when the operator starts.

The ConfigMap `solera-settings` is mounted as that file; docs/operating.md describes every key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from solera_core.catalogue import load
from solera_core.catalogue import runtimes as catalogues

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
HTTPS_HOST = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?(:[0-9]{1,5})?$"

Label = Annotated[str, StringConstraints(pattern=DNS_LABEL)]
ObjectName = Annotated[str, StringConstraints(pattern=DNS_NAME)]
Host = Annotated[str, StringConstraints(pattern=HTTPS_HOST)]
Image = Annotated[str, StringConstraints(pattern=r"^[^\s@]+(@sha256:[0-9a-f]{64})?$", max_length=512)]
Port = Annotated[int, Field(ge=1, le=65535)]


class SettingsError(Exception):
    """The settings file cannot be used; the text says where, what was found and what to write."""


def _endpoint(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("expected an http:// or https:// address, e.g. https://s3.example.com")
    if url.path.strip("/") or url.query or url.fragment or url.username:
        raise ValueError("expected scheme, host and port only, e.g. https://s3.example.com:9000")
    if url.port == 0:
        raise ValueError("expected a port between 1 and 65535")
    return value.rstrip("/")


Endpoint = Annotated[str, AfterValidator(_endpoint)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class ArtifactStore(_Section):
    """Where artifacts and results are kept. Secret and ConfigMap are looked up in the model's namespace."""

    uri: Annotated[str, StringConstraints(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?$")]
    endpoint_url: Endpoint | None = None
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,64}$")
    secret_name: ObjectName | None = None
    ca_config_map_name: ObjectName | None = None

    @property
    def port(self) -> int:
        """The TCP port at which the store answers."""
        url = urlsplit(self.endpoint_url or "https://s3")
        return url.port or (80 if url.scheme == "http" else 443)


class DataDefaults(_Section):
    """What users' data addresses mean where they leave something out, and which https hosts they may name."""

    s3_endpoint_url: Endpoint | None = Field(default=None, alias="s3EndpointUrl")
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,64}$")
    allowed_hosts: tuple[Host, ...] = ()


class Runtime(_Section):
    """One scikit-learn version with its trainer and server images."""

    name: Annotated[str, StringConstraints(pattern=DNS_NAME, max_length=63)]
    sklearn_version: str = Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")
    trainer_image: Image
    server_image: Image
    default: bool = False


class NamespaceSelector(_Section):
    """Namespaces by their labels; all labels must match."""

    match_labels: dict[str, str] = Field(min_length=1)


class NetworkPolicySettings(_Section):
    """Who may reach the servers of a model, and which ports its pods may reach."""

    gateway_namespace_selector: NamespaceSelector | None = None
    monitoring_namespace_selector: NamespaceSelector | None = None
    client_namespace_selector: NamespaceSelector | None = None
    store_ports: tuple[Port, ...] = ()
    dns_ports: tuple[Port, ...] = Field(default=(53,), min_length=1)


class Settings(_Section):
    """All settings. Frozen: a change of the file means a restart of the operator."""

    artifact_store: ArtifactStore
    data: DataDefaults = DataDefaults()
    runtimes: tuple[Runtime, ...] = Field(min_length=1)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    watch_namespaces: tuple[Label, ...] = ()
    job_ttl_seconds: int = Field(default=3600, ge=0, le=30 * 86400, alias="jobTTLSeconds")
    network_policy: NetworkPolicySettings = NetworkPolicySettings()
    log_level: Literal["Debug", "Info", "Warning", "Error"] = "Info"

    @model_validator(mode="after")
    def _runtimes_are_told_apart(self) -> Self:
        names = [r.name for r in self.runtimes]
        if len(set(names)) != len(names):
            raise ValueError(f"runtimes: every name must be given once, found {', '.join(names)}")
        defaults = [r.name for r in self.runtimes if r.default]
        if len(self.runtimes) > 1 and len(defaults) != 1:
            found = ", ".join(defaults) or "none"
            raise ValueError(f"runtimes: write `default: true` in exactly one of them (now: {found})")
        return self

    def default_runtime(self) -> Runtime:
        """The runtime with which new versions are trained."""
        return next((r for r in self.runtimes if r.default), self.runtimes[0])

    def runtime(self, name: str) -> Runtime | None:
        """The runtime of that name, or None when it has been withdrawn."""
        return next((r for r in self.runtimes if r.name == name), None)

    def check_runtimes(self, *, source: str = "settings") -> None:
        """Hold the runtimes against the catalogues that this operator has.

        Versions of runtimes that stand here no more are not concerned: they carry their images themselves.

        Raises:
            SettingsError: a runtime has no catalogue, or another scikit-learn than its catalogue.
        """
        wrong = [
            f"{source}: runtimes[{n}].{said}" for n, r in enumerate(self.runtimes) if (said := _unknown(r))
        ]
        if wrong:
            raise SettingsError("\n".join(wrong))

    @classmethod
    def load(cls, path: Path | str) -> Settings:
        """Read and check the file.

        Raises:
            SettingsError: the file is missing, no YAML, holds a wrong value, or a runtime without catalogue.
        """
        path = Path(path)
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
        settings = cls.parse(document, source=str(path))
        settings.check_runtimes(source=str(path))
        return settings

    @classmethod
    def parse(cls, document: Any, *, source: str = "settings") -> Settings:
        """Check a document that was read already; ``source`` names it in errors.

        Raises:
            SettingsError: a value is wrong.
        """
        if not isinstance(document, dict):
            kind = type(document).__name__
            raise SettingsError(f"{source}: expected a mapping with artifactStore and runtimes, found {kind}")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise SettingsError("\n".join(_explain(source, error))) from error


def _unknown(runtime: Runtime) -> str:
    """What does not fit between a runtime and its catalogue, empty when all does."""
    have = {name: load(name).sklearn_version for name in catalogues()}
    if runtime.name not in have:
        listed = ", ".join(f"{name} (scikit-learn {version})" for name, version in have.items())
        return f"name: this operator has no catalogue of {runtime.name!r}; it has: {listed}"
    if runtime.sklearn_version != have[runtime.name]:
        return (
            f"sklearnVersion: found {runtime.sklearn_version!r}; {runtime.name} is scikit-learn "
            f"{have[runtime.name]}: write '{have[runtime.name]}', and images with that version"
        )
    return ""


# What to write, by the key that is wrong. Keys without an entry explain themselves by pydantic's message.
_ADVICE = {
    "uri": "write s3://<bucket> or s3://<bucket>/<prefix>",
    "endpointUrl": "write e.g. https://s3.example.com:9000",
    "s3EndpointUrl": "write e.g. https://s3.example.com:9000",
    "region": "write e.g. eu-central-1",
    "secretName": "write the name of a Secret in the models' namespaces",
    "caConfigMapName": "write the name of a ConfigMap with the key ca.crt in the models' namespaces",
    "allowedHosts": "write a list of host names such as data.example.com, without scheme or path",
    "name": "write a name of lower-case letters, digits, dots and dashes, e.g. sklearn-1.9",
    "sklearnVersion": "write three numbers in quotes, e.g. '1.9.1'",
    "trainerImage": "write an image reference, e.g. registry.example.com/solera-trainer:0.1.0",
    "serverImage": "write an image reference, e.g. registry.example.com/solera-server:0.1.0",
    "watchNamespaces": "write a list of namespace names; an empty list means all namespaces",
    "jobTTLSeconds": "write whole seconds between 0 and 2592000",
    "runtimes": "write at least one runtime with name, sklearnVersion, trainerImage and serverImage",
    "artifactStore": "write artifactStore with at least `uri: s3://<bucket>`",
    "storePorts": "write a list of TCP ports, e.g. [443]",
    "dnsPorts": "write a list of ports, e.g. [53]",
}


def _explain(source: str, error: ValidationError) -> list[str]:
    """One line for each wrong value: file, path, what is wrong, what was found, what to write."""
    lines = []
    found = error.errors()
    for item in found:
        if any(other["loc"][: len(item["loc"])] == item["loc"] != other["loc"] for other in found):
            continue  # a list that is "too short" only because an item of it is wrong
        path = _path(item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key"
        elif item["type"] == "string_pattern_mismatch":
            message = "has the wrong form"
        line = f"{source}: {path}: {message}" if path else f"{source}: {message}"
        if (
            item["type"] not in {"missing", "extra_forbidden"}
            and path
            and not isinstance(item["input"], dict)
        ):
            line += f"; found {item['input']!r}"
        key = next((str(part) for part in reversed(item["loc"]) if isinstance(part, str)), "")
        if item["type"] == "extra_forbidden":
            line += "; remove it or correct its spelling"
        elif key in _ADVICE:
            line += f"; {_ADVICE[key]}"
        lines.append(line)
    return lines


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
