"""Reading stored objects never crashes, and says what does not fit."""

import manifest_tables as tables
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solera_core.spec import Invalid, parse_manifest
from solera_operator.api import ModelVersion, TrainedModel, read

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)
DIGEST = "sha256:" + "0" * 64
CHAMPION = {
    "version": "iris-v1", "digest": DIGEST, "revision": 1, "since": "2026-01-02T03:04:05Z", "reason": "Promoted",
}  # fmt: skip


def paths(value, at=()):
    """Return the path of every value below `value`."""
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += paths(inner, (*at, key))
    return found


def replaced(value, path, new):
    """Return `value` with what stands at `path` replaced."""
    if not path:
        return new
    head, *rest = path
    if isinstance(value, list):
        return [replaced(item, rest, new) if index == head else item for index, item in enumerate(value)]
    return {key: replaced(item, rest, new) if key == head else item for key, item in value.items()}


EVERYTHING = tables.valid()["valid/everything"]
VERSION = tables.base("modelversion")


@settings(max_examples=300)
@given(st.sampled_from(paths(EVERYTHING)), JSON)
def test_whatever_stands_in_a_field_is_read_or_told(path, value):
    stored = replaced(EVERYTHING, path, value)
    if isinstance(stored, dict):
        found = read(TrainedModel, stored)
        assert isinstance(found, TrainedModel | Invalid)
        if isinstance(found, Invalid):
            assert found.problems
            assert all(problem.message for problem in found.problems)
    assert isinstance(parse_manifest(stored), tuple | Invalid)


@given(st.sampled_from(paths(VERSION)), JSON)
def test_whatever_stands_in_a_version_is_read_or_told(path, value):
    stored = replaced(VERSION, path, value)
    if isinstance(stored, dict):
        assert isinstance(read(ModelVersion, stored), ModelVersion | Invalid)


@given(JSON)
def test_any_json_is_read_or_told(value):
    assert isinstance(parse_manifest(value), Invalid)
    assert isinstance(read(TrainedModel, {"status": value}), Invalid)


def test_unknown_fields_of_a_newer_status_are_dropped():
    status = {"champion": CHAMPION | {"approvedBy": "x"}, "experiment": {"name": "x"}, "url": "http://x"}
    model = read(TrainedModel, tables.base("classification") | {"status": status})
    assert isinstance(model, TrainedModel), str(model)
    assert model.status.document() == {
        "champion": CHAMPION, "url": "http://x", "rejected": [], "conditions": [],
    }  # fmt: skip


def test_a_champion_that_cannot_be_read_is_told():
    status = {"champion": CHAMPION | {"revision": "1"}, "later": 1}
    found = read(TrainedModel, tables.base("classification") | {"status": status})
    assert isinstance(found, Invalid)
    assert [problem.path for problem in found.problems] == ["status.champion.revision"]


def test_unknown_field_of_a_newer_spec_is_told_with_the_nearest_one():
    found = read(TrainedModel, tables.merged(tables.base("classification"), {"spec": {"servings": {}}}))
    assert isinstance(found, Invalid)
    assert str(found) == 'spec.servings: unknown field. Did you mean "serving"?'


def test_names_of_python_are_not_read():
    found = read(
        TrainedModel, tables.merged(tables.base("classification"), {"spec": {"version_history_limit": 3}})
    )
    assert isinstance(found, Invalid)
    assert "versionHistoryLimit" in str(found)


def test_several_problems_are_told_at_once():
    patch = {"spec": {"training": {"data": {"uri": "/x"}, "retries": 99}, "gates": [{"metric": "accuracy"}]}}
    found = read(TrainedModel, tables.merged(tables.base("classification"), patch))
    assert isinstance(found, Invalid)
    assert {problem.path for problem in found.problems} == {
        "spec.training.data.uri", "spec.training.retries", "spec.gates[0]",
    }  # fmt: skip


def test_metadata_is_read_as_far_as_it_is_used():
    stored = tables.base("classification") | {
        "metadata": {
            "name": "iris", "namespace": "ns", "uid": "u", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{}], "labels": {"a": "b"},
        }
    }  # fmt: skip
    model = read(TrainedModel, stored)
    assert isinstance(model, TrainedModel), str(model)
    assert (model.metadata.generation, model.metadata.labels) == (3, {"a": "b"})
    assert model.metadata.deletion_timestamp is None


@pytest.mark.parametrize("field", ["apiVersion", "kind"])
def test_another_kind_is_refused(field):
    stored = tables.base("classification") | {field: "Other"}
    assert isinstance(read(TrainedModel, stored), Invalid)
    assert isinstance(parse_manifest(stored), Invalid)
