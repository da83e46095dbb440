"""The report of the counters: what it says comes back, and what is no report is refused."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import orjson
import pytest
from counted_requests import WHAT, Clock, memory, noted

from solera_core.counters import CountersInvalid, merge, read_report, report_to_json
from solera_server.counter_report import CounterReport
from solera_server.counters import Counters


def test_a_report_comes_back_from_its_document_and_others_are_refused():
    clock = Clock()
    made = memory(clock)
    counters = Counters(made, WHAT)
    counters.note(noted(1, unit=5, arm=b"a", epoch=b"1"))
    counters.finish()
    document = orjson.loads(CounterReport(made, "m", "m-v1", "sha256:0").document())
    assert orjson.loads(orjson.dumps(report_to_json(read_report(document)))) == document

    def refused(change):
        broken = orjson.loads(orjson.dumps(document))
        change(broken)
        with pytest.raises(CountersInvalid):
            read_report(broken)

    arm = document["windows"][0]["arms"][0]
    refused(lambda d: d.update(formatVersion=2))
    refused(lambda d: d.update(groups=16))
    refused(lambda d: d.pop("boot"))
    refused(lambda d: d["windows"][0]["features"].pop())
    refused(lambda d: d["windows"][0]["arms"].append(arm))
    refused(lambda d: d["windows"][0]["arms"][0]["requests"].__setitem__(0, -1))
    refused(lambda d: d["windows"][0]["arms"][0]["requests"].__setitem__(0, 1.5))
    refused(lambda d: d["windows"][0]["units"].update(halvings=62))
    refused(lambda d: d["windows"][0]["units"]["members"][0].update(hashes="@"))
    for other in (None, [], {}, "x", {"formatVersion": 1}):
        with pytest.raises(CountersInvalid):
            read_report(other)


def test_windows_of_other_times_or_bins_are_not_added_up():
    clock = Clock()
    made = memory(clock)
    first, second = made.read(made.first), made.read(made.first + 1)
    with pytest.raises(ValueError, match="different times"):
        merge([first, second])
    for left, right in itertools.permutations([np.ones(2, dtype=np.int64), np.ones(3, dtype=np.int64)]):
        with pytest.raises(ValueError, match="different bins"):
            merge([first.__class__(0, left), first.__class__(0, right)])


def parameters(target: str) -> Any:
    class Asked:
        pass

    asked = Asked()
    asked.head = Asked()
    asked.head.target = target.encode()
    return asked


def test_the_parameter_of_the_report_is_checked():
    clock = Clock()
    reporter = CounterReport(memory(clock), "m", "m-v1", "sha256:0")
    assert reporter.handle(parameters("/counters?after=3")).status == 200
    for query in ("after=x", "after=", "before=1", "after=1&more=2", "after=" + "9" * 20):
        assert reporter.handle(parameters(f"/counters?{query}")).status == 400
