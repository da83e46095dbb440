"""Receipts in answers, and feedback with them, over HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import json
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from recorded import KEY, RecordedServer, recording_server, with_baseline, write_keys
from server_artifacts import mixed_rows

from solera_core.counters import OutcomeKey, read_report
from solera_core.failures import Failure
from solera_core.receipts import Issuer, class_hash, read
from solera_server.counter_memory import Boot
from solera_server.load import LoadedModel, load
from solera_server.message import RECEIPT_HEADER
from solera_server.options import Options
from solera_server.recording import Recording
from solera_server.recording_options import RecordingOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from server_artifacts import Trained

    from solera_server.replay import ReplayTable

RECEIPT = RECEIPT_HEADER.decode()
ARM = {"X-Solera-Arm": "blue", "X-Solera-Weight-Epoch": "4", "X-User": "user-7"}
NOW = 1_800_000_000
ROWS = {"instances": mixed_rows(3)}


class Clock:
    def __init__(self) -> None:
        self.moved = 0.0

    def __call__(self) -> float:
        return time.perf_counter() + self.moved


@pytest.fixture(scope="module")
def model(mixed: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return with_baseline(mixed, tmp_path_factory.mktemp("recorded") / "buys")


@pytest.fixture(scope="module")
def loaded(model: Trained) -> LoadedModel:
    return load(model.directory, model.digest)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server(
    model: Trained, loaded: LoadedModel, tmp_path: Path, clock: Clock
) -> AsyncIterator[RecordedServer]:
    options = RecordingOptions(receipt_keys=write_keys(tmp_path / "keys"), unit_header="X-User")
    boot = Boot("pod", wall=NOW, steady=time.perf_counter(), clock=clock)
    async with recording_server(model, loaded, options, boot=boot) as served:
        yield served


@pytest.fixture
async def client(server: RecordedServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url) as client:
        yield client


async def predicted(client: httpx.AsyncClient, **headers: str) -> tuple[list[Any], str]:
    answer = await client.post("/v1/models/buys:predict", json=ROWS, headers={**ARM, **headers})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"], answer.headers[RECEIPT]


async def told(client: httpx.AsyncClient, token: str | None, /, **body: Any) -> httpx.Response:
    headers = {} if token is None else {RECEIPT: token}
    return await client.post("/v1/models/buys:feedback", json=body, headers=headers)


def forged(**changes: Any) -> str:
    """Return a receipt by the server's own key, of other content."""
    names = {"key_id": "k1", "model": "buys", "version": "buys-v1"}
    names = {name: changes.pop(name, value) for name, value in names.items()}
    issuer = Issuer(names["key_id"], changes.pop("key", KEY), names["model"], names["version"])
    values = {"arm": "blue", "epoch": 4, "bucket": 9, "time": NOW, "nonce": b"12345678", "rows": 1}
    kind = {} if "numbers" in changes else {"classes": [class_hash(label=True)]}
    return issuer.issue(**{**values, **kind, **changes})


def outcomes(server: RecordedServer) -> dict[OutcomeKey, dict[str, Any]]:
    report = read_report(orjson.loads(server.recording.report(server.recorder).document()))
    return {key: value for window in report.windows for key, value in window.window.outcomes.items()}


async def test_a_receipt_says_what_was_predicted_for_whom(
    server: RecordedServer, client: httpx.AsyncClient
) -> None:
    labels, token = await predicted(client)
    receipt = read(token, {"k1": KEY})
    assert (receipt.model, receipt.version, receipt.arm, receipt.epoch) == ("buys", "buys-v1", "blue", 4)
    assert receipt.predictions == tuple(class_hash(label) for label in labels)
    assert abs(receipt.time - NOW) < 60
    window = read_report(orjson.loads(server.recording.report(server.recorder).document())).windows[-1].window
    assert window.arms["blue", 4]["requests"][receipt.bucket] == 1, "the bucket is that of the counters"
    assert (await predicted(client))[1] != token
    assert read((await predicted(client))[1], {"k1": KEY}).bucket == receipt.bucket, "one unit, one bucket"


async def test_v2_has_the_receipt_in_its_parameters(client: httpx.AsyncClient) -> None:
    body = {
        "inputs": [
            {"name": "age", "shape": [1], "datatype": "FP64", "data": [30.5]},
            {"name": "visits", "shape": [1], "datatype": "INT64", "data": [3]},
            {"name": "city", "shape": [1], "datatype": "BYTES", "data": ["Porto"]},
            {"name": "member", "shape": [1], "datatype": "BOOL", "data": [True]},
            {"name": "since", "shape": [1], "datatype": "BYTES", "data": ["2020-01-01"]},
        ]
    }
    answer = await client.post("/v2/models/buys/infer", json=body)
    assert answer.json()["parameters"] == {"receipt": answer.headers[RECEIPT]}
    assert answer.json()["model_name"] == "buys"
    # Without labels among the outputs there is nothing to compare a label with.
    only = await client.post("/v2/models/buys/infer", json={**body, "outputs": [{"name": "predict_proba"}]})
    assert only.status_code == 200
    assert RECEIPT not in only.headers
    assert "parameters" not in only.json()


async def test_copies_and_those_who_want_none_get_no_receipt(client: httpx.AsyncClient) -> None:
    for headers in ({"X-Solera-Shadow": "1"}, {"Host": "buys.example-shadow"}, {RECEIPT: "no"}):
        answer = await client.post("/v1/models/buys:predict", json=ROWS, headers=headers)
        assert answer.status_code == 200
        assert RECEIPT not in answer.headers


async def test_labels_are_counted_by_arm_epoch_day_and_bucket(
    server: RecordedServer, client: httpx.AsyncClient
) -> None:
    labels, token = await predicted(client)
    receipt = read(token, {"k1": KEY})
    assert (await told(client, token, row=0, label=labels[0])).json() == {"counted": True}
    assert (await told(client, token, row=1, label=not labels[1])).status_code == 200
    assert (await told(client, None, receipt=token, row=2, label=labels[2])).status_code == 200
    [(key, counts)] = outcomes(server).items()
    assert key == OutcomeKey("buys-v1", "blue", 4, NOW // 86_400, 0.0)
    assert counts["labels"][receipt.bucket] == counts["labels"].sum() == 3
    assert counts["correct"][receipt.bucket] == 2


async def test_a_label_counts_once(server: RecordedServer, client: httpx.AsyncClient) -> None:
    labels, token = await predicted(client)
    assert (await told(client, token, label=labels[0])).status_code == 200
    again = await told(client, token, label=not labels[0])
    assert again.status_code == 409
    assert "has its label already" in again.json()["error"]
    [counts] = outcomes(server).values()
    assert counts["labels"].sum() == 1


@pytest.mark.parametrize(
    ("receipt", "body", "expected", "words"),
    [
        (None, {"label": True}, 400, "send it in the header X-Solera-Receipt"),
        ("x", {"label": True}, 400, "receipt: "),
        ({}, {}, 400, 'the field "label" is missing'),
        ({}, {"label": "yes"}, 400, "expected one of the model's classes (false, true)"),
        ({}, {"label": 1}, 400, "expected one of the model's classes (false, true), got 1"),
        ({}, {"label": None}, 400, "expected one of the model's classes (false, true), got null"),
        ({}, {"label": 1.0}, 400, "expected one of the model's classes (false, true), got 1.0"),
        ({}, {"label": [True]}, 400, "expected one of the model's classes"),
        ({}, {"label": True, "row": 1}, 400, "expected a row of the request, 0 to 0"),
        ({}, {"label": True, "row": True}, 400, "expected a row"),
        ({"rows": 90, "classes": [1] * 90}, {"label": True, "row": 70}, 400, "the first 64 rows"),
        ({}, {"label": True, "value": 1}, 400, "unknown field"),
        ({}, {"label": True, "receipt": 3}, 400, "expected the text of a receipt"),
        ({}, {"label": True, "receipt": "other"}, 400, "differ"),
        ({"key_id": "k9"}, {"label": True}, 403, 'the key "k9", which is not in use'),
        ({"key": b"x" * 32}, {"label": True}, 403, "not made by this model's servers"),
        ({"model": "other"}, {"label": True}, 403, 'of the model "other"'),
        ({"time": NOW - 8 * 86_400}, {"label": True}, 410, "older than 604800 s"),
        ({"time": NOW + 3600}, {"label": True}, 400, "yet to come"),
        ({"numbers": [1.0]}, {"label": True}, 400, "another kind of value"),
    ],
)
async def test_what_cannot_count_is_refused_in_words(
    server: RecordedServer, receipt: Any, body: dict[str, Any], expected: int, words: str
) -> None:
    token = forged(**receipt) if isinstance(receipt, dict) else receipt
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await told(client, token, **body)
    assert (answer.status_code, words in answer.json()["error"]) == (expected, True), answer.text
    assert outcomes(server) == {}


async def test_bodies_that_are_no_json_are_refused(client: httpx.AsyncClient) -> None:
    for content in (b"", b"{", b"[]", b'{"label": NaN}', b"[" * 50 + b"]" * 50):
        answer = await client.post("/v1/models/buys:feedback", content=content)
        assert answer.status_code == 400
    assert (await client.get("/v1/models/buys:feedback")).status_code == 405


async def test_a_receipt_of_another_version_counts_for_that_version(
    server: RecordedServer, client: httpx.AsyncClient
) -> None:
    other = forged(version="buys-v9", classes=[class_hash("maybe")])
    assert (await told(client, other, label="maybe")).status_code == 200, "what it predicted is a class"
    assert (await told(client, other, label="perhaps")).status_code == 400
    [(key, counts)] = outcomes(server).items()
    assert key.version == "buys-v9"
    assert counts["correct"].sum() == 1


async def test_an_old_receipt_is_refused(client: httpx.AsyncClient, clock: Clock) -> None:
    labels, token = await predicted(client)
    clock.moved = 7 * 86_400 + 10
    assert (await told(client, token, label=labels[0])).status_code == 410


async def test_keys_rotate_without_a_restart(
    server: RecordedServer, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    labels, old = await predicted(client)
    write_keys(tmp_path / "keys", "k2", k2=b"z" * 32)
    server.recorder._refresh_keys()
    _, new = await predicted(client)
    assert read(new, {"k2": b"z" * 32}).key_id == "k2"
    assert (await told(client, old, label=labels[0])).status_code == 200
    (tmp_path / "keys" / "k1").unlink()
    server.recorder._refresh_keys()
    assert (await told(client, old, row=1, label=labels[1])).status_code == 403
    assert (await told(client, new, label=labels[0])).status_code == 200


async def test_without_keys_there_are_no_receipts_and_no_feedback(
    model: Trained, loaded: LoadedModel
) -> None:
    async with recording_server(model, loaded, RecordingOptions()) as served, httpx.AsyncClient() as client:
        answer = await client.post(f"{served.url}/v1/models/buys:predict", json=ROWS)
        assert RECEIPT not in answer.headers
        assert (await client.post(f"{served.url}/v1/models/buys:feedback", json={})).status_code == 404


async def test_errors_of_a_regression_are_added_up_in_steps(regression: Trained, tmp_path: Path) -> None:
    rows = [{"x": 0.5, "y": 1.0}, {"x": -1.0, "y": None}]
    model = with_baseline(regression, tmp_path / "z", rows)
    options = RecordingOptions(receipt_keys=write_keys(tmp_path / "keys"))
    async with recording_server(model, load(model.directory, None), options) as served:
        async with httpx.AsyncClient(base_url=served.url) as client:
            answer = await client.post("/v1/models/z:predict", json={"instances": rows})
            [first, second], token = answer.json()["predictions"], answer.headers[RECEIPT]
            path, headers = "/v1/models/z:feedback", {RECEIPT: token}
            body = {"row": 0, "value": first - 1.0}
            assert (await client.post(path, json=body, headers=headers)).status_code == 200
            body = {"row": 1, "value": second + 1000}
            assert (await client.post(path, json=body, headers=headers)).status_code == 200
            for wrong in ("1", True, None, 1e301):
                answer = await client.post(path, json={"value": wrong}, headers=headers)
                assert answer.status_code == 400, answer.text
                expected = f"value: expected a number from -1e+300 to 1e+300, got {json.dumps(wrong)}"
                assert answer.json()["error"] == expected
        [(key, counts)] = outcomes(served).items()
        bucket = read(token, {"k1": KEY}).bucket
        assert key.clip == 4.0
        step = 2**20
        assert counts["error"][bucket] == step // 4 - step
        assert counts["squaredError"][bucket] == (step // 4) ** 2 + step**2


async def test_a_regression_without_a_bound_for_errors_does_not_start(
    regression: Trained, tmp_path: Path
) -> None:
    found = load(regression.directory, None)
    keys = write_keys(tmp_path / "keys")

    def recording(**more: Any) -> Recording:
        options = Options(regression.directory, "z", None, None, "127.0.0.1", 0, 0, 0, 1, 1)
        return Recording(
            dataclasses.replace(options, recording=RecordingOptions(receipt_keys=keys, **more)), found
        )

    with pytest.raises(Failure, match="add --outcome-clip"):
        recording()
    assert recording(outcome_clip=2.0).clip == 2.0


async def test_a_failure_to_count_costs_no_request(
    server: RecordedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: Any) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr(server.recorder._counters, "_fold", fail)
    async with httpx.AsyncClient(base_url=server.url) as client:
        await predicted(client)
        server.recorder.fold()
        await predicted(client)
    assert [record.message for record in caplog.records].count("counting failed") == 1


@contextmanager
def standing_still(replay: ReplayTable) -> Iterator[None]:
    """Have a process that is stopped while it holds all locks of the table, and is killed at the end."""
    child = os.fork()
    if child == 0:
        fcntl.lockf(replay._lock, fcntl.LOCK_EX)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_process_that_stands_still_with_the_lock_stops_nothing_but_labels(
    server: RecordedServer, client: httpx.AsyncClient
) -> None:
    labels, token = await predicted(client)
    replay = server.recording.replay
    assert replay is not None
    with standing_still(replay):
        telling = asyncio.create_task(told(client, token, label=labels[0]))
        answered = 0
        while not telling.done():
            assert (await client.get("/v2/health/live")).status_code == 200
            answered += 1
        refused = await telling
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1"), refused.text
        assert answered >= 5, "the loop goes on meanwhile"
        waiting = asyncio.create_task(told(client, token, label=labels[0]))
        await asyncio.sleep(0.05)
    assert (await waiting).status_code == 200, "it is tried again, and the lock of who died is free"
    assert (await told(client, token, label=labels[0])).status_code == 409
