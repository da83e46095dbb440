"""Where the API server is and how to prove who we are: kubeconfig or service account."""

import asyncio
import dataclasses
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from solera_operator.engine.tasks import cancel_and_wait

_config: Any = config  # the library has no types
_EXEC_REFRESH_SECONDS = 60.0
_DEFAULT_KUBECONFIG = Path.home() / ".kube" / "config"


@dataclasses.dataclass(slots=True)
class Credentials:
    """
    Address, TLS context and a function that gives the current Authorization header (or None).

    `close()` ends the refreshing of tokens that an exec plugin issues.
    """

    server: str
    tls: ssl.SSLContext | None
    authorization: Callable[[], Awaitable[str | None]]
    proxy: str | None = None
    tls_server_name: str | None = None
    refresher: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self.refresher is not None:
            await cancel_and_wait(self.refresher)


async def load(kubeconfig: str | Path | None = None, context: str | None = None) -> Credentials:
    """
    Load credentials: the kubeconfig that is named, else the pod's service account, else KUBECONFIG's default.

    Raises kubernetes.aio.config.ConfigException when none of them is there or readable.
    """
    configuration = Configuration()
    refresher: asyncio.Task[None] | None = None
    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        _config.load_incluster_config(client_configuration=configuration)
    else:
        path = str(kubeconfig or os.environ.get("KUBECONFIG") or _DEFAULT_KUBECONFIG)
        loader = await _config.load_kube_config(
            config_file=path, context=context, client_configuration=configuration, persist_config=False
        )
        if configuration.api_key:  # a token: it may come from a plugin and run out
            refresher = asyncio.create_task(
                _config.refresh_token(loader, configuration, _EXEC_REFRESH_SECONDS), name="token refresh"
            )

    async def authorization() -> str | None:
        token: str | None = await configuration.get_api_key_with_prefix("BearerToken")
        return token

    return Credentials(
        server=str(configuration.host).rstrip("/"),
        tls=_tls_context(configuration) if str(configuration.host).startswith("https") else None,
        authorization=authorization,
        proxy=configuration.proxy,
        tls_server_name=configuration.tls_server_name,
        refresher=refresher,
    )


def _tls_context(configuration: Configuration) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:  # the kubeconfig's own insecure-skip-tls-verify
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls
