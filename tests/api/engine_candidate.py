"""A process that runs for a Lease; the leadership tests start several and kill some."""

import asyncio
import signal
import sys

from solera_operator.engine import logs
from solera_operator.engine.client import KubeClient
from solera_operator.engine.leadership import Leadership


async def main(kubeconfig: str, namespace: str, server: str) -> None:
    logs.configure("debug", "json", sys.stderr)
    async with await KubeClient.connect(kubeconfig=kubeconfig) as client:
        client.credentials.server = server
        leadership = Leadership(client, namespace, "candidates")
        candidate = asyncio.create_task(leadership.run())
        asked_to_stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_stop.set)
        await leadership.leading.wait()
        sys.stdout.write("leading\n")
        sys.stdout.flush()
        await asked_to_stop.wait()
        await leadership.release()
        await candidate


asyncio.run(main(*sys.argv[1:]))
