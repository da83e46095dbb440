"""Every reason that a user may see stands in docs/troubleshooting.md."""

import re
from pathlib import Path

import pytest

from solera_core.failures import Reason

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
OPERATOR = ROOT / "operator" / "solera_operator"
MADE_BY = re.compile(r"""(?:Failure|PinProblem)\(\s*"([A-Z][A-Za-z]+)"|, "([A-Z][A-Za-z]+)"\),""")
# Where a version stands, in `candidate.reason` and Events; they need no remedy.
PROGRESS = {"Pending"}


def reasons_of_the_operator() -> set[str]:
    files = [*OPERATOR.glob("domain/*.py"), *OPERATOR.glob("controllers/*.py")]
    found = {a or b for file in files for a, b in MADE_BY.findall(file.read_text())}
    return found - PROGRESS


def test_the_search_finds_reasons():
    assert {"QuotaExceeded", "OutOfMemory", "PinnedVersionNotFound"} <= reasons_of_the_operator()


@pytest.mark.parametrize("reason", sorted({*map(str, Reason), *reasons_of_the_operator()}))
def test_a_reason_is_explained(reason):
    assert f"`{reason}`" in PAGE
