"""The model's page: on both ports of a real process, and what foreign names can do in it, which is nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import socket
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from server_artifacts import IRIS_FEATURES, write_iris
from server_process import running, serve_arguments
from sklearn.neighbors import KNeighborsClassifier

from solera_core.schema import Feature, Schema, Target
from solera_server.limits import Limits
from solera_server.load import LoadedModel, load
from solera_server.message import Head, Request
from solera_server.page.card import Card, facts, first_example
from solera_server.page.guard import Guard
from solera_server.page.rendering import MAX_SHOWN, page
from solera_server.page.service import ManagementPage

if TYPE_CHECKING:
    from pathlib import Path

    from server_artifacts import Trained

HTML = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '" onfocus=alert(1) autofocus x="',
    "' & ${title} $title",
)


class Reading(HTMLParser):
    """What a browser would make of the page: its elements, and the text inside of script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, _tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.inside:
            self.inside[self._open][-1] += data
        else:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> Any:
        """The JSON that the script reads."""
        return json.loads(self.inside["script"][0])


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def shown(loaded: LoadedModel) -> Reading:
    return Reading(page(loaded, "iris", "v1", where="here").body.decode())


def test_the_policy_names_the_script_and_the_style_and_nothing_else_runs(loaded_iris):
    answer = page(loaded_iris, "iris", "v1", where="here")
    policy = dict(answer.headers)[b"content-security-policy"].decode()
    found = Reading(answer.body.decode())
    _, script = found.inside["script"]
    [style] = found.inside["style"]
    assert f"script-src {sha256(script)};" in policy
    assert f"style-src {sha256(style)};" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not re.search(r"https?:", answer.body.decode()), "nothing is loaded from elsewhere"
    for _, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


def test_a_form_has_each_feature_with_the_example_in_it(loaded_mixed):
    found = shown(loaded_mixed)
    fields = [*found.named("input"), *found.named("select")]
    ids = {str(field["id"]) for field in fields}
    assert ids == {"f0", "f1", "f2", "f3", "f4", "m0", "m2"}, "a box where a value may be missing"
    labels = {label["for"] for label in found.named("label") if "for" in label}
    assert labels == {"f0", "f1", "f2", "f3", "f4"}
    # The first example misses age and city.
    by_id = {field["id"]: field for field in fields}
    assert "disabled" in by_id["f0"]
    assert "checked" in by_id["m0"]
    assert by_id["f1"]["value"] == str(loaded_mixed.card.example["visits"])
    assert [feature["name"] for feature in found.data["features"]] == [
        "age",
        "visits",
        "city",
        "member",
        "since",
    ]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_foreign_texts_stay_texts(hostile, loaded_iris):
    first, *others = IRIS_FEATURES
    features = (
        Feature(hostile, "String", categories=(hostile, "plain")),
        *(Feature(name, "Float") for name in others),
    )
    card = Card(
        metrics={"metric": hostile, "chosen": 0, "candidates": [{"estimator": hostile, "mean": 1.0}]},
        provenance={
            "data": {"uri": hostile, "digest": hostile},
            "split": {"method": hostile},
            "seed": hostile,
        },
        example={hostile: hostile},
    )
    schema = Schema("Classification", Target(hostile, "String", (hostile, "b")), features)
    plain_schema = Schema(
        "Classification",
        Target("plain", "String", ("a", "b")),
        (Feature(first, "String", categories=("c", "d")), *features[1:]),
    )
    args = (loaded_iris.predictor, loaded_iris.digest, loaded_iris.sklearn_version, None)
    found = shown(LoadedModel(schema, *args, hostile, card))
    plain = shown(LoadedModel(plain_schema, *args, "plain", Card(example={first: "c"})))
    # The same elements as with harmless names, but for the lines of the card.
    harmless = [tag for tag, _ in plain.elements if tag not in ("dt", "dd")]
    assert [tag for tag, _ in found.elements if tag not in ("dt", "dd")] == harmless
    assert {tuple(sorted(attributes)) for _, attributes in found.elements} <= {
        tuple(sorted(attributes)) for _, attributes in plain.elements
    }
    assert found.data["features"][0]["name"] == hostile
    assert found.data["classes"] == [hostile, "b"]
    assert hostile in found.text
    field = next(one for one in found.named("input") if one["id"] == "f0")
    assert field["value"] == hostile


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        7,
        "text",
        {"candidates": 1, "chosen": "x"},
        {"candidates": [None], "chosen": 0},
        {"chosen": -1},
    ],
)
def test_odd_documents_leave_lines_out(document, loaded_iris):
    card = Card(document, document, first_example(document))
    loaded = LoadedModel(
        loaded_iris.schema, loaded_iris.predictor, loaded_iris.digest, "1.9.1", None, "no method", card
    )
    terms = dict(facts(loaded, "iris", "v1"))
    assert terms["Digest"] == loaded_iris.digest
    assert "Algorithm" not in terms
    assert shown(loaded).named("form")


def test_the_card_says_what_was_trained_on_what(loaded_iris):
    card = Card(
        metrics={
            "metric": "f1_macro",
            "chosen": 1,
            "candidates": [
                {"error": "no"},
                {
                    "estimator": "sklearn.tree.DecisionTreeClassifier",
                    "params": {"a": 1},
                    "mean": 0.91234,
                    "std": 0.01,
                },
            ],
        },
        provenance={
            "data": {"uri": "s3://b/iris", "digest": "sha256:12"},
            "rows": {"train": 120, "test": 30},
            "split": {"method": "Group", "column": "plant", "testPercent": 20},
            "seed": 0,
        },
    )
    loaded = LoadedModel(
        loaded_iris.schema,
        loaded_iris.predictor,
        loaded_iris.digest,
        "1.9.1",
        loaded_iris.explainer,
        "",
        card,
    )
    terms = dict(facts(loaded, "iris", "v1"))
    assert terms["Algorithm"] == "DecisionTreeClassifier"
    assert terms["Cross-validation"] == "f1_macro 0.9123 ± 0.01"
    assert terms["Rows"] == "120 for training, 30 held out"
    assert terms["Split"] == "Group by plant, 20% held out"
    assert terms["Seed"] == "0"
    assert terms["Explained by"] == "linear, on the scale logits"


def test_a_wide_model_has_a_form_of_bounded_size(loaded_iris):
    features = tuple(Feature(f"x{index}", "Float") for index in range(5000))
    schema = Schema("Regression", Target("y", "Float"), features)
    card = Card(example={"x4999": 7.5})
    args = (loaded_iris.predictor, loaded_iris.digest, "1.9.1", None, "no method", card)
    found = shown(LoadedModel(schema, *args))
    assert len([one for one in found.named("input") if str(one["id"]).startswith("f")]) == MAX_SHOWN
    assert "4800 more features" in found.text
    assert len(found.data["features"]) == 5000
    assert found.data["example"]["x4999"] == 7.5


async def test_the_management_port_shows_it_and_answers_its_form(iris):
    async with running(*serve_arguments(iris.directory, "--workers", "1")) as process:
        await process.event("serving")
        async with httpx.AsyncClient(base_url=await process.management_url()) as client:
            answer = await client.get("/")
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert "iris" in Reading(answer.text).text
            infer = await client.post("/v2/models/iris/infer", json={"inputs": [TENSOR]})
            assert infer.json()["outputs"][0]["data"] == ["setosa"]
            explained = await client.post("/v1/models/iris:explain", json={"instances": [TENSOR["data"]]})
            assert explained.json()["explanations"][0]["class"] == "setosa"
            wrong = await client.post("/v2/models/iris/infer", json={"inputs": []})
            assert wrong.status_code == 400
            live = (await client.get("/page/live")).json()
            nothing = (await client.get("/livez/")).json()["error"]
            assert (
                nothing
                == 'there is nothing at "/livez/"; there are /, /livez, /readyz, /metrics and /counters'
            )
        async with httpx.AsyncClient(base_url=await process.url()) as client:
            assert (await client.get("/", headers=HTML)).json() == {"status": "alive"}, "only if asked for"
            assert (await client.get("/page/live")).status_code == 404
        assert live["ready"] is True
        assert live["requests"] == 0, "what the page asks for does not count as traffic"


async def test_several_workers_have_one_page_with_the_traffic_of_all(iris):
    async with running(*serve_arguments(iris.directory, "--workers", "2", "--page")) as process:
        url = await process.url()
        async with httpx.AsyncClient(base_url=url) as client:
            found = await client.get("/", headers=HTML)
            assert Reading(found.text).named("form")
            assert found.headers["vary"] == "Accept"
            assert (await client.get("/")).json() == {"status": "alive"}
        for _ in range(8):
            async with httpx.AsyncClient(base_url=url) as client:
                await client.post("/v2/models/iris/infer", json={"inputs": [TENSOR]})
        async with httpx.AsyncClient(base_url=await process.management_url()) as client:
            infer = await client.post("/v2/models/iris/infer", json={"inputs": [TENSOR]})
            assert infer.json()["outputs"][0]["data"] == ["setosa"]
            async with asyncio.timeout(20):
                # A worker writes down what it counted a few times a second; nobody is told.
                while (live := (await client.get("/page/live")).json())["requests"] < 8:  # noqa: ASYNC110 - what is waited for tells nobody
                    await asyncio.sleep(0.05)
        assert live["requests"] == sum(live["latency"]) == 8


async def test_a_model_that_cannot_be_explained_says_why_there(tmp_path: Path):
    trained = write_iris(tmp_path / "iris", KNeighborsClassifier())
    found = shown(load(trained.directory, trained.digest))
    assert found.data["explains"] is False
    assert "KNeighborsClassifier" in found.data["why_not"]


async def test_before_the_model_is_loaded_the_page_says_so():
    loading = ManagementPage("iris", Limits(), dict, asyncio.get_running_loop(), Guard())
    statuses = {}
    for path, methods in loading.routes().items():
        for route in methods.values():
            head = Head()
            head.headers[b"content-type"] = b"application/json"
            answer = route.handler(Request(head, b"{}", 0.0, lambda *_: None))
            assert answer is not None
            statuses[path] = answer.status
    assert statuses == {
        "/": 503,
        "/page/live": 200,
        "/v2/models/iris/infer": 503,
        "/v1/models/iris:explain": 503,
    }


INFER = "/v2/models/iris/infer"
EXPLAIN = "/v1/models/iris:explain"
JSON_HEADERS = {"content_type": "application/json"}


async def test_the_management_port_answers_no_stranger_s_page(iris: Trained) -> None:
    body = json.dumps({"inputs": [TENSOR]})
    async with running(*serve_arguments(iris.directory, "--page-host", "iris.example")) as process:
        await process.event("serving")
        async with httpx.AsyncClient(base_url=await process.management_url()) as client:
            own = f"127.0.0.1:{client.base_url.port}"

            async def posted(path: str = INFER, **headers: str) -> int:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return (await client.post(path, content=body, headers=named)).status_code

            # What a form or a script of another site can send without asking first, and what it asks with.
            for kind in (
                "application/x-www-form-urlencoded",
                "text/plain",
                "multipart/form-data; boundary=x",
            ):
                assert await posted(content_type=kind) == 415
                assert await posted(EXPLAIN, content_type=kind) == 415
            assert await posted() == 415, "a script can send a body without a type"
            asked = await client.options(INFER, headers={"origin": "https://evil.example"})
            assert asked.status_code == 405
            assert not [name for name in asked.headers if name.startswith("access-control")]
            assert await posted(**JSON_HEADERS, origin="https://evil.example") == 403
            assert await posted(**JSON_HEADERS, origin="null") == 403
            assert await posted(**JSON_HEADERS, sec_fetch_site="cross-site") == 403
            assert await posted(**JSON_HEADERS, sec_fetch_site="same-site") == 403
            assert await posted(**JSON_HEADERS, sec_fetch_site="same-origin", origin=f"http://{own}") == 200
            assert await posted(content_type="application/json; charset=utf-8") == 200

            # A name that its owner lets point to this machine, against what nobody else can choose.
            for host, status in (
                ("evil.example", 421),
                ("evil.example:8081", 421),
                ("localhost.evil.example", 421),
                ("127.0.0.1.evil.example", 421),
                ("localhost:8081", 200),
                ("iris.localhost", 200),
                ("LOCALHOST.", 200),
                ("10.1.2.3:8081", 200),
                ("[::1]:8081", 200),
                ("iris.example", 200),
                (socket.gethostname(), 200),
            ):
                for path in ("/", "/page/live", "/counters"):
                    found = await client.get(path, headers={"host": host})
                    assert found.status_code == status, (host, path)
                assert await posted(**JSON_HEADERS, host=host) == status
                for path in ("/livez", "/readyz", "/metrics"):
                    assert (await client.get(path, headers={"host": host})).status_code == 200, (host, path)
            shown = await client.get("/")
        assert shown.headers["x-frame-options"] == "DENY"
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
