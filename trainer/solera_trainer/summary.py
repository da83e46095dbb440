"""What `solera-train` says to a person."""

from __future__ import annotations

from pathlib import Path

from solera_trainer.evaluation import Evaluated
from solera_trainer.problem import Problem
from solera_trainer.selection import Score
from solera_trainer.training import Trained

_MOST_SETTINGS = 12


def summary(name: str, problem: Problem, trained: Trained, evaluated: Evaluated, out: Path) -> str:
    """Return a few lines: data, candidates, metrics, gates, digest."""
    training = problem.training
    lines = [
        f"{name}: {problem.task.value} of {training.data.target} from {training.data.uri}",
        f"rows: {trained.rows_train} to train on, {trained.rows_test} held out ({problem.method.value})",
        *_left_out(training.data.target, trained),
        "",
        f"candidates, by {trained.metric} in {training.validation.folds} folds:",
        *_scores(trained),
        "",
        "held-out rows, with one-sided 95% bounds:",
        *_metrics(evaluated),
        "",
        *_gates(evaluated),
        "",
        f"artifact: {out} ({trained.manifest.size:,} bytes)",
        f"digest:   {trained.manifest.digest}",
        f"try it:   solera-server --model {out}",
    ]
    return "\n".join(lines) + "\n"


def _left_out(target: str, trained: Trained) -> list[str]:
    """Say how many rows have no target: a class that is called NA looks like a missing value."""
    count = trained.rows_without_target
    return [f"left out: {count} rows without a value of {target}"] if count else []


def _scores(trained: Trained) -> list[str]:
    shown = [score for score in trained.scores if score.error is None]
    shown.sort(key=lambda score: score is not trained.chosen)
    lines = [_score(score, chosen=score is trained.chosen) for score in shown[:_MOST_SETTINGS]]
    if len(shown) > _MOST_SETTINGS:
        lines.append(f"    and {len(shown) - _MOST_SETTINGS} more (see metrics.json)")
    failed = [score for score in trained.scores if score.error is not None]
    lines += [f"  ! {score.setting.candidate}: {score.error}" for score in failed[:3]]
    return lines


def _score(score: Score, *, chosen: bool) -> str:
    params = ", ".join(f"{key}={value}" for key, value in score.setting.params.items())
    mark = "*" if chosen else " "
    return f"  {mark} {score.setting.candidate:<16} {score.mean:.4f} +- {score.std:.4f}  {params}".rstrip()


def _metrics(evaluated: Evaluated) -> list[str]:
    lines = []
    for item in evaluated.estimates:
        if item.value is None:
            lines.append(f"    {item.name:<30} -  {item.reason}")
        else:
            bounds = "" if item.lower is None else f"  {item.lower:.4g} to {item.upper:.4g}"
            lines.append(f"    {item.name:<30} {item.value:.4g}{bounds}")
    return lines


def _gates(evaluated: Evaluated) -> list[str]:
    if not evaluated.verdicts:
        return ["gates: none, so that a cluster would not promote this model"]
    lines = ["gates:"]
    for verdict in evaluated.verdicts:
        mark = "passed" if verdict.passed else "FAILED"
        lines.append(f"  {mark}  {verdict.message}")
    return lines
