"""managedFields trees: which values they cover."""

from typing import Any

import pytest

from solera_operator.engine.apply import covers, digest

FIELDS: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:a": {}}, "f:ownerReferences": {'k:{"uid":"1"}': {}}},
    "f:spec": {
        "f:selector": {},
        "f:replicas": {},
        "f:ports": {
            'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}},
            'k:{"port":81,"protocol":"UDP"}': {".": {}, "f:port": {}, "f:protocol": {}},
        },
        "f:finalizers": {'v:"x"': {}},
    },
}


@pytest.mark.parametrize(
    "value",
    [
        {"metadata": {"name": "n", "namespace": "ns", "labels": {"a": "1"}}},
        {"metadata": {"ownerReferences": [{"uid": "1", "controller": True}]}},
        {"spec": {"selector": {"any": {"depth": 1}}}},
        {"spec": {"replicas": 0}},
        {"spec": {"ports": [{"port": 80, "name": "http"}]}},
        {"spec": {"ports": [{"port": 81, "protocol": "UDP"}]}},
        {"spec": {"finalizers": ["x"]}},
        {"spec": {"not stored": None, "nor this": [], "or this": {}}},
    ],
)
def test_covered(value: dict[str, Any]):
    assert covers(FIELDS, value)


@pytest.mark.parametrize(
    "value",
    [
        {"metadata": {"labels": {"b": "1"}}},
        {"metadata": {"annotations": {"a": "1"}}},
        {"metadata": {"ownerReferences": [{"uid": "2"}]}},
        {"spec": {"paused": False}},
        {"spec": {"zero": 0}},
        {"spec": {"ports": [{"port": 80, "name": "http", "targetPort": 1}]}},
        {"spec": {"ports": [{"port": 82}]}},
        {"spec": {"ports": [{"port": 81, "protocol": "TCP"}]}},
        {"spec": {"finalizers": ["y"]}},
        {"data": {"x": "1"}},
    ],
)
def test_not_covered(value: dict[str, Any]):
    assert not covers(FIELDS, value)


def test_nothing_of_ours_covers_nothing():
    assert not covers({"f:metadata": {}}, {"spec": {"replicas": 1}})
    assert not covers({}, {"spec": {"replicas": 1}})
    assert not covers({}, {"metadata": {"labels": {"a": "1"}}})


def test_the_digest_goes_by_content():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"b": [1, 2]}) != digest({"b": [2, 1]})
