"""Explainers of models that are compiled here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solera_core.artifact import file_entry
from solera_server.explain.explainer import Explainer, ModelFile, explainer_of
from solera_trainer.column_means import column_means

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from compiled_models import Pair


def explainer_for(pair: Pair, directory: Path, means: Any = None) -> Explainer:
    """Return what explains a compiled model that was written to the directory. Raises NotExplainable."""
    path = directory / "model.skops"
    return explainer_of(pair.compiled, ModelFile(path, file_entry(path)), means)


def means_of(pair: Pair, table: pd.DataFrame) -> list[float] | None:
    """Return what the trainer would store of the training rows."""
    return column_means(pair.model, {name: table[name].to_numpy() for name in table.columns})
