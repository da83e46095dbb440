"""The OpenAPI document: what it says of a model, that its examples are taken, and schemathesis on a real server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from request_bodies import LIMITS, MIXED, NUMBERS, ONE, TEXTS
from server_process import running, serve_arguments

from own_environment import environment
from solera_server.openapi import document
from solera_server.openapi_others import add_others

if TYPE_CHECKING:
    from server_artifacts import Trained

    from solera_core.schema import Schema

CLIENTS = Path(__file__).parent / "clients"


def of(schema: Schema) -> dict[str, Any]:
    outputs = ("predict", "predict_proba") if schema.target.classes else ("predict",)
    return document("m", "m-v1", schema, outputs, LIMITS)


def test_features_have_their_names_types_and_whether_they_may_be_missing() -> None:
    found = of(MIXED)["components"]["schemas"]
    by_name, by_position = (
        form["items"] for form in found["PredictRequest"]["anyOf"][0]["properties"]["instances"]["anyOf"]
    )
    assert by_name["required"] == ["visits", "member", "since"]
    assert by_name["properties"]["visits"] == {"$ref": "#/components/schemas/Integer"}
    assert by_name["properties"]["city"] == {
        "anyOf": [{"$ref": "#/components/schemas/String"}, {"type": "null"}]
    }
    assert by_position["prefixItems"] == list(by_name["properties"].values())
    assert {"Float", "Integer", "String", "Boolean", "DateTime"} <= set(found)
    assert found["Predictions"]["properties"]["predictions"]["items"] == {"enum": [False, True]}


def test_rows_may_be_bare_values_where_there_is_one_feature() -> None:
    forms = of(ONE)["components"]["schemas"]["PredictRequest"]["anyOf"][0]["properties"]["instances"]["anyOf"]
    assert len(forms) == 3


@pytest.mark.parametrize(("schema", "matrix"), [(MIXED, False), (NUMBERS, True), (TEXTS, True)])
def test_one_matrix_only_where_the_features_have_one_datatype(schema: Schema, matrix: bool) -> None:
    found = of(schema)
    forms = found["components"]["schemas"]["InferRequest"]["properties"]["inputs"]["anyOf"]
    assert (len(forms) == 2) is matrix
    examples = found["paths"]["/v2/models/m/infer"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    assert ("matrix" in examples) is matrix


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("schema", [MIXED, NUMBERS, TEXTS, ONE])
def test_what_is_referred_to_is_there(schema: Schema) -> None:
    found = of(schema)
    for one in references(found):
        assert one.removeprefix("#/components/schemas/") in found["components"]["schemas"]


def test_what_other_parts_answer_is_there_where_they_are() -> None:
    found = of(MIXED)
    others = ["/", "/v1/models/m:feedback", "/v1/models/m:explain", "/v2/models/m/explain"]
    add_others(found, "m", MIXED, LIMITS, others, explainable=True)
    assert set(others) <= set(found["paths"])
    assert set(found["paths"]["/"]["get"]["responses"]["200"]["content"]) == {"application/json", "text/html"}
    assert {"403", "409", "410"} <= set(found["paths"]["/v1/models/m:feedback"]["post"]["responses"])
    assert all(
        one.removeprefix("#/components/schemas/") in found["components"]["schemas"]
        for one in references(found)
    )
    less = of(MIXED)
    add_others(less, "m", MIXED, LIMITS, others[2:], explainable=False)
    assert less == of(MIXED), "what cannot be explained has no such operation"


@pytest.mark.parametrize(
    ("model", "phases"),
    [("iris", "examples,fuzzing"), ("mixed", "examples,coverage,fuzzing"), ("regression", "examples")],
)
async def test_its_examples_are_taken_and_schemathesis_finds_nothing(
    model: str,
    phases: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    trained: Trained = request.getfixturevalue(model)
    arguments = serve_arguments(trained.directory, "--name", model, "--drain-delay", "0", "--workers", "1")
    if "coverage" in phases:  # with everything that a server may answer
        keys = tmp_path / "keys"
        keys.mkdir()
        (keys / "one").write_bytes(bytes(range(32)))
        (keys / "current").write_text("one", encoding="utf-8")
        arguments += ["--receipt-keys", keys, "--page"]
    async with running(*arguments) as server:
        url = await server.url()
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.get("/openapi.json")
            assert answer.headers["content-type"] == "application/json"
            tried = 0
            for path, methods in answer.json()["paths"].items():
                body = methods.get("post", {}).get("requestBody", {"content": {"application/json": {}}})
                for name, example in body["content"]["application/json"].get("examples", {}).items():
                    tried += 1
                    got = await client.post(path, json=example["value"])
                    assert got.status_code == 200, f"{path}, {name}: {got.text}"
            assert tried >= 6
        await schemathesis(url, tmp_path, phases)


async def schemathesis(url: str, cwd: Path, phases: str) -> None:
    python = await asyncio.to_thread(environment, "schemathesis")
    options = ["--seed", "1", "--max-examples", "10", "--phases", phases, "--no-color"]
    process = await asyncio.create_subprocess_exec(
        python.parent / "st",
        "--config-file",
        CLIENTS / "schemathesis.toml",
        "run",
        f"{url}/openapi.json",
        *options,
        cwd=cwd,  # it keeps a database of what it found
        env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_checks", "PYTHONPATH": str(CLIENTS)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, out.decode()
    assert b"passed" in out, out.decode()
