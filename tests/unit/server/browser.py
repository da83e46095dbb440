"""
A real browser, driven over the pipe of its DevTools protocol: no driver and no package beside the browser.

Pages are asked and clicked as a person would; ``problems`` are what a person would find in the console.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    # Of its own accord it calls nobody.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    # A name that is not this machine's leads here, as one behind a tunnel would.
    "--host-resolver-rules=MAP *.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
_LIMIT = 1 << 26


class BrowserError(AssertionError):
    """What the browser says of a command or of a script."""


class Page:
    """
    One tab. ``problems`` are errors and warnings of its console: a blocked script, an exception, a failed load.

    ``statuses`` are those of the last answers, by address. The scripts given to ``value`` and ``until`` are
    expressions of JavaScript in the page.
    """

    def __init__(self, browser: _Browser, session: str) -> None:
        self.problems: list[str] = []
        self.statuses: dict[str, int] = {}
        self._browser = browser
        self._session = session

    async def open(self, url: str) -> None:
        """Go to an address and wait until all of the page is there."""
        self.problems.clear()
        told = await self.call("Page.navigate", url=url)
        if "errorText" in told:
            raise BrowserError(f"{url}: {told['errorText']}")
        await self.until("document.readyState === 'complete'")

    async def value(self, script: str) -> Any:
        """Return what a script comes to, as JSON; a promise is waited for."""
        told = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise BrowserError(f"{script}: {_exception(told['exceptionDetails'])}")
        return told["result"].get("value")

    async def until(self, script: str, seconds: float = 20.0) -> None:
        """Wait until a script is true; TimeoutError with what the page shows by then."""
        try:
            async with asyncio.timeout(seconds):
                while not await self.value(f"Boolean({script})"):  # noqa: ASYNC110 - a page tells nobody
                    await asyncio.sleep(0.02)
        except TimeoutError:
            text = await self.value("document.body.innerText")
            raise TimeoutError(f"never true: {script}\nconsole: {self.problems}\npage: {text}") from None

    async def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element, which is brought into view first."""
        script = (
            f"(() => {{const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2];})()"
        )
        x, y = await self.value(script)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def write(self, selector: str, text: str) -> None:
        """Put the focus into a field, as the tabulator does, and type over what is there."""
        await self.value(
            f"(() => {{const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select();}})()"
        )
        await self.call("Input.insertText", text=text)

    async def look(self, width: int, height: int, scheme: str) -> None:
        """Be a screen of a size, in CSS pixels, that prefers ``light`` or ``dark``."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command of the protocol."""
        return await self._browser.call(method, parameters, self._session)

    def heard(self, method: str, parameters: dict[str, Any]) -> None:
        """Keep what an event says of a problem or an answer."""
        if method == "Runtime.exceptionThrown":
            self.problems.append(_exception(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            entry = parameters["entry"]
            self.problems.append(f"{entry['text']} {entry.get('url', '')}")
        elif method == "Network.responseReceived":
            self.statuses[parameters["response"]["url"]] = parameters["response"]["status"]
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(one.get("value")) for one in parameters["args"]))


class _Browser:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pages: dict[str, Page] = {}
        self._process = process
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.reading = asyncio.create_task(self._read())

    async def call(self, method: str, parameters: dict[str, Any], session: str = "") -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(60):
            told = await answer
        if "error" in told:
            raise BrowserError(f"{method}: {told['error']}")
        found: dict[str, Any] = told["result"]
        return found

    async def page(self) -> Page:
        target = await self.call("Target.createTarget", {"url": "about:blank"})
        session = await self.call("Target.attachToTarget", {**target, "flatten": True})
        page = self.pages[session["sessionId"]] = Page(self, session["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        return page

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while True:
                message = json.loads((await self._process.stdout.readuntil(b"\0"))[:-1])
                if "id" in message:
                    self._waiting.pop(message["id"]).set_result(message)
                elif message.get("sessionId") in self.pages:
                    self.pages[message["sessionId"]].heard(message["method"], message["params"])
        except asyncio.IncompleteReadError:
            for answer in self._waiting.values():
                answer.set_exception(BrowserError("the browser ended"))


@asynccontextmanager
async def browsing(profile: Path) -> AsyncIterator[Page]:
    """Run a browser with a profile of its own in an empty directory; give one page of it."""
    # Chromium's sandbox needs a user who is not root; what it opens here is our own page.
    options = [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}"]
    # The protocol is on the descriptors 3 and 4.
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        'exec "$0" "$@" 3<&0 4>&1 1>&2',
        _program(),
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=_LIMIT,
    )
    browser = _Browser(process)
    try:
        yield await browser.page()
    finally:
        assert process.stdin is not None
        process.stdin.close()  # which ends it, with all its processes
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await browser.reading


def _program() -> str:
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return found
    raise BrowserError(f"no browser is installed ({', '.join(_PROGRAMS)}); Debian: apt-get install chromium")


def _exception(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])
