"""What clients send does not reach the log: a canary through every protocol and error path of a real server."""

from __future__ import annotations

import io
import json
import logging
import threading
import warnings
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from recorded import write_keys
from server_artifacts import write_refusing
from server_process import running, serve_arguments

from solera_server import logs
from solera_server.grpc_server import SERVICE
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from server_artifacts import Trained
    from server_process import Process

TEXT = "canary-5f1c"
NUMBER = 987654.123456
MARKS = (TEXT, "987654")


def bodies(schema: Any) -> Iterator[tuple[str, bytes]]:
    """Yield bodies with the canary: taken, refused by the schema, refused by the model, broken."""
    plain = {"Float": NUMBER, "Integer": 987654, "String": TEXT, "Boolean": True, "DateTime": "2026-01-01"}
    row = {feature.name: plain[feature.type] for feature in schema.features}
    for action in ("predict", "explain", "feedback"):
        path = f"/v1/models/m:{action}"
        yield path, json.dumps({"instances": [row], "label": TEXT, "receipt": TEXT}).encode()
        yield path, json.dumps({"instances": [{**row, TEXT: TEXT}]}).encode()
        yield path, json.dumps({"instances": [dict.fromkeys(row, TEXT)]}).encode()
        yield path, json.dumps({"instances": [dict.fromkeys(row, NUMBER)]}).encode()
        yield path, json.dumps({"instances": [dict.fromkeys(row)]}).encode()
        yield path, json.dumps({"instances": [row]}).encode()
        yield path, f'{{"instances": [{TEXT} {NUMBER}'.encode()
    for path in ("/v2/models/m/infer", "/v2/models/m/explain"):
        for kind, value in (("BYTES", TEXT), ("FP64", NUMBER), (TEXT, TEXT), ("FP64", TEXT)):
            tensor = {"shape": [1], "datatype": kind, "data": [value]}
            inputs = [{"name": name, **tensor} for name in row]
            yield path, json.dumps({"id": TEXT, "inputs": inputs}).encode()
        yield path, json.dumps({TEXT: TEXT, "inputs": [{"name": TEXT, "shape": NUMBER}]}).encode()


def messages(schema: Any) -> Iterator[bytes]:
    def tensor(feature: Any, kind: str, **contents: Any) -> pb.ModelInferRequest.InferInputTensor:
        return pb.ModelInferRequest.InferInputTensor(
            name=feature.name, datatype=kind, shape=[1], contents=pb.InferTensorContents(**contents)
        )

    text, number = {"bytes_contents": [TEXT.encode()]}, {"fp64_contents": [NUMBER]}
    for kinds in ({"String"}, {"String", "DateTime"}, set(), {"Float", "String"}):
        inputs = [
            tensor(feature, "BYTES", **text) if feature.type in kinds else tensor(feature, "FP64", **number)
            for feature in schema.features
        ]
        yield pb.ModelInferRequest(model_name="m", id=TEXT, inputs=inputs).SerializeToString()
    yield pb.ModelInferRequest(model_name=TEXT).SerializeToString()
    yield TEXT.encode()


async def send_everything(process: Process, schema: Any) -> set[int]:
    headers = {"content-type": "application/json"}
    statuses = set()
    async with httpx.AsyncClient(timeout=20) as client:
        for url in (await process.url(), await process.management_url()):
            for path, body in bodies(schema):
                statuses.add((await client.post(url + path, content=body, headers=headers)).status_code)
            answer = await client.get(f"{url}/{TEXT}", headers={"x-canary": TEXT, "host": TEXT})
            statuses.add(answer.status_code)
    port = (await process.event("serving"))["grpc_port"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for message in messages(schema):
            for method in ("ModelInfer", "ModelMetadata"):
                call = channel.unary_unary(f"/{SERVICE}/{method}")
                try:
                    await call(message, timeout=20, metadata=(("x-canary", TEXT),))
                except grpc.aio.AioRpcError as error:
                    assert error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017 - an answer is right too
    return statuses


@pytest.mark.parametrize("kind", ["compiled", "scikit-learn"])
async def test_no_value_of_a_client_is_in_the_log(mixed: Trained, tmp_path: Path, kind: str) -> None:
    trained = mixed if kind == "compiled" else write_refusing(tmp_path / "refusing")
    arguments = serve_arguments(
        trained.directory, "--name", "m", "--grpc-port", "0", "--receipt-keys", str(write_keys(tmp_path / "keys"))
    )  # fmt: skip
    async with running(*arguments) as process:
        assert (await process.event("model loaded"))["predictor"] == kind
        statuses = await send_everything(process, trained.schema)
        process.process.terminate()
        process.process.terminate()
        await process.exit_code()
    assert 400 in statuses
    assert (200 in statuses) == (kind == "compiled"), "the other one knows no such city"
    if kind == "scikit-learn":
        refused = [event for event in process.events if event["event"] == "the model refused a request"]
        assert "ValueError" in refused[0]["exception"], "what is left says what it was and where"
        assert "File" in refused[0]["exception"]
    for event in process.events:
        assert not [mark for mark in MARKS if mark in json.dumps(event)], event


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The log as it is by default, into a text."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logs.JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    yield text
    root.removeHandler(handler)


def fail(value: str) -> None:
    try:
        {}[value]
    except KeyError as error:
        raise ValueError(f"could not convert string to float: {value!r}") from error


def test_exceptions_are_told_by_type_and_place(written: io.StringIO) -> None:
    try:
        fail(TEXT)
    except ValueError as error:
        logging.getLogger("solera_server.x").exception("prediction failed")
        logging.getLogger("asyncio").warning("Exception in callback f(%r)\nhandle: <%r>", TEXT, error)
        logging.getLogger("other").warning("never retrieved\nfuture: <Task %r>", error)
        group = ExceptionGroup(TEXT, [error])
        logging.getLogger("solera_server.x").warning("several", exc_info=group)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [
        "prediction failed", "Exception in callback f", "never retrieved", "several",
    ]  # fmt: skip
    assert "builtins.ValueError\n\nwhich came from:" in lines[0]["exception"]
    assert "builtins.KeyError" in lines[0]["exception"]
    assert "test_log_secrecy.py" in lines[0]["exception"]
    assert lines[3]["exception"].startswith("builtins.ExceptionGroup of ValueError")
    assert TEXT not in written.getvalue()


def test_warnings_and_threads_are_told_without_their_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr("sys.excepthook", None)
    monkeypatch.setattr("sys.unraisablehook", None)
    try:
        logs.configure("info")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = logs._warned
            warnings.warn(f"unknown category {TEXT}", stacklevel=1)
        thread = threading.Thread(target=fail, args=(TEXT,), name="predict")
        thread.start()
        thread.join()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        threading.excepthook = hook
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line.get("category"), line.get("of")) for line in lines] == [
        ("warning", "UserWarning", None), ("a thread failed", None, "predict"),
    ]  # fmt: skip
    assert "builtins.ValueError" in lines[1]["exception"]
    assert TEXT not in json.dumps(lines)


def test_at_the_level_debug_everything_is_told() -> None:
    try:
        fail(TEXT)
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "failed", (), (ValueError, error, None))
    assert TEXT in logs.JsonFormatter(whole=True).format(record)
    assert TEXT not in logs.JsonFormatter().format(record)
