"""The types refuse and accept the same manifests as the API server (tests/api), with the same words."""

import manifest_tables as tables
import pytest

from solera_core.catalogue import DEFAULT_RUNTIME, load
from solera_core.spec import Invalid, Problem, parse_manifest
from solera_core.training_check import check_training
from solera_operator.api import ModelVersion, TrainedModel, read

KINDS = {"TrainedModel": TrainedModel, "ModelVersion": ModelVersion}
WRONG = tables.wrong()
STALLED = tables.stalled()


def read_any(manifest):
    return read(KINDS[manifest["kind"]], manifest)


def assert_problem(found, field, message):
    assert isinstance(found, Invalid), f"accepted, but {field}: {message} was expected"
    assert any(problem.path == field and message in problem.message for problem in found.problems), (
        f"expected {field}: {message}\nfound:\n{found}"
    )


def test_names_of_cases_are_unique():
    names = [case.name for case in [*WRONG, *STALLED]]
    assert len(names) == len(set(names))
    assert len(WRONG) >= 60


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.name)
def test_types_refuse_what_the_api_server_refuses(case):
    assert_problem(read_any(case.manifest), case.local_field, case.local_message)


@pytest.mark.parametrize("case", [case for case in STALLED if case.by == "types"], ids=lambda case: case.name)
def test_types_refuse_what_cel_cannot_see(case):
    assert_problem(read_any(case.manifest), case.field, case.message)


@pytest.mark.parametrize(
    "case", [case for case in STALLED if case.by == "catalogue"], ids=lambda case: case.name
)
def test_catalogue_refuses_what_the_types_do_not_know(case):
    model = read_any(case.manifest)
    assert isinstance(model, TrainedModel), str(model)
    spec = model.spec.document()
    found = check_training(load(DEFAULT_RUNTIME), spec["task"], spec["training"], spec.get("gates", ()))
    assert any(
        reason == case.reason and problem.path == case.field and case.message in problem.message
        for reason, problem in found
    ), f"expected {case.reason} {case.field}: {case.message}\nfound: {found}"


@pytest.mark.parametrize("name", tables.valid())
def test_types_accept_valid_manifests(name):
    manifest = tables.valid()[name]
    model = read_any(manifest)
    assert not isinstance(model, Invalid), str(model)
    assert read_any(model.document()) == model


@pytest.mark.parametrize(
    "case", [case for case in WRONG if case.base["kind"] == "TrainedModel"], ids=lambda case: case.name
)
def test_laptop_refuses_the_same_as_the_cluster(case):
    """How a model is served is the cluster's business; the laptop refuses everything else that it refuses."""
    if case.field.startswith(("spec.serving", "spec.versionHistoryLimit")):
        assert not isinstance(parse_manifest(case.manifest), Invalid)
    else:
        assert_problem(parse_manifest(case.manifest), case.local_field, case.local_message)


def test_problem_reads_like_kubectl():
    assert str(Problem("spec.task", "Required value")) == "spec.task: Required value"
