"""Status as it is written: typed, and with the times of transitions kept."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from solera_core.spec.base import SpecModel
from solera_operator.api.objects import Condition as StoredCondition
from solera_operator.api.objects import ConditionStatus
from solera_operator.domain.assessment import Condition

MESSAGE_LIMIT = 4096


def stored_form(status: SpecModel) -> dict[str, Any]:
    """Status as it is written: an empty list is left out, as an absent field is."""
    return {field: value for field, value in status.document().items() if value != []}


def timed(
    wanted: Iterable[Condition], before: Sequence[StoredCondition], generation: int, now: datetime
) -> tuple[StoredCondition, ...]:
    """Conditions with their times: a condition whose status stays keeps the time of its last transition."""
    since = {c.type: c for c in before}
    out = []
    for condition in wanted:
        old = since.get(condition.type)
        same = old is not None and old.status == condition.status
        out.append(
            StoredCondition(
                type=condition.type,
                status=ConditionStatus(condition.status),
                reason=condition.reason,
                message=condition.message[:MESSAGE_LIMIT],
                observed_generation=generation,
                last_transition_time=old.last_transition_time if old is not None and same else now,
            )
        )
    return tuple(out)
