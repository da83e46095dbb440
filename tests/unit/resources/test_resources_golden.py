"""Every object as it goes to the API server, for reading and against changes by mistake.

SOLERA_UPDATE_GOLDEN=1 pytest tests/unit/resources writes them anew. A change of deployment.yaml below
spec.template rolls the servers of every model when an operator with it is installed: think before you do it.
"""

import os
from pathlib import Path

import pytest
import yaml
from owned_objects import BARE_SETTINGS, BARE_SPEC, all_objects, trained_model

GOLDEN = Path(__file__).parent / "golden"
FULL = all_objects(trained_model())
BARE = all_objects(trained_model(BARE_SPEC, name="iris"), BARE_SETTINGS, number=1)
CASES = {f"full/{name}": obj for name, obj in FULL.items()} | {
    f"bare/{name}": obj for name, obj in BARE.items()
}


@pytest.mark.parametrize("case", CASES)
def test_object_is_as_recorded(case):
    text = yaml.safe_dump(CASES[case], sort_keys=False, width=110)
    path = GOLDEN / f"{case}.yaml"
    if os.environ.get("SOLERA_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_no_recorded_object_is_left_over():
    recorded = {str(path.relative_to(GOLDEN).with_suffix("")) for path in GOLDEN.rglob("*.yaml")}
    assert recorded == set(CASES)


def test_yaml_has_no_aliases():
    # An alias would mean that two places of an object share one mutable value.
    assert [case for case, obj in CASES.items() if "&id" in yaml.safe_dump(obj)] == []
