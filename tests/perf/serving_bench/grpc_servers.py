"""The servers of bench-grpc: how each is started with its gRPC, what it is asked, and where its labels are."""

from __future__ import annotations

import shutil
import struct
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from serving_bench.process_tree import ProcessTree
from serving_bench.running import START_SECONDS, NotCorrect, free_ports
from serving_bench.servers import SERVERS, Server, Start
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serving_bench.models import Model, Row

INFER = "/inference.GRPCInferenceService/ModelInfer"
FIXED_SERVER = Path(__file__).parents[1] / "fixed_grpc_server.py"
_FIXED_ANSWER = "answer"


@dataclass(frozen=True)
class GrpcServer:
    """``names_output``: whether a request may say which of the outputs it wants."""

    server: Server
    names_output: bool = True


def message(model: Model, rows: Sequence[Row], *, names_output: bool = True) -> bytes:
    """One tensor of numbers, as bytes: so the clients of KServe and Triton send an array."""
    features = model.schema.features
    values = [float(row[feature.name]) for row in rows for feature in features]
    request = pb.ModelInferRequest(
        model_name="model", raw_input_contents=[struct.pack(f"<{len(values)}d", *values)]
    )
    request.inputs.add(name="x", shape=[len(rows), len(features)], datatype="FP64")
    if names_output:
        request.outputs.add(name="predict")
    return request.SerializeToString()


def labels(answer: bytes) -> list[str]:
    """The texts of the first output, whether they came as bytes or as contents."""
    response = pb.ModelInferResponse.FromString(answer)
    if not response.raw_output_contents:
        return [text.decode() for text in response.outputs[0].contents.bytes_contents]
    raw, found, position = response.raw_output_contents[0], [], 0
    while position < len(raw):
        start = position + 4
        position = start + int.from_bytes(raw[position:start], "little")
        found.append(raw[start:position].decode())
    return found


class GrpcRunning:
    """
    A server that runs and has answered over gRPC; ``cold_start`` is the seconds from exec to that.

    ``address`` is where it listens, ``tree`` its processes.
    """

    def __init__(self, one: GrpcServer, model: Model, build: Path, *, cpu: int | None) -> None:
        self.one, self.model = one, model
        server = one.server
        folder = build / "run" / f"grpc-{server.name}-{model.name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _FIXED_ANSWER).write_bytes(_fixed_answer())
        start = Start(model, free_ports(), folder)
        self.address = f"127.0.0.1:{start.ports[1]}"
        command = server.command(server.python(), start)
        begin = time.perf_counter()
        self.tree = ProcessTree(
            command, server.full_environ(start), folder / "output.log", cpu=cpu, folder=folder
        )
        try:
            self._await_first_answer(begin + START_SECONDS)
        except BaseException:
            self.tree.stop()
            raise
        self.cold_start = time.perf_counter() - begin

    def message(self, rows: int) -> bytes:
        return message(self.model, self.model.rows[:rows], names_output=self.one.names_output)

    def answer_bytes(self, rows: int) -> int:
        """
        Ask for several places in the data and compare with scikit-learn; return the length of the first answer.

        Raises NotCorrect.
        """
        with closing(grpc.insecure_channel(self.address)) as channel:
            call = channel.unary_unary(INFER)
            first = call(self.message(rows), timeout=30)
            for start in range(0, 8 * rows, rows):
                asked = self.model.rows[start : start + rows]
                answer = call(message(self.model, asked, names_output=self.one.names_output), timeout=30)
                expected = self.model.labels[start : start + rows]
                if self.one.server.checked and labels(answer) != expected:
                    raise NotCorrect(f"{self.one.server.name} answered {labels(answer)}; expected {expected}")
        return len(first)

    def _await_first_answer(self, deadline: float) -> None:
        seen = "no connection"
        while time.perf_counter() < deadline:
            if not self.tree.running:
                break
            with closing(grpc.insecure_channel(self.address)) as channel:
                try:
                    channel.unary_unary(INFER)(self.message(1), timeout=10)
                except grpc.RpcError as error:
                    seen = str(error)
                else:
                    return
            time.sleep(0.01)
        raise NotCorrect(f"{self.one.server.name} gave no answer, at last {seen}: {self.tree.output()}")


def _fixed_answer() -> bytes:
    response = pb.ModelInferResponse(model_name="model", raw_output_contents=[b"\x06\0\0\0setosa"])
    response.outputs.add(name="predict", shape=[1], datatype="BYTES")
    return response.SerializeToString()


def _with_options(name: str, *options: str) -> Callable[[Path, Start], list[str]]:
    """Return the command of a server of bench-server with options more; PORT in them is where gRPC listens."""
    command = SERVERS[name].command

    def more(python: Path, start: Start) -> list[str]:
        # The same ports, in other places: gRPC has the second one for all, as MLServer's configuration has it.
        http, grpc_port, other = start.ports
        placed = start if name == "mlserver" else replace(start, ports=(http, other, grpc_port))
        given = [argument for argument in command(python, placed) if argument != "--enable_grpc=false"]
        return [*given, *(option.replace("PORT", str(grpc_port)) for option in options)]

    return more


def _fixed(python: Path, start: Start) -> list[str]:
    port, answer = str(start.ports[1]), str(start.folder / _FIXED_ANSWER)
    return [str(python), str(FIXED_SERVER), "--port", port, "--answer", answer]


GRPC_SERVERS = {
    one.server.name: one
    for one in (
        GrpcServer(replace(SERVERS["solera"], command=_with_options("solera", "--grpc-port", "PORT"))),
        GrpcServer(
            replace(SERVERS["solera"], name="grpc.aio", packages=("grpcio",), command=_fixed, checked=False)
        ),
        GrpcServer(
            replace(SERVERS["kserve"], command=_with_options("kserve", "--grpc_port=PORT")),
            names_output=False,
        ),
        GrpcServer(replace(SERVERS["mlserver"], command=_with_options("mlserver"))),
    )
}
