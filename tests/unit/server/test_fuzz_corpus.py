"""The corpus of the fuzzer through every target, without the fuzzer: what was found once stays mended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from server_artifacts import write_mixed

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
sys.path.insert(0, str(FUZZ))

from targets import Targets  # noqa: E402 - the folder of the fuzzer is no package

CORPUS = sorted((FUZZ / "corpus").glob("*/*"))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Targets:
    return Targets(write_mixed(tmp_path_factory.mktemp("fuzz") / "mixed").directory)


def test_every_target_has_a_corpus(targets: Targets) -> None:
    assert {path.parent.name for path in CORPUS} == set(targets.by_name)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_corpus_shows_no_defect(targets: Targets, path: Path) -> None:
    targets.by_name[path.parent.name](path.read_bytes())


def test_a_defect_would_be_shown(targets: Targets) -> None:
    # The target compares what it is told to: a server that counts its requests answers otherwise each time.
    import targets as module

    answers = iter(range(100))
    original = module._echo
    module._echo = lambda _request: module.Response(200, b"%d" % next(answers))
    try:
        with pytest.raises(AssertionError, match="four readings"):
            targets.http(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    finally:
        module._echo = original
