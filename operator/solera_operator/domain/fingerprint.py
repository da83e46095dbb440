"""Fingerprints: what makes two trainings, or two evaluations, the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _hex(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


# What changes how and where a training runs, but not what it learns. A change of one of these trains
# nothing anew.
_RUN_ONLY = ("pod", "deadline", "retries", "queueName")


def training_token(task: str, training: dict[str, Any]) -> str:
    """The token of the training that a spec asks for: 16 hex digits over ``task`` and ``training``.

    ``training`` is the spec as the API server stores it (camelCase, JSON values). How the Job runs
    (resources, deadline, retries, queue) does not count: it does not change the model.
    """
    learnt = {k: v for k, v in training.items() if k not in _RUN_ONLY}
    return _hex({"task": task, "training": learnt})[:16]


def split_salt(model: str, seed: int) -> str:
    """The salt of the train/test split, the same for a model's life, on a laptop and in a cluster."""
    return hashlib.sha256(f"{model}:{seed}".encode()).hexdigest()


def evaluation_id(gates: list[dict[str, Any]], digest: str) -> str:
    """What an evaluation judges, as 8 hex digits: the artifact and the gates (as stored)."""
    return _hex({"gates": gates, "digest": digest})[:8]
