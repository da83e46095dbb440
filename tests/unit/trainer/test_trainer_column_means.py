"""The means from which contributions of linear models are counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from solera_trainer.column_means import column_means

COLUMNS = {
    "n": np.array([1.0, np.nan, 3.0, 8.0]),
    "note": np.array(["a b", "b", "b b", "c"], dtype=object),
}
LABELS = [0, 1, 0, 1]


def fitted(estimator, columns=COLUMNS):
    branches = [("n", SimpleImputer(), ["n"]), ("note", CountVectorizer(token_pattern=r"\w"), "note")]
    pipeline = Pipeline([("preprocess", ColumnTransformer(branches)), ("model", estimator)])
    return pipeline.fit(pd.DataFrame(columns), LABELS)


def test_they_are_the_means_of_what_the_estimator_was_fitted_on():
    # The imputer fills in 4; a, b and c are counted, sparsely.
    assert column_means(fitted(LogisticRegression()), COLUMNS) == pytest.approx([4.0, 0.25, 1.0, 0.25])


def test_other_estimators_need_none():
    assert column_means(fitted(DecisionTreeClassifier()), COLUMNS) is None


def test_a_mean_beyond_a_float_is_left_out():
    model = fitted(LogisticRegression())
    huge = {**COLUMNS, "n": np.full(4, 1.7e308)}
    assert column_means(model, huge) is None
