"""Memory goes back to the system once a large model is loaded."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, threading
from solera_server.memory import give_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20

def load():
    # What stays in use lies above what is freed.
    blocks = [bytearray(5000) for _ in range(20_000)]
    stays.append(bytearray(5000))

stays = []
thread = threading.Thread(target=load)
thread.start()
thread.join()
before = resident()
give_back()
print(before - resident())
"""


def test_what_was_freed_below_something_in_use_goes_back() -> None:
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(finished.stdout) > 60, "megabytes of the hundred that were freed"
