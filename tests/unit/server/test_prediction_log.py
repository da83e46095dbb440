from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from recorded import recording_server, with_baseline, write_keys
from server_artifacts import mixed_rows

from solera_core.failures import Failure, StoreUnavailable
from solera_core.schema import Feature, Schema, Target
from solera_server import log_files, prediction_log
from solera_server.batch import Layout
from solera_server.load import LoadedModel, load
from solera_server.log_files import log_store
from solera_server.prediction_log import Labelled, LogCounters, Origin, Predicted, PredictionLog
from solera_server.recording_options import LogOptions, RecordingOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server_artifacts import Trained

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
from s3_double import serving

SCHEMA = Schema(
    "Classification",
    Target("y", "String", ("no", "yes")),
    (
        Feature("x", "Float"),
        Feature("colour", "String"),
        Feature("member", "Boolean"),
        Feature("since", "DateTime"),
    ),
)
NOW = 1_800_000_000.0
NAME = re.compile(r"m/delete-after-\d{4}-\d\d-\d\d/m-v1/\d{8}T\d{6}Z-pod-0-0123abcd-0-\d{6}\.jsonl\.gz")


def request(rows: int = 1, **changes: Any) -> Predicted:
    columns = [
        np.arange(rows, dtype=np.float64) + 0.5,
        np.array(["red", math.nan] * rows, dtype=object)[:rows],
        np.ones(rows),
        np.full(rows, 86_400.0),
    ]
    batch = Layout(SCHEMA.features).batch(columns, lambda _row, _feature: "")
    outputs = {"predict": np.array(["yes"] * rows, dtype=object)}
    item = Predicted(NOW, "id-1", b"12345678", "blue", 4, 0xAB, batch, outputs)
    return item._replace(**changes)


class Log:
    """A log into a directory, with what it counted."""

    def __init__(self, directory: Path, store: Any = None, **options: Any) -> None:
        self.directory = directory
        self.counters = LogCounters(1)
        self.log = PredictionLog(
            LogOptions(str(directory), **options),
            Origin("m", "m-v1", "pod-0", "0123abcd9999", 0),
            SCHEMA,
            store or log_store(str(directory), {}),
            self.counters,
        )

    def finish(self, seconds: float = 10.0) -> None:
        self.log.stop(seconds)
        self.log._thread.join(seconds + 5)
        assert not self.log.running

    def files(self) -> list[Path]:
        return sorted(path for path in self.directory.rglob("*") if path.is_file())

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for path in self.files() for line in gzip.open(path)]

    def count(self, name: str) -> int:
        return self.counters.total(name)


def test_no_feature_is_written_unless_it_is_named(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.log.start()
    log.log.predicted(request())
    log.finish()
    assert log.records() == [
        {
            "kind": "prediction",
            "time": "2027-01-15T08:00:00.000Z",
            "model": "m",
            "version": "m-v1",
            "arm": "blue",
            "epoch": 4,
            "unit": "00000000000000ab",
            "requestId": "id-1",
            "receipt": "3132333435363738",
            "row": 0,
            "predict": "yes",
        }
    ]
    [path] = log.files()
    assert NAME.fullmatch(path.relative_to(tmp_path).as_posix())
    assert log.count("written") == log.count("files") == 1


def test_named_features_are_written_as_their_types(tmp_path: Path) -> None:
    log = Log(tmp_path, columns=("*",))
    log.log.start()
    log.log.predicted(request(2))
    log.log.labelled(Labelled(NOW, b"12345678", "m-v1", 1, "no"))
    log.finish()
    first, second, label = log.records()
    assert first["features"] == {"x": 0.5, "colour": "red", "member": True, "since": "1970-01-02T00:00:00Z"}
    assert second["features"]["colour"] is None
    assert (first["row"], second["row"]) == (0, 1)
    assert (label["kind"], label["row"], label["label"]) == ("label", 1, "no")
    assert label["receipt"] == first["receipt"]


def test_parquet_where_it_can_be_written(tmp_path: Path) -> None:
    log = Log(tmp_path, columns=("x",), format="parquet")
    log.log.start()
    log.log.labelled(Labelled(NOW, b"12345678", "m-v1", 1, "no"))
    log.log.predicted(request(3))
    log.finish()
    [path] = log.files()
    rows = pq.read_table(path).to_pylist()
    assert [row["kind"] for row in rows] == ["label", "prediction", "prediction", "prediction"]
    assert rows[1]["features"] == {"x": 0.5}


def test_a_table_that_cannot_be_made_costs_its_records_and_not_the_log(tmp_path: Path) -> None:
    log = Log(tmp_path, format="parquet", file_bytes=1024)
    log.log.start()
    for number, label in enumerate(["yes", 1] * 10):
        log.log.labelled(Labelled(NOW, b"12345678", "m-v1", number, label))
    deadline = time.monotonic() + 10
    while not log.count("dropped_store"):
        assert time.monotonic() < deadline
        assert log.log.running
        time.sleep(0.01)
    dropped = log.count("dropped_store")
    for number in range(20):
        log.log.labelled(Labelled(NOW, b"12345678", "m-v1", number, "yes"))
    log.finish()
    assert log.count("written") > 0
    assert log.count("written") + log.count("dropped_store") == 40
    assert dropped < 40


def test_parquet_without_pyarrow_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(Failure, match="needs the package pyarrow"):
        log_files.check_format("parquet")
    log_files.check_format("jsonl")


def test_files_are_closed_by_size_and_by_age(tmp_path: Path) -> None:
    log = Log(tmp_path, file_bytes=2000, file_seconds=0.3)
    log.log.start()
    for _ in range(3000):
        log.log.predicted(request(nonce=os.urandom(8)))
    until(lambda: log.count("written") == 3000)
    assert len(log.files()) > 2
    log.log.predicted(request())
    until(lambda: log.count("written") == 3001)
    log.finish()
    assert len(log.records()) == 3001


def test_what_waits_is_bounded_and_drops_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prediction_log, "MAX_WAITING_ROWS", 10)
    log = Log(tmp_path)
    for _ in range(5):
        log.log.predicted(request(4))
    assert log.count("dropped_full") == 12
    assert sum("drops records" in record.message for record in caplog.records) == 1
    log.log.start()
    log.finish()
    assert len(log.records()) == 8


class Broken:
    """A store that fails a number of times, or for ever."""

    uri = "s3://bucket/log"

    def __init__(self, failures: float) -> None:
        self.failures = failures
        self.written: list[str] = []

    def write(self, uri: str, _data: bytes) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise StoreUnavailable("it is away.")
        self.written.append(uri)


@pytest.mark.parametrize(("failures", "written"), [(2, 1), (math.inf, 0)])
def test_a_store_that_fails_is_tried_again_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: float, written: int
) -> None:
    monkeypatch.setattr(prediction_log, "FIRST_RETRY_SECONDS", 0.01)
    store = Broken(failures)
    log = Log(tmp_path, store)
    log.log.start()
    log.log.predicted(request())
    log.finish()
    assert len(store.written) == written
    assert log.count("written") == written
    assert log.count("dropped_store") == 1 - written
    assert log.count("store_errors") == min(failures, prediction_log.ATTEMPTS)


def test_the_end_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    log = Log(tmp_path, Broken(math.inf))
    log.log.start()
    for _ in range(3):
        log.log.predicted(request())
    begun = time.monotonic()
    log.finish(0.5)
    assert time.monotonic() - begun < 3
    assert log.count("dropped_store") + log.count("dropped_full") == 3


@pytest.mark.parametrize("answer", [(500, "InternalError"), (403, "AccessDenied"), None])
def test_s3_gets_whole_objects_and_its_errors_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str] | None
) -> None:
    monkeypatch.setattr(prediction_log, "ATTEMPTS", 1)  # the client tries three times by itself
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("key")
    (tmp_path / "AWS_SECRET_ACCESS_KEY").write_text("secret")
    with serving() as (bucket, url):
        bucket.always = answer
        settings = {log_files.SETTINGS: json.dumps({"endpointUrl": url})}
        log = Log(tmp_path, log_store("s3://logs/solera", settings, tmp_path))
        log.log.start()
        log.log.predicted(request())
        log.finish(30)
        objects = dict(bucket.objects)
    if answer is None:
        [(path, data)] = objects.items()
        assert NAME.fullmatch(path.removeprefix("/logs/solera/"))
        assert json.loads(gzip.decompress(data))["predict"] == "yes"
    else:
        assert objects == {}
        assert log.count("dropped_store") == 1


@pytest.mark.parametrize(
    ("url", "settings", "words"),
    [
        ("gs://bucket/x", None, "write s3://bucket/prefix"),
        ("s3://", None, "write s3://bucket/prefix"),
        ("s3://b/x", "{", "is not JSON"),
        ("s3://b/x", '{"uri": "x"}', "must be an object with some of"),
        ("s3://b/x", '{"region": 1}', "region must be a string"),
    ],
)
def test_other_targets_are_refused_in_words(url: str, settings: str | None, words: str) -> None:
    with pytest.raises(Failure, match=words):
        log_store(url, {} if settings is None else {log_files.SETTINGS: settings})


def written(directory: Path) -> str:
    return "".join(gzip.decompress(path.read_bytes()).decode() for path in directory.rglob("*.gz"))


def until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)


# -- with a server ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(mixed: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return with_baseline(mixed, tmp_path_factory.mktemp("logged") / "buys")


@pytest.fixture(scope="module")
def loaded(model: Trained) -> LoadedModel:
    return load(model.directory, model.digest)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "log"


async def test_predictions_and_their_labels_are_joined_by_the_receipt(
    model: Trained, loaded: LoadedModel, tmp_path: Path
) -> None:
    log = LogOptions(str(tmp_path / "log"), columns=("city",))
    keys = write_keys(tmp_path / "keys")
    options = RecordingOptions(unit_header="X-User", receipt_keys=keys, log=log)
    async with recording_server(model, loaded, options) as served:
        async with httpx.AsyncClient(base_url=served.url) as client:
            headers = {"X-User": "secret-name", "X-Request-Id": "r-1"}
            body = {"instances": mixed_rows(2)}
            answer = await client.post("/v1/models/buys:predict", json=body, headers=headers)
            receipt = {"X-Solera-Receipt": answer.headers["X-Solera-Receipt"]}
            path = "/v1/models/buys:feedback"
            assert (
                await client.post(path, json={"row": 1, "label": True}, headers=receipt)
            ).status_code == 200
        await served.close()
        metrics = served.metrics.exposition()[0].decode()
    assert 'solera_server_prediction_log_records_total{model="buys",version="buys-v1"} 3' in metrics
    text = written(tmp_path / "log")
    first, second, label = [json.loads(line) for line in text.splitlines()]
    assert first["receipt"] == second["receipt"] == label["receipt"]
    assert first["features"] == {"city": mixed_rows(1)[0]["city"]}
    assert re.fullmatch("[0-9a-f]{16}", first["unit"])
    assert "secret-name" not in text
    assert (label["row"], label["label"]) == (1, True)


async def test_a_sample_is_of_requests_with_their_labels(
    model: Trained, loaded: LoadedModel, tmp_path: Path
) -> None:
    log = LogOptions(str(tmp_path / "log"), sample=0.5)
    options = RecordingOptions(receipt_keys=write_keys(tmp_path / "keys"), log=log)
    async with recording_server(model, loaded, options) as served:
        async with httpx.AsyncClient(base_url=served.url) as client:
            for _ in range(60):
                body = {"instances": mixed_rows(1)}
                answer = await client.post("/v1/models/buys:predict", json=body)
                headers = {"X-Solera-Receipt": answer.headers["X-Solera-Receipt"]}
                await client.post("/v1/models/buys:feedback", json={"label": True}, headers=headers)
        await served.close()
    text = written(tmp_path / "log")
    records = [json.loads(line) for line in text.splitlines()]
    predictions = {record["receipt"] for record in records if record["kind"] == "prediction"}
    labels = {record["receipt"] for record in records if record["kind"] == "label"}
    assert predictions == labels
    assert 10 <= len(predictions) <= 50


async def test_a_store_that_hangs_delays_no_prediction(
    model: Trained, loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Hanging(Broken):
        def write(self, uri: str, data: bytes) -> None:
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)
            super().write(uri, data)

    hanging = Hanging(0)
    monkeypatch.setattr("solera_server.recording.Recording._log_store", lambda _self, _environ: hanging)
    monkeypatch.setattr(prediction_log, "MAX_WAITING_ROWS", 20)
    log = LogOptions("s3://bucket/log", file_bytes=1)
    async with recording_server(model, loaded, RecordingOptions(log=log)) as served:
        async with httpx.AsyncClient(base_url=served.url, timeout=5) as client:
            for _ in range(60):
                answer = await client.post("/v1/models/buys:predict", json={"instances": mixed_rows(1)})
                assert answer.status_code == 200
        counters = served.recording.log_counters
        assert counters is not None
        assert counters.total("dropped_full") >= 60 - 20 - 1
        release.set()
        await served.close()
        assert counters.total("written") + counters.total("dropped_full") == 60


def test_columns_that_the_model_does_not_have_are_named(
    model: Trained, loaded: LoadedModel, tmp_path: Path
) -> None:
    async def start() -> None:
        options = RecordingOptions(log=LogOptions(str(tmp_path), columns=("town",)))
        async with recording_server(model, loaded, options):
            pass

    with pytest.raises(Failure, match='no feature "town"'):
        asyncio.run(start())
