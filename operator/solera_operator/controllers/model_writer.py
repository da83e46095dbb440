"""Writing a TrainedModel's status, and saying what happened to it."""

from typing import Any, Literal

import structlog

from solera_operator.api import TrainedModel
from solera_operator.controllers.caches import Caches
from solera_operator.controllers.stored import Stored
from solera_operator.engine.client import KubeClient
from solera_operator.engine.errors import NotFound
from solera_operator.engine.events import EventRecorder
from solera_operator.engine.status import patch_if_changed

log = structlog.get_logger(__name__)


class ModelWriter:
    """The writes that the steps of the TrainedModel's reconcile share."""

    def __init__(self, client: KubeClient, caches: Caches, events: EventRecorder) -> None:
        self._client = client
        self._caches = caches
        self._events = events

    async def patch(self, stored: Stored[TrainedModel], wanted: dict[str, Any]) -> bool:
        """Write status if it changed, on the condition that nobody else wrote since it was read."""
        try:
            answer = await patch_if_changed(self._client, stored.live(), wanted)
        except NotFound:  # deleted meanwhile: its end is on its way to the cache
            log.debug("the model is gone")
            return False
        if answer is None:
            return False
        self._caches.models.observe(answer)
        return True

    def emit(
        self, stored: Stored[TrainedModel], reason: str, note: str, action: str, *, warning: bool = False
    ) -> None:
        """Post an Event about the model."""
        kind: Literal["Normal", "Warning"] = "Warning" if warning else "Normal"
        self._events.emit(stored.live(), reason=reason, note=note, action=action, kind=kind)
