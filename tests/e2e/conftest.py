"""A cluster with Solera on it, a namespace for each test, and a report of the namespace when a test fails."""

import re
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import failure_report
import pytest
from kube import Kube, connect

from solera_cluster import demo, deploy, object_store, paths

_MADE: list[str] = []


@pytest.fixture(scope="session")
def kube() -> Iterator[Kube]:
    """A client of the cluster that the environment names; namespaces of the tests are on their way out when it ends."""
    # A socket's path may have about 100 characters: pytest's own folders have longer ones.
    with tempfile.TemporaryDirectory(prefix="solera-e2e-") as folder, connect(Path(folder)) as client:
        assert deploy.operator_image(), "Solera is not on this cluster: run `make deploy` first"
        yield client
        left = [found["metadata"] for name in _MADE if (found := client.find("namespaces", None, name))]
        # Kubernetes takes half a minute to be done with a namespace of pods that may end slowly.
        assert all("deletionTimestamp" in one for one in left), f"not removed: {left}"


@pytest.fixture(scope="session")
def data(kube: Kube) -> None:
    """The examples' data in the object store."""
    folder = paths.CHECKOUT / "examples" / "data"
    for name in ("iris", "penguins"):
        object_store.upload(folder / f"{name}.csv", f"s3://solera-data/{name}/{name}.csv")


@pytest.fixture
def namespace(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace with Pod Security restricted enforced and the object store's Secrets in it."""
    short = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:30].strip("-")
    name = f"e2e-{short}-{uuid.uuid4().hex[:6]}"
    demo.prepare_namespace(name)
    _MADE.append(name)
    yield name
    kube.delete("namespaces", None, name)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Note a measurement, which the summary at the end shows."""
    return lambda text: record_property("measured", text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the state of the namespace to the report of a failure."""
    report = yield
    found = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "kube" in found and "namespace" in found:
        try:
            report.sections.extend(failure_report.sections(found["kube"], found["namespace"]))
        except Exception as error:  # noqa: BLE001 the test's own failure is what matters
            report.sections.append(("report", f"the namespace cannot be read: {error!r}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the tests measured."""
    lines = [
        f"{report.nodeid.rsplit('::', 1)[-1]}: {value}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, value in report.user_properties
        if name == "measured"
    ]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)
