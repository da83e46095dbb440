"""From a bare machine to an answered prediction: `make demo`."""

import argparse
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from solera_cluster import (
    build,
    deploy,
    images,
    kind,
    kubectl,
    lifecycle,
    object_store,
    paths,
    platform,
    prediction,
    progress,
    selection,
)
from solera_cluster.command import Command
from solera_cluster.errors import ClusterError

NAMESPACE = prediction.NAMESPACE
MODEL = "iris"
HOSTNAME = "iris.example.com"
MANIFEST = Path("examples") / "iris-demo.yaml"
DATA = (Path("examples") / "data" / "iris.csv", "s3://solera-data/iris/iris.csv")
_READY_SECONDS = 300
_FIRST = ("coredns", "object-store")  # what the training needs; the rest is built while it runs


def demo() -> None:
    """Bring up everything that is not there yet, train, serve, predict, and say what to try next."""
    begun = time.monotonic()
    progress.say("1/5  cluster")
    _cluster()
    progress.say("2/5  name service, object store, Solera")
    platform.install(_FIRST)
    deploy.deploy()
    platform.wait(_FIRST)
    progress.say(f"3/5  data in the object store, {MANIFEST} applied")
    prepare_namespace(NAMESPACE)
    object_store.upload(paths.CHECKOUT / DATA[0], DATA[1])
    kubectl.run("apply", f"--namespace={NAMESPACE}", f"--filename={paths.CHECKOUT / MANIFEST}")
    progress.say("4/5  metrics, gateway; the model is trained meanwhile")
    platform.install()
    platform.wait()
    _follow(MODEL)
    progress.say("5/5  a prediction")
    _predict()
    progress.say(f"Done after {progress.duration(time.monotonic() - begun)}.")
    print(_next_steps())


def _cluster() -> None:
    """Start the cluster; on a bare machine, build its binaries and Solera's images side by side."""
    if selection.current() is not selection.Target.LOCAL:
        if selection.current() is selection.Target.KIND:
            kind.up()
        return
    side: list[BaseException] = []

    def build_images() -> None:
        try:
            images.build(["components"])
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that can
            side.append(error)

    beside = threading.Thread(target=build_images, name="images")
    beside.start()
    build.ensure(["control-plane", "node"])
    lifecycle.up("main", controllers=True, takeover=False)
    beside.join()
    if side:
        raise side[0]


def prepare_namespace(name: str) -> None:
    """Create a namespace for models, with the credentials of store and data."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    kubectl.apply(json.dumps(namespace))
    credentials = object_store.ensure_credentials()
    for secret in ("solera-store", "solera-data"):
        kubectl.apply(json.dumps(object_store.secret(secret, name, credentials)))


def _follow(model: str) -> None:
    """Print each change of the model's Ready condition until it is True."""
    said = ""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        found = kubectl.find("trainedmodel", model, f"--namespace={NAMESPACE}") or {}
        conditions = {c["type"]: c for c in found.get("status", {}).get("conditions", ())}
        ready = conditions.get("Ready", {})
        line = f"       {model}: {ready.get('reason', 'Unknown')}: {ready.get('message', 'no status yet')}"
        if line != said:
            progress.say(line)
            said = line
        if ready.get("status") == "True":
            return
        if "Stalled" in conditions or time.monotonic() > deadline:
            raise ClusterError(f"{model} did not get ready:\n{json.dumps(found.get('status'), indent=1)}")
        time.sleep(0.5)


def _predict() -> None:
    request = prediction.sample(MODEL, NAMESPACE)
    answer = prediction.through_service(MODEL, NAMESPACE)
    progress.say(f"       request          {json.dumps(request)}")
    progress.say(f"       by the Service   {json.dumps(answer)}")
    deadline = time.monotonic() + 30
    while True:
        status, text = prediction.through_gateway(MODEL, HOSTNAME)
        if status == 200:
            break
        if time.monotonic() > deadline:
            raise ClusterError(f"the gateway answers {status}: {text}")
        time.sleep(0.5)
    progress.say(f"       by the gateway   {text}")


def _next_steps() -> str:
    kubeconfig, binary = lifecycle.main_kubeconfig(), lifecycle.kubectl()
    address = _gateway_address()
    change = '{"spec":{"training":{"seed":8}}}'
    pin = json.dumps({"spec": {"serving": {"pin": {"version": f"{MODEL}-v1"}}}})
    curl = f"curl -H 'Host: {HOSTNAME}' {address}/v1/models/{MODEL}:predict"
    lines = [
        "",
        "What to try next:",
        f"  export KUBECONFIG={kubeconfig}",
        f"  alias kubectl={binary}",
        f"  kubectl config set-context --current --namespace={NAMESPACE}",
        "  kubectl get trainedmodels,modelversions -w            # watch",
        f"  make predict MODEL={MODEL}                               # by the stable Service",
        f"  {curl} -d @examples/requests/{MODEL}.json",
        f"  kubectl patch tmd {MODEL} --type merge -p '{change}'   # train a second version",
        "  kubectl get mv -o wide                                # the versions and what they reached",
        f"  kubectl patch tmd {MODEL} --type merge -p '{pin}'   # roll back",
        f"  kubectl describe tmd {MODEL}                             # conditions and events",
        "  make down                                             # stop everything",
    ]
    return "\n".join(lines)


def _gateway_address() -> str:
    found = kubectl.find("gateway", "public", "--namespace=gateways") or {}
    addresses: list[dict[str, Any]] = found.get("status", {}).get("addresses") or []
    return f"http://{addresses[0]['value']}" if addresses else "http://GATEWAY"


def _run(_arguments: argparse.Namespace) -> int:
    try:
        demo()
    except subprocess.CalledProcessError as error:
        raise ClusterError(f"{error.cmd[0]} failed with code {error.returncode}") from error
    return 0


COMMANDS = (Command("demo", "from a bare machine to an answered prediction", _run),)
