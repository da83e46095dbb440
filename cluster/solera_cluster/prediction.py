"""Sends a sample row to a model on the cluster, through its stable Service or through the gateway."""

import argparse
import http.client
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from solera_cluster import kubectl, paths
from solera_cluster.command import Command
from solera_cluster.errors import ClusterError

NAMESPACE = "demo"
_GATEWAY_NAMESPACE = "envoy-gateway-system"
_SECONDS = 20
# What a column gets when nobody has given a sample: a value of its type.
_FILLERS = {"FP64": 0.0, "FP32": 0.0, "INT64": 0, "INT32": 0, "BOOL": False, "BYTES": ""}


def sample(model: str, namespace: str) -> dict[str, Any]:
    """A V1 request: examples/requests/<model>.json, or a row of fillers by the model's own metadata."""
    file: Path = paths.CHECKOUT / "examples" / "requests" / f"{model}.json"
    if file.exists():
        request: dict[str, Any] = json.loads(file.read_text())
        return request
    metadata = json.loads(kubectl.run("get", "--raw", _path(model, namespace, f"/v2/models/{model}")))
    row = {column["name"]: _FILLERS.get(column["datatype"]) for column in metadata["inputs"]}
    return {"instances": [row]}


def _path(model: str, namespace: str, path: str) -> str:
    """The API server's own way to a Service: it works on every cluster, from wherever kubectl works."""
    return f"/api/v1/namespaces/{namespace}/services/{model}:http/proxy{path}"


def through_service(model: str, namespace: str = NAMESPACE) -> dict[str, Any]:
    """Predict through the model's stable Service. Raises ClusterError with what the model answered."""
    body = json.dumps(sample(model, namespace))
    target = _path(model, namespace, f"/v1/models/{model}:predict")
    answer: dict[str, Any] = json.loads(kubectl.run("create", "--raw", target, "--filename=-", stdin=body))
    return answer


def through_gateway(
    model: str, hostname: str, namespace: str = NAMESPACE, gateway: str = "public"
) -> tuple[int, str]:
    """Predict through the gateway by a forwarded port; status and answer."""
    services = kubectl.find(
        "service",
        f"--namespace={_GATEWAY_NAMESPACE}",
        f"--selector=gateway.envoyproxy.io/owning-gateway-name={gateway}",
    )
    if services is None or not services["items"]:
        raise ClusterError(f"gateway {gateway} has no Service in {_GATEWAY_NAMESPACE} yet")
    name = services["items"][0]["metadata"]["name"]
    body = json.dumps(sample(model, namespace))
    command = kubectl.command("port-forward", f"--namespace={_GATEWAY_NAMESPACE}", f"service/{name}", ":80")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            port = re.search(r"127\.0\.0\.1:(\d+) ->", line)
            if port is None:
                raise ClusterError(f"the gateway cannot be reached by port-forward: {line.strip()}")
            connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=_SECONDS)
            headers = {"Host": hostname, "Content-Type": "application/json"}
            connection.request("POST", f"/v1/models/{model}:predict", body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace").strip()
        finally:
            process.terminate()


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name of a TrainedModel")
    parser.add_argument("--namespace", default=NAMESPACE, help=f"its namespace (default: {NAMESPACE})")


def _run(arguments: argparse.Namespace) -> int:
    request = sample(arguments.model, arguments.namespace)
    print(f"request  {json.dumps(request)}")
    print(f"answer   {json.dumps(through_service(arguments.model, arguments.namespace))}")
    return 0


COMMANDS = (Command("predict", "send a sample row through a model's stable Service", _run, _arguments),)
