"""Putting lists back that somebody has added to, where the whole does not fit together any more.

Server-side apply leaves items that others have added, so an apply can be refused for what is not ours (two
ports of one number, say). A merge patch replaces whole lists; but what it writes belongs to another entry
of managedFields than what is applied, and a field with two owners would stay when it is applied no longer.
"""

from collections.abc import Mapping
from typing import Any

from solera_operator.engine.client import KubeClient, Object
from solera_operator.engine.errors import Conflict
from solera_operator.engine.resource import names

_ATTEMPTS = 3


async def replace_spec(client: KubeClient, desired: Mapping[str, Any], uid: str) -> Object:
    """Write `desired`'s spec over the live one and own none of it: the apply that follows is to own it.

    Returns the object as it is then. Raises Conflict or Invalid when it is another object than the one of
    this uid, Conflict also when it changes all the time.
    """
    resource, (namespace, name) = client.resource_of(desired), names(desired)
    patch = {"metadata": {"uid": uid}, "spec": desired.get("spec")}
    live = await client.patch(resource, namespace, name, patch)
    for attempt in range(_ATTEMPTS):
        entries = live["metadata"].get("managedFields") or []
        others = [entry for entry in entries if not _patched(entry, client.field_manager)]
        if len(others) == len(entries) or not others:  # an empty list would be taken for no change
            return live
        metadata = {
            "uid": uid,
            "resourceVersion": live["metadata"]["resourceVersion"],
            "managedFields": others,
        }
        try:
            return await client.patch(resource, namespace, name, {"metadata": metadata})
        except Conflict:
            found = await client.get(resource, namespace, name)
            if found is None or found["metadata"]["uid"] != uid or attempt == _ATTEMPTS - 1:
                raise
            live = found
    return live


def _patched(entry: Mapping[str, Any], field_manager: str) -> bool:
    """Whether an entry of managedFields is of what we patched, not of what we applied."""
    return (
        entry.get("manager") == field_manager
        and entry.get("operation") == "Update"
        and not entry.get("subresource")
    )
