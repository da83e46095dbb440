"""
The ceiling of what solera-server can do: its own HTTP layer with a reply that never changes.

It parses each body with orjson, does nothing with it, and answers the bytes of a prediction for one row. Like
the model server it counts its answers for the metrics.
Its paths are those of the model server, so that one load generator speaks to both:

    python tests/perf/fixed_server.py --name iris --host 127.0.0.1 --port 8080

It prints a line with the URL when it listens, and ends by SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
from typing import TYPE_CHECKING

import orjson
import uvloop

from solera_server.busy_poll import DEFAULT_SECONDS, BusyPoll
from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.message import Request, Response, json_response
from solera_server.metrics import Metrics
from solera_server.router import Route, Router

if TYPE_CHECKING:
    from collections.abc import Callable

V1_REPLY = b'{"predictions":["virginica"]}'
V2_REPLY = (
    b'{"model_name":"iris","model_version":"sha256-aecf1cf4637a","outputs":['
    b'{"name":"predict","shape":[1],"datatype":"BYTES","data":["virginica"]},'
    b'{"name":"predict_proba","shape":[1,3],"datatype":"FP64",'
    b'"data":[9.334571043920872e-8,0.00006280394521733804,0.9999371027090724]}]}'
)


def router(name: str) -> Router:
    """Return the routes of a model server that always gives the same reply."""

    def replying(reply: bytes) -> Callable[[Request], Response]:
        def handle(request: Request) -> Response:
            orjson.loads(request.body)
            return Response(200, reply)

        return handle

    def ready(_request: Request) -> Response:
        return json_response({"name": name, "ready": True})

    routes = {
        f"/v1/models/{name}": {b"GET": Route(ready, "v1")},
        f"/v1/models/{name}:predict": {b"POST": Route(replying(V1_REPLY), "v1", reads_json=True)},
        "/v2/health/ready": {b"GET": Route(ready, "v2")},
        f"/v2/models/{name}/infer": {b"POST": Route(replying(V2_REPLY), "v2", reads_json=True)},
    }
    return Router(
        {path.encode(): methods for path, methods in routes.items()}, lambda path: f"nothing at {path}"
    )


async def serve(name: str, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    busy_poll = BusyPoll(loop, DEFAULT_SECONDS)
    server = HttpServer(router(name), Limits(), Metrics(name, "fixed"), busy_poll=busy_poll)
    gc.freeze()
    port = await server.listen(host, port)
    sys.stdout.write(f"http://{host}:{port}/v2/models/{name}\n")
    sys.stdout.flush()
    await stop.wait()
    server.stop_listening()
    await server.finish(loop.time() + 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer every prediction with the same bytes.")
    parser.add_argument("--name", default="iris", help="name of the model in URLs (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port (%(default)s; 0: any free one)")
    options = parser.parse_args()
    uvloop.run(serve(options.name, options.host, options.port))


if __name__ == "__main__":
    main()
