"""The thread for what is neither a prediction nor quick."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from raw_http import until

from solera_server.errands import Errands
from solera_server.message import Head, Request, Response

NICENESS = 10


def priority_of_thread() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def refuse(_which: int, _who: int, _priority: int) -> None:
    raise PermissionError("only the superuser may raise a priority")


@pytest.mark.parametrize("allowed", [True, False])
async def test_errands_are_run_whatever_the_priority(
    *, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process with a lower priority than the thread should have may not give it that one."""
    if not allowed:
        monkeypatch.setattr(os, "setpriority", refuse)
    answers: list[Response] = []
    priorities: list[int] = []

    def work(request: Request) -> Response:
        priorities.append(priority_of_thread())
        return Response(200, request.body)

    own = priority_of_thread()
    handle = Errands(asyncio.get_running_loop(), "test").handler(work)
    request = Request(Head(), b"work", 0.0, lambda _request, response: answers.append(response))
    assert handle(request) is None
    await until(lambda: bool(answers))
    assert answers[0].body == b"work"
    lower = allowed and (own <= NICENESS or os.geteuid() == 0)
    assert priorities == [NICENESS if lower else own]
    assert priority_of_thread() == own, "predictions keep theirs"
