"""Fingerprints: what makes two trainings, or two evaluations, the same."""

import hashlib
from collections.abc import Sequence

from solera_core.spec import Gate, Task, Training


def training_token(task: Task, training: Training) -> str:
    """The token of the training that a spec asks for: 16 hex digits.

    A default that is written out, or a field that a later release adds, changes nothing.
    """
    return hashlib.sha256(task.encode() + b"\n" + training.canonical()).hexdigest()[:16]


def evaluation_id(gates: Sequence[Gate], digest: str) -> str:
    """What an evaluation judges, as 8 hex digits: the artifact and the gates."""
    judged = b"\n".join([digest.encode(), *(gate.canonical() for gate in gates)])
    return hashlib.sha256(judged).hexdigest()[:8]
