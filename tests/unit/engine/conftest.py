"""Logs of the tests as plain text: pretty tracebacks take half a second each."""

import pytest

from solera_operator.engine import logs


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    logs.configure("debug", "console")
