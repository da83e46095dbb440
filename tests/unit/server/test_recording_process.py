"""Real server processes that record: several workers, a killed one, a drain."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from recorded import KEY, with_baseline, write_keys
from server_artifacts import mixed_rows
from server_process import running, serve_arguments

from solera_core.counters import Report, read_report
from solera_core.receipts import read
from solera_core.units import GROUPS
from solera_server.grpc_server import SERVICE
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from server_artifacts import Trained

BODY = {"instances": mixed_rows(2)}
PATH = "/v1/models/buys:predict"


@pytest.fixture(scope="module")
def model(mixed: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return with_baseline(mixed, tmp_path_factory.mktemp("counted") / "buys")


async def counters(management: str) -> Report:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{management}/counters")
    assert answer.status_code == 200, answer.text
    return read_report(answer.json())


def summed(report: Report, name: str) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for reported in report.windows:
        for key, arrays in reported.window.arms.items():
            found[key] = found.get(key, 0) + int(arrays[name].sum() if name in arrays else 0)
    return found


async def ask(url: str, count: int, **headers: str) -> list[httpx.Response]:
    """Send each request on a connection of its own, so that every worker gets some."""
    answers = []
    for index in range(count):
        async with httpx.AsyncClient() as client:
            named = {**headers, "X-User": f"user-{index}"}
            answers.append(await client.post(f"{url}{PATH}", json=BODY, headers=named))
    return answers


async def reached(management: str, arm: tuple[str, int], requests: int) -> Report:
    """Wait until so many requests are counted: workers fold a few times a second."""
    for _ in range(200):
        report = await counters(management)
        if summed(report, "requests").get(arm, 0) >= requests:
            return report
        await asyncio.sleep(0.05)
    raise AssertionError(f"not counted: {summed(report, 'requests')}")


async def test_workers_count_as_one_and_a_killed_one_takes_no_counts_along(
    model: Trained, tmp_path: Path
) -> None:
    arguments = serve_arguments(
        model.directory, "--workers", "2", "--unit-header", "X-User", "--receipt-keys",
        str(write_keys(tmp_path / "keys")), "--counter-window", "3600",
    )  # fmt: skip
    arm = {"X-Solera-Arm": "blue", "X-Solera-Weight-Epoch": "7"}
    async with running(*arguments) as server:
        url, management = await server.url(), await server.management_url()
        answers = await ask(url, 40, **arm)
        assert all(answer.status_code == 200 for answer in answers)
        report = await reached(management, ("blue", 7), 40)
        assert len(report.boot) == 32
        assert summed(report, "rows") == {("blue", 7): 80}
        features = sum(reported.window.features for reported in report.windows)
        bins = sum(size for _, size in report.layout.features)
        assert features.sum() == 80 * len(model.schema.features)
        assert np_groups(features, bins) > 5, "units are spread over the groups"
        units = set().union(*(r.window.units.members.get(("blue", 7), ()) for r in report.windows))
        assert len(units) == 40

        # Two labels for one row, on connections that any worker may get: one of them counts.
        token = answers[0].headers["X-Solera-Receipt"]
        feedback, receipt = f"{url}/v1/models/buys:feedback", {"X-Solera-Receipt": token}
        statuses = []
        for _ in range(8):
            async with httpx.AsyncClient() as client:
                answer = await client.post(feedback, json={"label": True}, headers=receipt)
                statuses.append(answer.status_code)
        assert sorted(statuses) == [200] + [409] * 7

        # The workers were forked before the process that answers /counters.
        first, *_, last = children(server.process.pid)
        os.kill(first, signal.SIGKILL)
        await ask(url, 10, **arm)
        await reached(management, ("blue", 7), 50)
        os.kill(last, signal.SIGKILL)
        assert first not in children(server.process.pid)
        report = await reached(management, ("blue", 7), 50)
        assert summed(report, "requests") == {("blue", 7): 50}
        [labels] = [arrays["labels"].sum() for r in report.windows for arrays in r.window.outcomes.values()]
        assert labels == 1
        assert read(token, {"k1": KEY}).model == "buys"
        server.process.send_signal(signal.SIGINT)
        assert await server.exit_code() == 0


def np_groups(features: Any, bins: int) -> int:
    return int((features.reshape(GROUPS, bins).sum(axis=1) > 0).sum())


def children(parent: int) -> list[int]:
    """Return the processes that a server has forked, in the order in which it did."""
    return sorted(map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()))


async def test_an_artifact_without_baseline_is_served_and_counted_without_features(mixed: Trained) -> None:
    async with running(*serve_arguments(mixed.directory, "--name", "buys")) as server:
        url, management = await server.url(), await server.management_url()
        await ask(url, 3)
        report = await reached(management, ("none", 0), 3)
        assert report.layout.features == ()
        assert report.layout.predictions == (("predict", 4),)
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"{management}/metrics")).text
            refused = await client.get(f"{management}/counters?from=1")
        assert 'solera_server_features{counted="false",' in metrics
        assert refused.status_code == 400


async def test_the_log_is_whole_after_a_drain(model: Trained, tmp_path: Path) -> None:
    arguments = serve_arguments(
        model.directory, "--prediction-log", str(tmp_path / "log"), "--drain-delay", "0", "--workers", "2"
    )
    async with running(*arguments) as server:
        answers = await ask(await server.url(), 20)
        assert all(answer.status_code == 200 for answer in answers)
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code() == 0
    records = [
        json.loads(line)
        for path in (tmp_path / "log").rglob("*.jsonl.gz")
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert len(records) == 40
    assert not list((tmp_path / "log").rglob("tmp*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prediction-log-columns", "age"), "add --prediction-log"),
        (("--outcome-clip", "2"), "add --receipt-keys"),
        (("--receipt-keys", "/nowhere/at/all"), "cannot be read"),
        (("--prediction-log", "ftp://x/y"), "write s3://bucket/prefix"),
        (("--prediction-log", "never", "--prediction-log-columns", "nope"), "the model has no feature"),
    ],
)
async def test_options_that_do_not_fit_are_refused_at_the_start(
    model: Trained, arguments: tuple[str, ...], words: str
) -> None:
    async with running(*serve_arguments(model.directory, *arguments)) as server:
        assert await server.exit_code() == 64
        assert words in json.dumps(server.events)


async def test_units_are_told_apart_on_one_connection_behind_a_proxy(model: Trained) -> None:
    """A proxy sends a new X-Request-Id each time; the rest of a head may be known already."""
    arguments = serve_arguments(model.directory, "--unit-header", "X-User", "--workers", "1")
    async with running(*arguments) as server:
        url, management = await server.url(), await server.management_url()
        async with httpx.AsyncClient() as client:
            for index in range(60):
                headers = {
                    "x-request-id": f"r-{index}",
                    "X-User": f"user-{index % 3}",
                    "X-Solera-Arm": f"arm-{index % 2}",
                    "X-Solera-Weight-Epoch": "1",
                }
                assert (await client.post(f"{url}{PATH}", json=BODY, headers=headers)).status_code == 200
        report = await reached(management, ("arm-1", 1), 30)
    assert summed(report, "requests") == {("arm-0", 1): 30, ("arm-1", 1): 30}
    members = [len(units) for r in report.windows for units in r.window.units.members.values()]
    assert sum(members) >= 6
    assert len(set().union(*(u for r in report.windows for u in r.window.units.members.values()))) == 3


async def test_grpc_has_receipts_in_its_trailing_metadata_and_is_counted(
    iris: Trained, tmp_path: Path
) -> None:
    keys = str(write_keys(tmp_path / "keys"))
    arguments = serve_arguments(
        iris.directory, "--name", "iris", "--grpc-port", "0", "--workers", "1", "--receipt-keys", keys
    )
    async with running(*arguments) as server:
        management = await server.management_url()
        port = (await server.event("serving"))["grpc_port"]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 4])
            tensor.contents.fp64_contents.extend([5.1, 3.5, 1.4, 0.2])
            infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            arm = (("x-solera-arm", "blue"), ("x-solera-weight-epoch", "3"))
            message = pb.ModelInferRequest(model_name="iris", inputs=[tensor]).SerializeToString()
            call = infer(message, metadata=arm)
            await call
            trailing = dict(await call.trailing_metadata())
            ready = channel.unary_unary(f"/{SERVICE}/ServerReady")
            await ready(b"", metadata=arm)
            broken = infer(b"\xff", metadata=arm)
            with pytest.raises(grpc.aio.AioRpcError):
                await broken
        receipt = read(trailing["x-solera-receipt"], {"k1": KEY})
        report = await reached(management, ("blue", 3), 2)
    assert (receipt.arm, receipt.epoch, receipt.rows) == ("blue", 3, 1)
    assert summed(report, "requests") == {("blue", 3): 2}
    assert summed(report, "clientErrors") == {("blue", 3): 1}


@pytest.mark.parametrize("form", ["{}", "file://{}"])
@pytest.mark.parametrize("place", ["/proc/x/y", "a file"])
async def test_a_log_that_cannot_be_written_is_said_before_the_model_is_loaded(
    iris: Trained, tmp_path: Path, place: str, form: str
) -> None:
    if place == "a file":
        place = str(tmp_path / "file")
        Path(place).touch()
    async with running(*serve_arguments(iris.directory, "--prediction-log", form.format(place))) as server:
        assert await server.exit_code() == 64
        [event] = server.events
    assert event["reason"] == "BadSpec"
    assert "the directory cannot be made or written to: " in event["event"]
