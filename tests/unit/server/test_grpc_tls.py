"""gRPC with TLS: a client that checks, one without TLS, and a certificate that changes while a channel runs."""

from __future__ import annotations

import asyncio
import ssl
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from server_process import running, serve_arguments
from test_tls import Mounted, in_file

from solera_server.grpc_server import SERVICE
from solera_server.open_inference import open_inference_pb2 as pb

if TYPE_CHECKING:
    from server_artifacts import Trained


def infer() -> bytes:
    message = pb.ModelInferRequest(
        model_name="iris", raw_input_contents=[struct.pack("<4d", 5.1, 3.5, 1.4, 0.2)]
    )
    message.inputs.add(name="x", shape=[1, 4], datatype="FP64")
    return message.SerializeToString()


async def presented(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


async def test_grpc_over_tls(iris: Trained, tmp_path: Path) -> None:
    root = tmp_path / "mount"
    root.mkdir()
    mounted = Mounted(root)
    arguments = serve_arguments(iris.directory, "--name", "iris", "--grpc-port", "0", *mounted.files.options)
    async with running(*arguments, "--drain-delay", "0") as server:
        port = int((await server.event("serving"))["grpc_port"])
        address = f"127.0.0.1:{port}"
        trusted = grpc.ssl_channel_credentials(mounted.files.certificate.read_bytes())
        async with grpc.aio.secure_channel(address, trusted) as channel:
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            answer = pb.ModelInferResponse.FromString(await call(infer(), timeout=10))
            assert answer.raw_output_contents[0] == b"\x06\0\0\0setosa"

            mounted.write("two")
            second = in_file(mounted.files)
            for _ in range(100):
                if await presented(port) == second:
                    break
                await asyncio.sleep(0.1)
            else:
                raise AssertionError("the old certificate is still presented")
            await call(infer(), timeout=10)  # on the connection that was there

        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/{SERVICE}/ModelInfer")(infer(), timeout=5)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
