"""What a model may be called, and what it is called where its directory cannot say."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from grpc_calls import connected, infer
from recorded import write_keys
from server_process import running, serve_arguments

if TYPE_CHECKING:
    from server_artifacts import Trained

BODY = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()


@pytest.mark.parametrize("name", ["income_classifier", "A.1-b_2", "x" * 63])
async def test_names_that_directories_often_have_are_the_models(
    iris: Trained, tmp_path: Path, name: str
) -> None:
    """In every place where the name stands: URLs of HTTP, gRPC, receipts, metrics, the prediction log."""
    directory = shutil.copytree(iris.directory, tmp_path / name)
    log, keys = tmp_path / "log", write_keys(tmp_path / "keys")
    arguments = serve_arguments(
        directory, "--receipt-keys", str(keys), "--prediction-log", str(log), "--grpc-port", "0", "--drain-delay", "0",
        "--page",
    )  # fmt: skip
    async with running(*arguments) as server:
        url, port = await server.url(), (await server.event("serving"))["grpc_port"]
        async with httpx.AsyncClient() as client, connected(port) as calls:
            assert (await client.get(f"{url}/v1/models")).json() == {"models": [name]}
            answer = await client.post(f"{url}/v1/models/{name}:predict", content=BODY)
            assert answer.json() == {"predictions": ["setosa"]}
            receipt = {"X-Solera-Receipt": answer.headers["X-Solera-Receipt"]}
            label = {"label": "setosa"}
            taken = await client.post(f"{url}/v1/models/{name}:feedback", json=label, headers=receipt)
            assert taken.status_code == 200
            assert (await client.get(f"{url}/v2/models/{name}/ready")).status_code == 200
            assert (await calls("ModelMetadata", name=name)).name == name
            assert await calls.call("ModelInfer", infer(model_name=name))
            page = (await client.get(url, headers={"accept": "text/html"})).text
            assert f"<title>{name}" in page
            metrics = (await client.get(f"{await server.management_url()}/metrics")).text
            assert f'solera_server_ready{{model="{name}",' in metrics
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code() == 0
    assert [path.name for path in log.iterdir()] == [name]
    assert [event for event in server.events if event["level"] != "info"] == []


@pytest.mark.parametrize("name", ["my model", "_x", "x" * 64])
async def test_a_directory_that_cannot_give_the_name_is_told(
    iris: Trained, tmp_path: Path, name: str
) -> None:
    directory = shutil.copytree(iris.directory, tmp_path / name)
    async with running(*serve_arguments(directory)) as server:
        assert (await server.event("serving"))["model"] == "model"
        [warning] = [event for event in server.events if event["level"] == "warning"]
        assert (warning["place"], warning["name_in_urls"]) == (name, "model")
        assert "--name" in warning["event"]
