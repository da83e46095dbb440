"""
What a server on grpc.aio can do at most: each ModelInfer is answered with the same bytes, unread.

    python tests/perf/fixed_grpc_server.py --port 9000 --answer FILE

It ends by SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import grpc
import uvloop

SERVICE = "inference.GRPCInferenceService"


async def serve(port: int, answer: bytes) -> None:
    async def infer(_request: bytes, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return answer

    server = grpc.aio.server()
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer", type=Path, required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.answer.read_bytes()))


if __name__ == "__main__":
    main()
