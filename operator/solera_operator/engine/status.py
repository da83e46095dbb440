"""Status that is written only when it says something new, and conditions as Kubernetes has them."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from solera_operator.engine.client import KubeClient, Object
from solera_operator.engine.clock import rfc3339
from solera_operator.engine.resource import names

ConditionStatus = Literal["True", "False", "Unknown"]
Condition = dict[str, Any]

_MESSAGE_LIMIT = 32_768  # metav1.Condition's own


async def patch_if_changed(
    client: KubeClient, live: Mapping[str, Any], desired_status: Mapping[str, Any]
) -> Object | None:
    """
    Bring the status of `live` to `desired_status`; returns the new object, or None when nothing differs.

    `live` needs apiVersion, kind, metadata (namespace, name, resourceVersion) and status. Fields of the
    live status that are absent (or None) in the desired one are removed. Raises Conflict when the object
    has changed since it was read: the decision may be wrong then, so reconcile again. Hand the returned
    object to the cache's `observe`.
    """
    body = merge_difference(live.get("status") or {}, desired_status)
    if not body:
        return None
    namespace, name = names(live)
    return await client.patch_status(
        client.resource_of(live),
        namespace or None,
        name,
        body,
        resource_version=live["metadata"]["resourceVersion"],
    )


def merge_difference(live: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """Build the JSON merge patch that turns `live` into `desired`; empty when they are equal."""
    patch: dict[str, Any] = {}
    for field, wanted in desired.items():
        have = live.get(field)
        if isinstance(wanted, Mapping) and isinstance(have, Mapping):
            inner = merge_difference(have, wanted)
            if inner:
                patch[field] = inner
        elif wanted is None:
            if field in live:
                patch[field] = None
        elif not _same(have, wanted):
            patch[field] = _without_none(wanted)
    for field in live:
        if field not in desired:
            patch[field] = None
    return patch


def _same(have: Any, wanted: Any) -> bool:
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(have, (list, tuple))
            and len(have) == len(wanted)
            and all(_same(one, other) for one, other in zip(have, wanted, strict=True))
        )
    if isinstance(wanted, Mapping):
        return isinstance(have, Mapping) and not merge_difference(have, wanted)
    return type(have) is type(wanted) and bool(have == wanted)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {field: _without_none(inner) for field, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(inner) for inner in value]
    return value


def get_condition(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """Find the condition of a type."""
    return next((condition for condition in conditions if condition["type"] == kind), None)


def set_condition(
    conditions: Sequence[Mapping[str, Any]],
    kind: str,
    status: ConditionStatus,
    *,
    reason: str,
    message: str,
    observed_generation: int,
    now: dt.datetime,
) -> list[Condition]:
    """
    Return the conditions with one of them set, in their order, a new one at the end.

    lastTransitionTime moves only when the status changes; with an equal status, reason and message it is
    the same list again, so that nothing is written.
    """
    before = get_condition(conditions, kind)
    unchanged = before is not None and before["status"] == status
    condition: Condition = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message[:_MESSAGE_LIMIT],
        "observedGeneration": observed_generation,
        "lastTransitionTime": before["lastTransitionTime"] if before and unchanged else rfc3339(now),
    }
    if before is None:
        return [*(dict(other) for other in conditions), condition]
    return [condition if other["type"] == kind else dict(other) for other in conditions]


def remove_condition(conditions: Sequence[Mapping[str, Any]], kind: str) -> list[Condition]:
    """Return the conditions without one type (Reconciling and Stalled are there only while True)."""
    return [dict(condition) for condition in conditions if condition["type"] != kind]
