"""An API server that answers from a table, and caches that hold what they were given.

Only for what no test against a real API server can bring about: caches that are behind it.
"""

from types import SimpleNamespace
from typing import Any

from solera_operator.controllers.caches import BY_MODEL, BY_VERSION, by_model, by_version
from solera_operator.controllers.stored import project_model, project_version
from solera_operator.domain.observed import project_job, project_meta, project_pod
from solera_operator.engine.store import Store

INDEXES = {BY_MODEL: by_model, BY_VERSION: by_version}


class Cluster:
    """What is stored, and which requests were made."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.asked: list[tuple[str, ...]] = []

    async def get(
        self, resource: Any, _: str, name: str, *, metadata_only: bool = False
    ) -> dict[str, Any] | None:
        self.asked.append(("get", resource.kind, name))
        assert not metadata_only or resource.kind == "Service"
        return self.objects.get((resource.kind, name))

    async def list_all(
        self, resource: Any, _: str, label_selector: str | None = None
    ) -> list[dict[str, Any]]:
        self.asked.append(("list", resource.kind, label_selector or ""))
        return self.pods if resource.kind == "Pod" else []


def caches() -> Any:
    """Empty caches, each a real store."""

    def store(project: Any) -> Store[Any]:
        return Store(project=project, indexes=INDEXES)

    return SimpleNamespace(
        models=store(project_model),
        versions=store(project_version),
        jobs=store(project_job),
        pods=store(project_pod),
        services=store(project_meta),
        deployments=store(project_meta),
        served=lambda *_: {},
    )
