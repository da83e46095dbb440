"""The conditions' truth table of docs/reference/trainedmodel.md, held against every status that was seen."""

from kube import Object
from models import conditions

PRESENT_WHILE_TRUE = ("Reconciling", "Stalled", "Training")


def problem(model: Object) -> str:
    """What contradicts the table in one state of a TrainedModel; empty if nothing does."""
    found = conditions(model)
    if not found:
        return "" if "status" not in model else "status without conditions"
    if missing := {"Ready", "Available"} - found.keys():
        return f"{missing} must always be there"
    for kind in PRESENT_WHILE_TRUE:
        if kind in found and found[kind]["status"] != "True":
            return f"{kind} stands in status and is not True"
    ready, available = found["Ready"]["status"], found["Available"]["status"]
    if ready == "True" and (available != "True" or "Reconciling" in found or "Stalled" in found):
        return "Ready, and yet not Available or still Reconciling or Stalled"
    if ready == "False" and ("Reconciling" in found) == ("Stalled" in found):
        return "not Ready must be either Reconciling or Stalled"
    if ready == "Unknown" and ("Reconciling" not in found or available != "False"):
        return "a first visit is Reconciling and not Available"
    if empty := [kind for kind, one in found.items() if not (one["reason"] and one["message"])]:
        return f"{empty} without reason or message"
    return ""


def check(states: list[Object]) -> list[str]:
    """Hold the table against all states; give the reasons of Ready in the order in which they came."""
    reasons: list[str] = []
    for state in states:
        assert not (wrong := problem(state)), f"{wrong}: {list(conditions(state).values())}"
        ready = conditions(state).get("Ready")
        if ready is not None and (not reasons or reasons[-1] != _told(ready)):
            reasons.append(_told(ready))
    return reasons


def _told(ready: Object) -> str:
    return f"{ready['status']} {ready['reason']}"
