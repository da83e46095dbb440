"""The conditions of a TrainedModel: one truth table, made from one situation.

Ready: the current generation is carried out and the champion answers. Available: a champion answers.
Reconciling and Stalled stand in status only while they are True, as kstatus expects.
"""

from __future__ import annotations

from dataclasses import dataclass

from solera_operator.domain.diagnosis import Failure
from solera_operator.domain.promotion import Champion
from solera_operator.domain.versions import Verdict, Version

NAME_CONFLICT = "NameConflict"
"""The reason of what waits for somebody else: an object that is not Solera's has a name that it needs."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as it should be; the time of its last transition is kept by whoever writes it."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the conditions of a TrainedModel depend on.

    Attributes:
        refusal: why the spec cannot be carried out at all (wrong values, a name that is taken, a bad pin).
        wanted: the version that the spec asks for, None before it exists.
        wanted_note: what its conditions say (progress, failure or verdict), reason and message.
        has_gates: whether spec.gates names any gate.
        champion: what should serve.
        target: the version that traffic goes to.
        champion_ready: replicas of the champion that answer.
        champion_size: replicas that the autoscaler wants of the champion now.
        champion_minimum: replicas below which it is not whole: the spec's minimum.
        target_ready: replicas behind the stable Service that answer.
        server_failure: why the champion's servers do not get ready.
        route_problem: why the gateway does not route, None if it does or none is named.
        route_pending: the gateway has not looked at the current route yet.
        pinned: a pin holds the champion.
        pin_waits: the pinned version is not there yet.
        rolling: pods of the champion still follow an earlier spec.
    """

    refusal: Failure | None = None
    wanted: Version | None = None
    wanted_note: Failure | None = None
    has_gates: bool = True
    champion: Champion | None = None
    target: str = ""
    champion_ready: int = 0
    champion_size: int = 1
    champion_minimum: int = 1
    target_ready: int = 0
    server_failure: Failure | None = None
    route_problem: Failure | None = None
    route_pending: bool = False
    pinned: bool = False
    pin_waits: Failure | None = None
    rolling: bool = False


def first_conditions() -> tuple[Condition, ...]:
    """The conditions that stand in status as soon as a model has been seen."""
    said = "the model has been seen; its first version is being created"
    return (
        Condition("Ready", "Unknown", "Progressing", said),
        Condition("Available", "False", "NoChampion", _NO_CHAMPION),
        Condition("Reconciling", "True", "Progressing", said),
    )


def conditions(s: Situation) -> tuple[Condition, ...]:
    """The conditions that stand in status, Ready first."""
    ready = _ready(s)
    stalled = _stalled(s)
    out = [ready, _available(s)]
    if stalled is not None:
        out.append(Condition("Stalled", "True", stalled.reason, stalled.message))
    elif ready.status != "True":
        out.append(Condition("Reconciling", "True", ready.reason, ready.message))
    if s.wanted is not None and s.wanted.verdict is Verdict.PENDING and s.refusal is None:
        note = s.wanted_note or Failure("Training", "training is under way")
        out.append(Condition("Training", "True", note.reason, f"{s.wanted.name}: {note.message}"))
    return tuple(out)


_NO_CHAMPION = "no version has been promoted yet"


def _available(s: Situation) -> Condition:
    if s.champion is None:
        return Condition("Available", "False", "NoChampion", _NO_CHAMPION)
    if s.target_ready > 0:
        return Condition(
            "Available", "True", "Serving", f"{s.target} answers with {_replicas(s.target_ready)}"
        )
    serving = s.target or s.champion.version
    why = s.server_failure if serving == s.champion.version else None
    why = why or Failure("ServerNotReady", "no replica is ready yet")
    return Condition("Available", "False", why.reason, f"{serving}: {why.message}")


def _stalled(s: Situation) -> Failure | None:
    """What only a change by the user (or of the cluster) can mend; None while Solera can still get on."""
    if s.refusal is not None:
        return s.refusal
    if s.wanted is None or (s.pinned and s.champion and s.champion.version == s.wanted.name):
        return None  # who pins the very version has had his say on its gates
    if s.wanted.verdict is Verdict.PENDING and s.wanted_note and s.wanted_note.reason == NAME_CONFLICT:
        return _about(s.wanted, s.wanted_note)
    if s.wanted.verdict is Verdict.FAILED:
        return _about(s.wanted, s.wanted_note or Failure("TrainingFailed", "the training failed"))
    if s.wanted.verdict is Verdict.REJECTED:
        if not s.has_gates:
            return _no_gates(s.wanted)
        return _about(s.wanted, s.wanted_note or Failure("GateFailed", "a gate was not passed"))
    return None


def _no_gates(wanted: Version) -> Failure:
    return Failure(
        "NoGates",
        f"{wanted.name} is trained, and nothing says when it may serve: add a gate to spec.gates,"
        ' for example {metric: accuracy, min: "0.90"} or {metric: r2, min: "0.50"}',
    )


def _about(version: Version, failure: Failure) -> Failure:
    return Failure(failure.reason, f"{version.name}: {failure.message}", failure.exit_code)


def _ready(s: Situation) -> Condition:
    """Ready, by the first thing that stands in its way."""
    stalled = _stalled(s)
    if stalled is not None:
        return Condition("Ready", "False", stalled.reason, stalled.message)
    if s.pin_waits is not None:
        return Condition("Ready", "False", s.pin_waits.reason, s.pin_waits.message)
    if not s.pinned:
        if s.wanted is None:
            return Condition("Ready", "False", "Progressing", "a version for this spec is being created")
        if s.wanted.verdict is Verdict.PENDING:
            note = s.wanted_note or Failure("Progressing", "training is under way")
            return Condition("Ready", "False", note.reason, f"{s.wanted.name}: {note.message}")
    return _serving(s)


def whole(s: Situation) -> bool:
    """Whether the champion serves with at least the replicas of the spec, all of the current spec.

    A pod more that the autoscaler wants and no node has room for takes nothing away from that.
    """
    if s.champion is None or s.target != s.champion.version or s.rolling:
        return False
    return s.champion_ready >= min(s.champion_minimum, s.champion_size)


def _serving(s: Situation) -> Condition:
    if s.champion is None:
        return Condition("Ready", "False", "Progressing", "the champion is being chosen")
    name = s.champion.version
    if s.server_failure is not None and not whole(s):
        return Condition("Ready", "False", s.server_failure.reason, f"{name}: {s.server_failure.message}")
    if s.target != name or s.champion_ready == 0:
        have = f"{s.champion_ready} of {s.champion_size} replicas ready"
        return Condition("Ready", "False", "Progressing", f"{name} is being brought up: {have}")
    if s.rolling:
        return Condition("Ready", "False", "Progressing", f"{name} is rolled to the current spec")
    if s.route_problem is not None:
        return Condition("Ready", "False", s.route_problem.reason, s.route_problem.message)
    if s.route_pending:
        return Condition("Ready", "False", "RoutePending", "the gateway has not accepted the route yet")
    return Condition("Ready", "True", "Serving", f"{name} serves{_unusual(s, name)}")


def _unusual(s: Situation, champion: str) -> str:
    """Why it is not simply the version that the spec asks for."""
    if s.pinned:
        return ", held by spec.serving.pin"
    if s.wanted is not None and s.wanted.name != champion:
        return (
            f"; {s.wanted.name}, which the spec asks for, was rolled back: pin it to serve it again, "
            "or change spec.training"
        )
    return ""


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"
