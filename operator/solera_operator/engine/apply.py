"""
Server-side apply that writes only when it must.

What we applied last is remembered by the object itself: an annotation carries the hash of what we wanted,
and the API server's managedFields say which fields are still as we set them (whoever changes a field takes
it over). Both together tell without reading values that nothing is to be done, also after a restart.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog

from solera_operator.engine.client import KubeClient, Object
from solera_operator.engine.resource import names

APPLIED_ANNOTATION = "solera.dev/applied-hash"
MANAGED_BY = "app.kubernetes.io/managed-by"

_KNOWN_GOOD = 200_000
_IMPLIED = frozenset(("apiVersion", "kind"))

log = structlog.get_logger(__name__)


class NameConflict(Exception):  # noqa: N818 - it is also the reason that conditions show
    """
    An object of the wanted name exists and is not ours to change.

    `leftover`: it is Solera's, but belongs to another owner, most likely one of the same name that was
    deleted and whose children wait for the garbage collector; so it is worth another try soon.
    """

    def __init__(self, kind: str, namespace: str, name: str, *, leftover: bool) -> None:
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.leftover = leftover
        whose = "belongs to another owner" if leftover else "was not made by Solera"
        super().__init__(f"{kind} {namespace}/{name} exists and {whose}: remove it, or choose another name")


@dataclasses.dataclass(frozen=True, slots=True)
class Footprint:
    """
    What an object tells about our part in it; small, for projected caches.

    `owner` is the uid of its controller, `applied` the hash that we left, `fields` the normalised JSON of
    the fields that are ours.
    """

    owner: str | None
    managed_by: str | None
    applied: str | None
    fields: str
    deleting: bool


def footprint(obj: Mapping[str, Any], field_manager: str = "solera") -> Footprint:
    """Project an object (or its metadata alone) to our footprint."""
    metadata = obj["metadata"]
    owner = controller_uid(obj)
    fields = ""
    for entry in metadata.get("managedFields") or ():
        if (
            entry.get("manager") == field_manager
            and entry.get("operation") == "Apply"
            and not entry.get("subresource")
        ):
            fields = orjson.dumps(entry.get("fieldsV1") or {}, option=orjson.OPT_SORT_KEYS).decode()
    if owner:  # equal for all children of a kind, so that they can share one string
        fields = fields.replace(owner, "OWNER")
    return Footprint(
        owner=owner,
        managed_by=(metadata.get("labels") or {}).get(MANAGED_BY),
        applied=(metadata.get("annotations") or {}).get(APPLIED_ANNOTATION),
        fields=sys.intern(fields),
        deleting="deletionTimestamp" in metadata,
    )


def controller_uid(obj: Mapping[str, Any]) -> str | None:
    """Find the uid of the object's controller in its ownerReferences."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference["uid"])
    return None


class Applier:
    """Applies children of one owner each; not for Jobs and other things that are created once."""

    def __init__(self, client: KubeClient, *, managed_by: str = "solera") -> None:
        self._client = client
        self._managed_by = managed_by
        self._known_good: dict[int, None] = {}

    async def apply(
        self,
        desired: Mapping[str, Any],
        live: Footprint | None,
        observe: Callable[[Object], None] | None = None,
    ) -> Object | None:
        """
        Make the object as desired; returns the API server's answer, or None when nothing was written.

        `desired` must name its controller in ownerReferences and carry the managed-by label (ValueError
        otherwise). `live` is the footprint from the cache, None when the cache has no such object.
        `observe` (the cache's) is given the answer, so that the next reconcile does not read its own
        write stale. An object that is being deleted is left alone: its end brings the next reconcile.
        Raises NameConflict and the errors of the client.
        """
        owner = self._check(desired)
        wanted = digest(desired)
        kind, (namespace, name) = desired["kind"], names(desired)
        if live is None:
            live = await self._look_up(desired)
        if live is not None:
            if not self._ours(live, owner):
                self._count(kind, "conflict")
                raise NameConflict(kind, namespace, name, leftover=live.managed_by == self._managed_by)
            if live.deleting or self._up_to_date(live, desired, wanted, owner):
                self._count(kind, "skipped")
                return None
        # Without force where there was nothing a moment ago: if somebody has just made an object of that
        # name, the conflict is the API server's answer, and the next look finds it.
        answer = await self._client.apply(_marked(desired, wanted), force=live is not None)
        self._count(kind, "written")
        log.info("applied", kind=kind, object=f"{namespace}/{name}", created=live is None)
        # Whatever the API server made of our fields: this is how they look when all is well.
        self._remember(wanted, footprint(answer, self._client.field_manager).fields)
        if observe is not None:
            observe(answer)
        return answer

    def _check(self, desired: Mapping[str, Any]) -> str:
        owner = controller_uid(desired)
        if owner is None:
            raise ValueError(f"{desired['kind']} {names(desired)} names no controller in ownerReferences")
        if (desired["metadata"].get("labels") or {}).get(MANAGED_BY) != self._managed_by:
            raise ValueError(f"{desired['kind']} {names(desired)} lacks the label {MANAGED_BY}")
        return owner

    async def _look_up(self, desired: Mapping[str, Any]) -> Footprint | None:
        """Ask the API server: the cache sees only what carries our labels."""
        resource = self._client.resource_of(desired)
        namespace, name = names(desired)
        obj = await self._client.get(resource, namespace or None, name, metadata_only=True)
        return None if obj is None else footprint(obj, self._client.field_manager)

    def _ours(self, live: Footprint, owner: str) -> bool:
        if live.owner is None:  # ours, from which somebody has taken the owner reference
            return live.managed_by == self._managed_by and live.applied is not None
        return live.owner == owner

    def _up_to_date(self, live: Footprint, desired: Mapping[str, Any], wanted: str, owner: str) -> bool:
        if live.applied != wanted:
            return False
        if hash((wanted, live.fields)) in self._known_good:
            return True
        fields = orjson.loads(live.fields.replace("OWNER", owner) or "{}")
        if not covers(fields, desired):
            return False
        self._remember(wanted, live.fields)
        return True

    def _remember(self, wanted: str, fields: str) -> None:
        self._known_good[hash((wanted, fields))] = None
        if len(self._known_good) > _KNOWN_GOOD:
            del self._known_good[next(iter(self._known_good))]

    def _count(self, kind: str, result: str) -> None:
        self._client.metrics.applies.labels(kind, result).inc()


def digest(desired: Mapping[str, Any]) -> str:
    """Hash an object by its content, whatever the order of its fields."""
    return hashlib.sha256(orjson.dumps(desired, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _marked(desired: Mapping[str, Any], wanted: str) -> Object:
    metadata = desired["metadata"]
    annotations = {**(metadata.get("annotations") or {}), APPLIED_ANNOTATION: wanted}
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def covers(fields: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """
    Tell whether a managedFields tree (FieldsV1) holds every field of an object that we applied.

    The object's apiVersion, kind, name and namespace are nobody's fields.
    """
    return all(
        _field_covered(fields, field, value) for field, value in desired.items() if field not in _IMPLIED
    )


def _covers(fields: Mapping[str, Any], value: Any) -> bool:
    """As above, for a value inside; a node without children is a leaf that owns the whole value."""
    if not fields or value is None or value in ({}, [], ""):
        return True
    if isinstance(value, Mapping):
        return all(_field_covered(fields, field, inner) for field, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(_item_covered(fields, item) for item in value)
    return True


def _field_covered(fields: Mapping[str, Any], field: str, value: Any) -> bool:
    if field == "metadata" and isinstance(value, Mapping):
        value = {inner: value[inner] for inner in value if inner not in {"name", "namespace"}}
    if value is None or value in ({}, [], ""):  # not stored, so nobody's
        return True
    child = fields.get(f"f:{field}")
    return child is not None and _covers(child, value)


def _item_covered(fields: Mapping[str, Any], item: Any) -> bool:
    """Find the item of a list by its key fields (k:{…}) or its value (v:…)."""
    for selector, child in fields.items():
        if selector.startswith("v:") and orjson.loads(selector[2:]) == item:
            return True
        if selector.startswith("k:") and isinstance(item, Mapping):
            keys = orjson.loads(selector[2:])
            # A key field that we left out was defaulted (a port's protocol).
            if all(item.get(field, wanted) == wanted for field, wanted in keys.items()):
                return _covers(child, item)
    return False
