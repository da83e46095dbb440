"""Runs kubectl against the cluster that the commands are about."""

import json
import subprocess
from typing import Any

from solera_cluster import lifecycle
from solera_cluster.errors import ClusterError

_TIMEOUT_SECONDS = 120


def command(*arguments: str) -> list[str]:
    """Give the whole command line, for callers that run it themselves."""
    return [str(lifecycle.kubectl()), f"--kubeconfig={lifecycle.main_kubeconfig()}", *arguments]


def run(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl and give its output; raises ClusterError with what it said."""
    try:
        finished = subprocess.run(
            command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"`kubectl {' '.join(arguments)}` had no answer in {_TIMEOUT_SECONDS} s; `status` says whether"
            " the cluster is up"
        ) from error
    if finished.returncode:
        raise ClusterError(f"`kubectl {' '.join(arguments)}` failed: {finished.stderr.strip()[-2000:]}")
    return finished.stdout


def find(*arguments: str) -> dict[str, Any] | None:
    """Get one object or a list as JSON; None if it, or its kind, does not exist."""
    try:
        text = run("get", *arguments, "--ignore-not-found", "--output=json")
    except ClusterError as error:
        if "the server doesn't have a resource type" in str(error):
            return None
        raise
    return json.loads(text) if text.strip() else None


def apply(manifests: str) -> None:
    """Apply by server-side apply; fields that somebody else set are taken over."""
    run(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=solera-cluster", "--filename=-"),
        stdin=manifests,
    )
