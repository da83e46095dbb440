"""Names, labels and owners hold for every model, also the longest."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from owned_objects import BARE_SPEC, FULL_SPEC, all_objects, trained_model

from solera_core.spec.names import MODEL_NAME_MAX
from solera_operator.resources import names

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

model_names = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True).filter(
    lambda name: not re.search(r"-v[0-9]+$", name)
)
numbers = st.integers(min_value=1, max_value=10**9)


@given(name=model_names, number=numbers, spec=st.sampled_from([FULL_SPEC, BARE_SPEC]))
def test_every_name_and_label_is_valid(name, number, spec):
    for what, obj in all_objects(trained_model(spec, name=name), number=number).items():
        meta = obj["metadata"]
        assert DNS_LABEL.fullmatch(meta["name"]), (what, meta["name"])
        for key, value in meta["labels"].items():
            assert LABEL_VALUE.fullmatch(value), (what, key, value)


@given(name=model_names, number=numbers)
def test_names_of_a_kind_are_distinct(name, number):
    objects = all_objects(trained_model(name=name), number=number)
    found = [(obj["kind"], obj["metadata"]["name"]) for obj in objects.values()]
    assert len(set(found)) == len(found)


def test_a_job_of_the_longest_name_is_shortened_and_stays_its_own():
    version = names.version_name("m" * MODEL_NAME_MAX, 1234)
    first = names.evaluate_job_name(version, "00000001")
    second = names.evaluate_job_name(version, "00000002")
    assert len(first) == 63
    assert first != second
    assert first == names.evaluate_job_name(version, "00000001")


def test_short_names_are_what_people_expect():
    assert names.version_name("iris", 6) == "iris-v6"
    assert names.train_job_name("iris-v6") == "iris-v6-train"
    assert names.evaluate_job_name("iris-v6", "0123abcd") == "iris-v6-evaluate-0123abcd"
    assert names.report_job_name("iris-v6", "train", None) == "iris-v6-report-train"
    assert names.report_job_name("iris-v6", "evaluate", "0123abcd") == "iris-v6-report-0123abcd"
    assert names.service_address("iris", "models") == "http://iris.models.svc"


@pytest.mark.parametrize("what", all_objects(trained_model()))
def test_objects_are_found_by_the_managed_selector_and_owned_by_one_controller(what):
    obj = all_objects(trained_model())[what]
    key, value = names.MANAGED_SELECTOR.split("=")
    assert obj["metadata"]["labels"][key] == value
    assert obj["metadata"]["labels"][names.MODEL_LABEL] == "adult"
    [owner] = obj["metadata"]["ownerReferences"]
    of_a_version = obj["kind"] == "Job"
    assert owner["kind"] == ("ModelVersion" if of_a_version else "TrainedModel")
    assert owner["uid"].startswith("99999999" if of_a_version else "11111111")
    assert owner["controller"] is True
    assert "blockOwnerDeletion" not in owner


def test_labels_and_annotations_of_the_parent_are_never_copied():
    plain = all_objects(trained_model())
    marked = trained_model(
        labels={"argocd.argoproj.io/instance": "app", "team": "x"}, annotations={"note": "y"}
    )
    assert all_objects(marked) == plain
