"""The allow-list: which estimators, transformers and metrics a spec may name, chosen by hand.

Left out: what needs another estimator as a parameter and has no sensible default, what cannot predict for new
rows (LocalOutlierFactor without novelty and the like), what scikit-learn calls experimental, and anything
whose parameters run code.
"""

from __future__ import annotations

from typing import Any


def _names(module: str, names: str) -> list[str]:
    return [f"sklearn.{module}.{name}" for name in names.split()]


ESTIMATORS: list[str] = [
    *_names(
        "linear_model",
        "LogisticRegression RidgeClassifier SGDClassifier LinearRegression Ridge Lasso ElasticNet"
        " HuberRegressor BayesianRidge SGDRegressor PoissonRegressor GammaRegressor"
        " TweedieRegressor QuantileRegressor",
    ),
    *_names("tree", "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor"),
    *_names(
        "ensemble",
        "RandomForestClassifier RandomForestRegressor ExtraTreesClassifier ExtraTreesRegressor"
        " GradientBoostingClassifier GradientBoostingRegressor HistGradientBoostingClassifier"
        " HistGradientBoostingRegressor AdaBoostClassifier AdaBoostRegressor BaggingClassifier"
        " BaggingRegressor",
    ),
    *_names("neighbors", "KNeighborsClassifier KNeighborsRegressor"),
    *_names("naive_bayes", "GaussianNB MultinomialNB ComplementNB BernoulliNB"),
    *_names("svm", "SVC NuSVC LinearSVC SVR NuSVR LinearSVR"),
    *_names("neural_network", "MLPClassifier MLPRegressor"),
    *_names("discriminant_analysis", "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis"),
    *_names("kernel_ridge", "KernelRidge"),
    *_names("dummy", "DummyClassifier DummyRegressor"),
]

TEXT_TRANSFORMERS: list[str] = _names(
    "feature_extraction.text", "CountVectorizer HashingVectorizer TfidfVectorizer"
)

TRANSFORMERS: list[str] = [
    *_names("impute", "SimpleImputer KNNImputer MissingIndicator"),
    *_names(
        "preprocessing",
        "StandardScaler MinMaxScaler MaxAbsScaler RobustScaler Normalizer PowerTransformer"
        " QuantileTransformer KBinsDiscretizer Binarizer PolynomialFeatures SplineTransformer"
        " OneHotEncoder OrdinalEncoder TargetEncoder",
    ),
    *_names("feature_selection", "VarianceThreshold SelectKBest SelectPercentile"),
    *_names("decomposition", "PCA TruncatedSVD"),
    *TEXT_TRANSFORMERS,
]

# Their default score, the only one that YAML can ask for, is an F test between classes.
TRANSFORMERS_FOR_ONE_TASK: dict[str, list[str]] = {
    "sklearn.feature_selection.SelectKBest": ["Classification"],
    "sklearn.feature_selection.SelectPercentile": ["Classification"],
}

MANAGED: dict[str, str] = {
    "n_jobs": "it comes from the CPUs of training.pod",
    "verbose": "it changes no model",
    "warm_start": "every fit begins anew",
    "memory": "nothing is kept between trainings",
    "copy": "it changes no model",
    "copy_X": "it changes no model",
    "cache_size": "it changes no model",
    "copy_X_train": "it changes no model",
    "missing_values": "a missing value is always one and the same here",
    "keep_empty_features": "empty columns are always kept, so that the columns do not depend on the fold",
    "scoring": "training.validation.metric says it",
    "input": "a column holds the text itself",
    "encoding": "text is UTF-8",
    "decode_error": "text is UTF-8",
    "dtype": "numbers are float64",
}

# Values that need a matrix of distances instead of rows.
REFUSED_VALUES = frozenset({"precomputed", "deprecated", "filename", "file"})

# Parameters whose lists hold lists, which `params` cannot say.
NO_LISTS = frozenset({"categories", "interaction_cst"})

# Parameters that scikit-learn does not validate itself.
ANY_OF_SCALARS: dict[str, list[dict[str, Any]]] = {
    "fill_value": [{"type": "Real"}, {"type": "String"}, {"type": "Null"}],
    "constant": [{"type": "Real"}, {"type": "String"}, {"type": "Null"}],
}


def _metric(
    task: str, description: str, *, greater: bool = True, needs: str = "predict", interval: str = "Bootstrap"
) -> dict[str, Any]:
    return {
        "task": task,
        "description": description,
        "greaterIsBetter": greater,
        "needs": needs,
        "interval": interval,
    }


_C, _R = "Classification", "Regression"

METRICS: dict[str, dict[str, Any]] = {
    "accuracy": _metric(_C, "share of rows whose class is right", interval="Wilson"),
    "balanced_accuracy": _metric(_C, "mean of the recalls of the classes"),
    "f1_macro": _metric(_C, "mean of the classes' F1"),
    "f1_micro": _metric(_C, "F1 over all rows; the same as accuracy", interval="Wilson"),
    "f1_weighted": _metric(_C, "mean of the classes' F1, weighted by their rows"),
    "precision_macro": _metric(_C, "mean of the classes' precision"),
    "precision_weighted": _metric(_C, "mean of the classes' precision, weighted by their rows"),
    "recall_macro": _metric(_C, "mean of the classes' recall"),
    "recall_weighted": _metric(
        _C, "mean of the classes' recall, weighted by their rows: the same as accuracy", interval="Wilson"
    ),
    "roc_auc": _metric(
        _C, "area under the ROC curve; with several classes the mean of each against the rest", needs="proba"
    ),
    "average_precision": _metric(
        _C,
        "average precision of the second class; with several classes the mean of each against the rest",
        needs="proba",
    ),
    "matthews_corrcoef": _metric(_C, "Matthews' correlation coefficient"),
    "log_loss": _metric(_C, "negative mean log-likelihood of the true class", greater=False, needs="proba"),
    "brier_score": _metric(
        _C,
        "mean squared error of the probabilities: of the second class, or summed over several",
        greater=False,
        needs="proba",
    ),
    "r2": _metric(_R, "coefficient of determination"),
    "explained_variance": _metric(_R, "share of the variance that is explained"),
    "mean_absolute_error": _metric(_R, "mean of the absolute errors", greater=False),
    "median_absolute_error": _metric(_R, "median of the absolute errors", greater=False),
    "mean_squared_error": _metric(_R, "mean of the squared errors", greater=False),
    "root_mean_squared_error": _metric(_R, "root of the mean of the squared errors", greater=False),
    "mean_absolute_percentage_error": _metric(
        _R, "mean of the absolute errors as shares of the true values", greater=False
    ),
    "max_error": _metric(_R, "largest absolute error; its bootstrap bounds never exceed it", greater=False),
}
