"""What CEL could not see in a spec: estimators, parameters and metrics, by the runtime's catalogue."""

from solera_core.catalogue import load
from solera_core.training_check import check_training
from solera_operator.api import TrainedModel
from solera_operator.domain.diagnosis import Failure
from solera_operator.settings import Settings


def spec_problem(model: TrainedModel, settings: Settings) -> Failure | None:
    """Why a spec cannot be carried out; neither is a version made for it, nor are its gates judged."""
    document = model.spec.document()
    catalogue = load(settings.default_runtime().name)
    problems = check_training(catalogue, model.spec.task, document["training"], document.get("gates", ()))
    if not problems:
        return None
    return Failure(str(problems[0][0]), "; ".join(str(problem) for _, problem in problems[:4]))
