import json
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainer_cases import CATALOGUE

from solera_core.catalogue import BadValue
from solera_core.model_file import load_model, trusted_types
from solera_trainer import catalogue_gen
from solera_trainer.model_bytes import model_bytes
from solera_trainer.pipelines import component_of
from solera_trainer.trusted_gen import all_fitted, needed_types


def test_the_catalogue_and_its_page_are_fresh(capsys):
    assert catalogue_gen.main(["--check"]) == 0, capsys.readouterr().err


@pytest.fixture(scope="module")
def models():
    """Every estimator and transformer of the catalogue in each variant, fitted."""
    return list(all_fitted(CATALOGUE))


def test_no_more_is_trusted_than_models_consist_of(models):
    assert list(trusted_types()) == needed_types(model for _, model in models)


def test_every_component_survives_storing(models, tmp_path):
    """Dumped, loaded by the fixed list, and dumped to equal bytes."""
    path = tmp_path / "model.skops"
    for dotted, model in models:
        data = model_bytes(model)
        path.write_bytes(data)
        assert model_bytes(load_model(path)) == data, dotted


DOTTED = sorted([*CATALOGUE.estimators, *CATALOGUE.transformers])


@pytest.mark.parametrize("dotted", DOTTED)
def test_defaults_are_accepted_by_the_catalogue(dotted):
    """What scikit-learn itself chooses is a value that the catalogue allows, unless it is ambiguous in YAML."""
    component = CATALOGUE.component(dotted)
    for name, default in component.defaults.items():
        for problem in CATALOGUE.check_params(dotted, {name: default}):
            assert "could be either" in problem.message


values = (
    st.integers(-3, 300)
    | st.floats(-3, 300).filter(lambda number: not number.is_integer())
    | st.booleans()
    | st.none()
    | st.sampled_from(["1", "1.0", "0.5", "auto", "sqrt", "l2", "balanced"])
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_the_catalogue_accepts_scikit_learn_accepts(data):
    dotted = data.draw(st.sampled_from(DOTTED))
    component = CATALOGUE.component(dotted)
    if not component.params:
        return
    name = data.draw(st.sampled_from(sorted(component.params)))
    value = data.draw(values)
    try:
        CATALOGUE.coerce_params(dotted, {name: value})
    except BadValue:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        component_of(CATALOGUE, dotted, {name: value}, 0)._validate_params()


def test_the_file_is_read_by_people():
    path = catalogue_gen.ROOT / "core/solera_core/catalogue/sklearn-1.9.json"
    assert json.loads(path.read_text())["sklearnVersion"] == CATALOGUE.sklearn_version
