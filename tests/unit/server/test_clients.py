"""Real clients against real server processes: those of KServe and Triton in an environment of their own, curl."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pb2
from server_process import running, serve_arguments

from own_environment import environment
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server_artifacts import Trained

SCRIPTS = Path(__file__).parent / "clients"


@asynccontextmanager
async def both_models(*trained: Trained) -> AsyncIterator[list[str]]:
    """Serve the models; gives the URLs of their servers, and then their addresses for gRPC."""
    async with AsyncExitStack() as stack:
        events = []
        for one in trained:
            name = one.directory.name
            arguments = serve_arguments(
                one.directory, "--version", f"{name}-v1", "--grpc-port", "0", "--workers", "1"
            )
            process = await stack.enter_async_context(running(*arguments))
            events.append(await process.event("serving"))
        yield [f"http://127.0.0.1:{event['port']}" for event in events] + [
            f"127.0.0.1:{event['grpc_port']}" for event in events
        ]


async def run(*command: str | Path, given: bytes | None = None) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(given), 120)
    assert process.returncode == 0, f"{' '.join(map(str, command))}\n{out.decode()}\n{err.decode()}"
    return out


@pytest.mark.parametrize("script", ["kserve_rest", "kserve_grpc", "triton_http", "triton_grpc"])
async def test_a_real_client(iris: Trained, mixed: Trained, script: str) -> None:
    python = await asyncio.to_thread(environment, "clients")
    async with both_models(iris, mixed) as addresses:
        await run(python, SCRIPTS / f"{script}.py", *addresses)


@pytest.mark.parametrize("client", ["kserve", "triton"])
async def test_the_messages_are_those_of_the_clients(client: str) -> None:
    python = await asyncio.to_thread(environment, "clients")
    ours = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(ours)
    await run(python, SCRIPTS / "messages.py", client, given=ours.SerializeToString())


async def test_curl(iris: Trained, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    row = '{"instances": [[5.1, 3.5, 1.4, 0.2]]}'
    tensor = b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}]}'
    async with both_models(iris) as (url, _):
        predict = f"{url}/v1/models/iris:predict"
        assert json.loads(await run(curl, "-sf", predict, "-d", row)) == {"predictions": ["setosa"]}
        assert json.loads(await run(curl, "-sf", "--http2", predict, "-d", row)) == {
            "predictions": ["setosa"]
        }

        body = tmp_path / "body"
        numbers = bytes.fromhex("66666666666614400000000000000c40666666666666f63f9a9999999999c93f")
        body.write_bytes(tensor + numbers)
        headers = [
            "-H",
            f"Inference-Header-Content-Length: {len(tensor)}",
            "-H",
            "Content-Type: application/octet-stream",
        ]
        out = await run(curl, "-sf", f"{url}/v2/models/iris/infer", *headers, "--data-binary", f"@{body}")
        assert json.loads(out)["outputs"][0]["data"] == ["setosa"]

        told = await run(curl, "-s", "-w", "%{http_code}", predict, "-H", "Content-Encoding: gzip", "-d", "x")
        assert told.endswith(b"415")
        assert b"a compressed body is not accepted" in told


def code_of_the_documentation(language: str) -> list[str]:
    page = Path(__file__).parents[3] / "docs" / "server" / "protocols.md"
    parts = page.read_text(encoding="utf-8").split("```")
    return [part.removeprefix(f"{language}\n") for part in parts[1::2] if part.startswith(f"{language}\n")]


async def test_the_code_in_the_documentation(iris: Trained) -> None:
    python = await asyncio.to_thread(environment, "clients")
    async with both_models(iris) as (url, grpc_address):

        def here(code: str) -> str:
            return code.replace("localhost:8080", url.removeprefix("http://")).replace(
                "localhost:9000", grpc_address
            )

        programs, scripts = code_of_the_documentation("python"), code_of_the_documentation("sh")
        assert (len(programs), len(scripts)) == (2, 1)
        found = [await run(python, "-c", here(code)) for code in programs]
        assert found[0].split() == [b"{'predictions':", b"['setosa']}", b"['setosa']", b"[b'setosa']"]
        assert found[1].count(b"e-0") >= 2, "two rows of probabilities"
        told = await run("bash", "-c", here(scripts[0]))
        assert json.loads(told)["outputs"][0]["data"] == ["setosa"]
