"""TreeSHAP: from the C extension where it is there (see kernels.py), otherwise from numpy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from solera_server.compiled import kernels, kernels_shap_numpy

if TYPE_CHECKING:
    from solera_server.compiled.kernels_shap_numpy import tree_shap
else:
    tree_shap = (
        importlib.import_module("solera_native").tree_shap if kernels.NATIVE else kernels_shap_numpy.tree_shap
    )

__all__ = ["tree_shap"]
