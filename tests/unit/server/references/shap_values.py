"""
Run in the environment ``shap``: explain pickled models by the package shap.

Reads from the first argument a pickled list of (name, kind, estimator, rows, mean), kind "trees" or "linear", and
writes to the second a JSON object of {name: {"values": ..., "base": ...}}, values as (rows, columns, outputs).
"""

import json
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import shap

warnings.simplefilter("ignore")


def explained(kind, estimator, rows, mean):
    if kind == "linear":
        # Without correlations, a background of one row: the mean.
        explainer = shap.LinearExplainer(estimator, shap.maskers.Independent(mean.reshape(1, -1)))
    else:
        explainer = shap.TreeExplainer(estimator, feature_perturbation="tree_path_dependent")
    values = np.asarray(explainer.shap_values(rows))
    return values.reshape(*rows.shape, -1), np.asarray(explainer.expected_value).reshape(-1)


def main():
    cases = pickle.loads(Path(sys.argv[1]).read_bytes())  # noqa: S301 - the test wrote it
    found = {}
    for name, kind, estimator, rows, mean in cases:
        values, base = explained(kind, estimator, rows, mean)
        found[name] = {"values": values.tolist(), "base": base.tolist()}
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


main()
