"""What is to be learned, as a Job or a laptop says it."""

from __future__ import annotations

from dataclasses import dataclass

from solera_core.spec import Gate, SplitMethod, Task, Training


@dataclass(frozen=True)
class Problem:
    """The parsed spec of one version, and the salt of its split."""

    task: Task
    training: Training
    salt: str
    gates: tuple[Gate, ...] = ()

    @property
    def method(self) -> SplitMethod:
        """How rows are split."""
        return self.training.split_method(self.task)

    @property
    def metric(self) -> str:
        """The metric that chooses the candidate."""
        return self.training.metric(self.task)
