"""CRDs and reference pages are what the types give, and the schemas are structural, bounded and described."""

import re
from pathlib import Path

import pytest
import yaml

from solera_core.catalogue import load, runtimes
from solera_core.spec import Invalid
from solera_core.spec.rules import VALIDATIONS
from solera_core.spec.task import METRICS, Task
from solera_operator.api import TrainedModel, crd, read, reference

ROOT = Path(__file__).parents[3]
KINDS = pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.__name__)


def nodes(node, path=""):
    """Yield every schema below `node` with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


def test_crds_are_fresh(capsys):
    assert crd.main(["--check", str(ROOT / "crds")]) == 0, capsys.readouterr().err


def test_check_tells_a_changed_and_a_forgotten_crd(tmp_path, capsys):
    assert crd.main(["--write", str(tmp_path)]) == 0
    assert crd.main(["--check", str(tmp_path)]) == 0
    changed = tmp_path / "solera.dev_trainedmodels.yaml"
    changed.write_text(changed.read_text().replace("maxLength: 1024", "maxLength: 1025"))
    (tmp_path / "solera.dev_barrels.yaml").write_text("")
    (tmp_path / "solera.dev_modelversions.yaml").unlink()
    assert crd.main(["--check", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "solera.dev_trainedmodels.yaml is not what the types give" in told
    assert "solera.dev_barrels.yaml has no type" in told
    assert "solera.dev_modelversions.yaml is missing" in told


def test_reference_pages_are_fresh(capsys):
    assert reference.main(["--check", str(ROOT / "docs/reference")]) == 0, capsys.readouterr().err


def test_reference_check_tells_a_stale_page(tmp_path, capsys):
    for kind in crd.KINDS:
        name = f"{kind.__name__.lower()}.md"
        (tmp_path / name).write_text((ROOT / "docs/reference" / name).read_text())
    page = tmp_path / "trainedmodel.md"
    page.write_text(page.read_text().replace("| `1h` |", "| `2h` |"))
    assert reference.main(["--check", str(tmp_path)]) == 1
    assert "trainedmodel.md" in capsys.readouterr().err
    page.write_text("no markers")
    with pytest.raises(ValueError, match="the page needs the lines"):
        reference.main(["--check", str(tmp_path)])


def test_yaml_on_the_reference_page_is_valid():
    text = (ROOT / "docs/reference/trainedmodel.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        model = read(TrainedModel, yaml.safe_load(block))
        assert not isinstance(model, Invalid), str(model)


@KINDS
def test_schema_is_structural(kind):
    allowed = {
        "description", "type", "format", "default", "enum", "properties", "required", "items", "anyOf",
        "additionalProperties", "maxLength", "minLength", "maxItems", "minItems", "maxProperties",
        "minProperties", "maximum", "minimum", "pattern", "nullable", VALIDATIONS, "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
    }  # fmt: skip
    for path, node in nodes(crd.schema(kind)):
        assert set(node) <= allowed, f"{path}: {set(node) - allowed}"
        free = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
        assert ("type" in node) != bool(free), path
        assert ("anyOf" in node) == bool(node.get("x-kubernetes-int-or-string")), path
        assert not ("properties" in node and "additionalProperties" in node), path


@KINDS
def test_every_field_is_described_and_bounded(kind):
    for path, node in nodes(crd.schema(kind)):
        if path.startswith((".spec", ".status")) and not path.endswith(("[]", "{}")):
            assert node.get("description"), f"{path} has no description"
            assert node["description"].endswith((".", '"')), f"{path}: a description is a sentence"
        match node.get("type"):
            case "string" if (
                path not in {".apiVersion", ".kind"} and "enum" not in node and "format" not in node
            ):
                assert "maxLength" in node, path
            case "integer":
                assert {"minimum", "maximum"} <= set(node), path
            case "array":
                assert "maxItems" in node, path
                assert "x-kubernetes-list-type" in node, path
            case "object" if "properties" not in node and path != ".metadata":
                assert "maxProperties" in node, path
            case "boolean":
                pytest.fail(f"{path}: enums, not booleans")
            case "number":
                pytest.fail(f"{path}: decimals are strings")


@KINDS
def test_every_rule_has_a_message_and_points_at_a_field(kind):
    for path, node in nodes(crd.schema(kind)):
        for rule in node.get(VALIDATIONS, []):
            assert rule["message"], path
            assert len(rule["message"]) <= 2048
            inner = node
            for part in rule.get("fieldPath", ".").strip(".").split("."):
                inner = inner["properties"][part] if part else inner


@KINDS
def test_status_has_no_defaults(kind):
    for path, node in nodes(crd.schema(kind)["properties"]["status"]):
        assert "default" not in node, path


def test_only_parameters_are_free_of_a_schema():
    free = {
        path
        for kind in crd.KINDS
        for path, node in nodes(crd.schema(kind))
        if node.get("x-kubernetes-preserve-unknown-fields")
    }
    assert all(re.search(r"\.(params|space)\{\}(\[\])?$", path) for path in free), free


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("runtime", runtimes())
def test_metrics_of_the_crd_are_those_of_every_runtime(task, runtime):
    """The CRD lists metrics in its rules; a runtime that lacks one would be found out only by a failed Job."""
    known = {metric.name for metric in load(runtime).metrics.values() if metric.task == task}
    assert set(METRICS[task]) == known
