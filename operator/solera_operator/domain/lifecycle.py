"""The life of one ModelVersion: train, read the result, evaluate, and come to a verdict.

Everything here is decided from what is recorded in the version's status and what its Jobs and pods show
now, so that an operator that starts again anywhere in between takes the same next step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from solera_operator.domain.diagnosis import (
    Failure,
    ask_again,
    event_failure,
    job_failure,
    pods_failure,
    speaks_in_events_only,
    told,
)
from solera_operator.domain.observed import Job, KubeEvent, Pod
from solera_operator.domain.versions import Verdict, Version

Result = Mapping[str, Any]


class Act(StrEnum):
    """What to do next for a version."""

    WAIT = "Wait"
    TRAIN = "Train"
    REPORT_TRAIN = "ReportTrain"
    EVALUATE = "Evaluate"
    REPORT_EVALUATE = "ReportEvaluate"
    RECORD_TRAIN = "RecordTrain"
    RECORD_EVALUATE = "RecordEvaluate"
    RECORD_FAILURE = "RecordFailure"
    DONE = "Done"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a version's status already holds.

    Attributes:
        digest: of the artifact, empty before training is recorded.
        evaluation: id of the evaluation that is recorded, empty if there is none.
        failed: a training failure is recorded: nothing more is tried.
        failed_evaluation: id of an evaluation whose Job failed.
    """

    digest: str = ""
    evaluation: str = ""
    failed: bool = False
    failed_evaluation: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A Job of the version, if it exists, with its pods and (where they were read) its Events."""

    job: Job | None = None
    pods: tuple[Pod, ...] = ()
    events: tuple[KubeEvent, ...] = ()

    @property
    def needs_events(self) -> bool:
        """Whether only Events can tell why this run does not get on."""
        return self.job is not None and speaks_in_events_only(self.job, self.pods)

    def ask_again(self, now: datetime) -> float:
        """Seconds until Events are read again, where only they can tell."""
        stuck = [pod.meta for pod in self.pods] or ([self.job.meta] if self.job is not None else [])
        return ask_again(stuck, now)


@dataclass(frozen=True, slots=True)
class Step:
    """The next act with what it needs: a result to record, a failure, or a note for the conditions."""

    act: Act
    note: Failure | None = None
    result: Result | None = None


def next_step(recorded: Recorded, wanted_evaluation: str, train: Run, evaluate: Run, report: Run) -> Step:
    """Decide the next act.

    Args:
        recorded: what status holds.
        wanted_evaluation: the evaluation that the model's gates ask for, empty when this version need
            not be judged (it is not the one that the spec wants).
        train: the train Job.
        evaluate: the evaluate Job for ``wanted_evaluation``.
        report: the report Job for whichever of the two is to be recorded.
    """
    if settled(recorded, wanted_evaluation):
        return Step(Act.DONE)
    if not recorded.digest:
        return _follow(train, report, _TRAIN)
    return _follow(evaluate, report, _EVALUATE)


def settled(recorded: Recorded, wanted_evaluation: str) -> bool:
    """Whether all that is wanted of a version is recorded, so that no Job is looked at."""
    if recorded.failed or not recorded.digest:
        return recorded.failed
    done = ("", recorded.evaluation, recorded.failed_evaluation)
    return wanted_evaluation in done


def superseded(version: Version, last: int, wanted: Version | None, pinned: str) -> bool:
    """Whether the training of ``version`` is given up: another version is wanted in its place.

    Args:
        version: the one that may be given up.
        last: the newest number in its model's status. A model that does not know this version's number yet
            was read before the spec changed to what the version was made for.
        wanted: the version that the model's spec wants.
        pinned: the version that the model's pin names.
    """
    if version.verdict is not Verdict.PENDING or version.digest or version.name == pinned:
        return False
    return last >= version.number and wanted is not None and wanted.name != version.name


def give_up(step: Step, train: Run) -> Step:
    """The step in place of ``step`` for a version that is superseded.

    A training that has come to its end already is recorded as what it is.
    """
    if step.act not in {Act.TRAIN, Act.WAIT} or (train.job is not None and train.job.outcome):
        return step
    said = "the spec changed before it was trained; a spec that comes back is trained under a new number"
    return Step(Act.RECORD_FAILURE, note=Failure(Verdict.SUPERSEDED.value, said))


@dataclass(frozen=True, slots=True)
class _Kind:
    kind: str
    create: Act
    report: Act
    record: Act
    running: Failure


_TRAIN = _Kind(
    "train", Act.TRAIN, Act.REPORT_TRAIN, Act.RECORD_TRAIN, Failure("Training", "training is under way")
)
_EVALUATE = _Kind(
    "evaluate",
    Act.EVALUATE,
    Act.REPORT_EVALUATE,
    Act.RECORD_EVALUATE,
    Failure("Evaluating", "evaluation on held-out rows is under way"),
)


def _follow(run: Run, report: Run, kind: _Kind) -> Step:
    """One Job from its creation to its recorded result."""
    if run.job is None:
        return Step(kind.create, note=kind.running)
    if run.job.outcome == "Failed":
        return Step(Act.RECORD_FAILURE, note=job_failure(run.job, run.pods))
    if run.job.outcome != "Complete":
        return Step(Act.WAIT, note=progress(run, kind.running))
    result = spoken_result(run.pods, kind.kind)
    if result is not None:
        return Step(kind.record, result=result)
    # The pod is gone, or its message was lost: the result stands in the store, a report Job reads it.
    if report.job is None:
        return Step(kind.report, note=Failure("ReadingResult", "the result is being read from the store"))
    if report.job.outcome == "Failed":
        return Step(Act.RECORD_FAILURE, note=job_failure(report.job, report.pods))
    result = spoken_result(report.pods, kind.kind)
    if result is not None:
        return Step(kind.record, result=result)
    if report.job.outcome == "Complete":
        return Step(
            Act.RECORD_FAILURE,
            note=Failure(
                "ResultLost", "the report Job ended without a result; delete this version to train again"
            ),
        )
    return Step(
        Act.WAIT, note=progress(report, Failure("ReadingResult", "the result is being read from the store"))
    )


def spoken_result(pods: Sequence[Pod], kind: str) -> Result | None:
    """The result that a succeeded pod left as its termination message."""
    for pod in pods:
        for container in pod.containers:
            if container.state != "terminated" or container.exit_code != 0:
                continue
            document = told(container.message)
            if document is not None and document["ok"] and document["kind"] == kind:
                return document
    return None


def whole(job: Job, pods: Sequence[Pod], kind: str) -> bool:
    """Whether what is seen of an ended Job is all there is to see.

    Jobs and pods are watched apart, so a Job may be seen to end before the last pod is. What a succeeded
    Job's pod said is whole; why a Job failed is known only when all of its pods were looked at.
    """
    return not job.outcome or (job.outcome == "Complete" and spoken_result(pods, kind) is not None)


def progress(run: Run, running: Failure) -> Failure:
    """What a Job under way is waiting for, or that it runs."""
    if run.job is not None and run.job.suspended:
        return Failure("Queued", "its Job is suspended: it waits for a place in its queue")
    if run.needs_events and (told_by_event := event_failure(run.events)) is not None:
        return told_by_event
    live = [p for p in run.pods if p.phase in {"Pending", "Running"}]
    if (held := pods_failure(live)) is not None:
        return held
    ended = [p for p in run.pods if p.phase == "Failed"]
    if (last := pods_failure(ended)) is not None:
        return Failure(
            last.reason, f"failed {len(ended)} times and is tried again: {last.message}", last.exit_code
        )
    return running
