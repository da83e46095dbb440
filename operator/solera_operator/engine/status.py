"""Status that is written only when it says something new."""

from collections.abc import Mapping
from typing import Any

from solera_operator.engine.client import KubeClient, Object
from solera_operator.engine.resource import names


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
