"""The model's page as a person meets it: a real browser, a real server, the mouse and the keyboard."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from browser import browsing
from server_process import running, serve_arguments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from browser import Page
    from server_artifacts import Trained
    from server_process import Process

ANSWER = "document.getElementById('answer').innerText"
STATE = "document.getElementById('state').textContent"


@asynccontextmanager
async def opened(
    trained: Trained, profile: Path, *options: str, host: str = "localhost"
) -> AsyncIterator[tuple[Page, Process]]:
    """Show the management port's page of a server of its own under a name."""
    arguments = serve_arguments(trained.directory, *options)
    async with running(*arguments) as process, browsing(profile) as page:
        await process.event("serving")
        port = (await process.management_url()).rpartition(":")[2]
        await page.open(f"http://{host}:{port}/")
        yield page, process


async def predicted(page: Page) -> str:
    """Press the button; return what the page then says."""
    await page.value("document.getElementById('answer').replaceChildren()")
    await page.click("button")
    await page.until("document.querySelector('#answer > .prediction, #answer > .error')")
    await page.until("!document.querySelector('button').disabled")
    return str(await page.value(ANSWER))


async def test_the_form_predicts_and_explains_and_says_what_is_wrong(mixed: Trained, tmp_path: Path) -> None:
    async with opened(mixed, tmp_path / "profile", "--name", "adults") as (page, process):
        await page.until(f"{STATE} === 'ready'")
        example = await predicted(page)
        assert "What each feature contributed" in example
        assert page.problems == [], "nothing is blocked, missing or thrown"

        # A missing value: the example has no age; with one the answer is another server's for the same row.
        assert await page.value("document.getElementById('f0').disabled")
        await page.click("#m0")
        await page.write("#f0", "44")
        text = await predicted(page)
        assert page.problems == []
        with (mixed.directory / "examples.json").open() as file:
            row = json.load(file)["inputs"][0]
        async with httpx.AsyncClient(base_url=await process.url()) as client:
            asked = {"instances": [{**row, "age": 44}], "parameters": {"probabilities": True}}
            answer = (await client.post("/v1/models/adults:predict", json=asked)).json()
        assert text.startswith(json.dumps(answer["predictions"][0]))
        for share in answer["probabilities"][0].values():
            assert f"{100 * share:.1f} %" in text

        await page.write("#f1", "many")
        assert await predicted(page) == 'visits: expected Integer, got "many"'
        await page.write("#f1", "")
        assert (await predicted(page)).startswith("visits: expected Integer, got null")

        # What was asked by the client beside the page, and only that, is traffic.
        await page.until("document.getElementById('total').textContent === '1'")
        process.process.kill()
        await page.until(f"{STATE} === 'no answer'")
        assert await predicted(page) == "the server does not answer"


async def test_a_name_must_be_given_to_the_server_and_then_its_form_works(
    iris: Trained, tmp_path: Path
) -> None:
    name = "models.example"
    async with opened(iris, tmp_path / "profile", "--page-host", name, host=name) as (page, process):
        assert "setosa" in await predicted(page)
        port = (await process.management_url()).rpartition(":")[2]
        await page.open(f"http://other.example:{port}/")
        assert "--page-host" in await page.value("document.body.innerText")

        # A stranger's page, which this one is now: its browser sends what needs no leave, and the server refuses.
        infer = f"http://127.0.0.1:{port}/v2/models/iris/infer"
        send = f"fetch('{infer}', {{method: 'POST', mode: 'no-cors', body: '{{}}'}}).then(() => true)"
        assert await page.value(send)
        assert page.statuses[infer] == 415, "no JSON"


@pytest.mark.parametrize("width", [1280, 390], ids=["desk", "telephone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_the_screen_in_its_colours(
    mixed: Trained, tmp_path: Path, width: int, scheme: str
) -> None:
    async with opened(mixed, tmp_path / "profile") as (page, _):
        await page.look(width, 844, scheme)
        await predicted(page)
        assert await page.value("document.documentElement.scrollWidth") == width, "nothing sticks out"
        colours = await page.value(
            "['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name])"
        )
        text, back = (sum(map(int, colour.strip("rgb()").split(","))) for colour in colours)
        assert (text < back) == (scheme == "light")
