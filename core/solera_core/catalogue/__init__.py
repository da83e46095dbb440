"""What a runtime can train, and which values its parameters take."""

from solera_core.catalogue.catalogue import (
    DEFAULT_RUNTIME,
    Catalogue,
    Component,
    Metric,
    Problem,
    load,
    runtimes,
)
from solera_core.catalogue.values import Alternative, BadValue

__all__ = [
    "DEFAULT_RUNTIME",
    "Alternative",
    "BadValue",
    "Catalogue",
    "Component",
    "Metric",
    "Problem",
    "load",
    "runtimes",
]
