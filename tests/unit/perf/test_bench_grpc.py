"""The benchmark of gRPC: answers are checked against our own server, and h2load's words are judged rightly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from serving_bench import h2load, models
from serving_bench.grpc_servers import GRPC_SERVERS, GrpcRunning, labels
from serving_bench.running import NotCorrect

from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path


def test_a_server_is_checked_before_it_is_measured(tmp_path: Path) -> None:
    one = GrpcRunning(GRPC_SERVERS["solera"], models.model("iris", tmp_path), tmp_path, cpu=None)
    try:
        assert one.answer_bytes(2) > 20
        one.model.labels[3] = "tulip"
        with pytest.raises(NotCorrect, match=r"expected \['[a-z]+', 'tulip'\]"):
            one.answer_bytes(2)
    finally:
        one.tree.stop()
    assert not one.tree.pids()


def test_labels_of_both_forms() -> None:
    raw = pb.ModelInferResponse(raw_output_contents=[b"\x01\0\0\0a\x02\0\0\0bc"])
    typed = pb.ModelInferResponse()
    typed.outputs.add(name="predict").contents.bytes_contents.extend([b"a", b"bc"])
    assert labels(raw.SerializeToString()) == labels(typed.SerializeToString()) == ["a", "bc"]


def test_calls_without_a_message_are_errors() -> None:
    log = "".join(f"1000\t200\t{microseconds}\n" for microseconds in range(1000, 11000, 100))

    def judged(data: int) -> h2load.Load:
        told = f"traffic: 9KB (9000) total, 1KB (1000) headers (space savings 9%), 7KB ({data}) data"
        return h2load.result(told, log, size=50, calls=2, seconds=2, generator=0.5)

    good = judged(100 * 50)
    assert (good.requests, good.errors, good.throughput) == (100, 0, 50)
    assert good.p50_ms == pytest.approx(6, abs=0.1)
    assert good.p99_ms == pytest.approx(10.9, abs=0.1)
    assert judged(101 * 50).errors == judged(98 * 50).errors == 0
    assert judged(60 * 50).errors == 40
    assert judged(60 * 50).throughput == 30
