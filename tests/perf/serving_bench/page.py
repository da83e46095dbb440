"""
Write the figures of the last runs into docs/performance.md and draw its charts: ``make bench-page``.

What stands between `<!-- NAME -->` and `<!-- /NAME -->` is replaced; the words around it are a person's. A
figure whose JSON is not there stays as it is.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from serving_bench import overload_chart, server_chart, server_report, soak_chart
from serving_bench.machine import ROOT
from serving_bench.records import read_records

DOCS = ROOT / "docs"
BUILD = ROOT / "build"


def replaced(page: str, name: str, content: str) -> str:
    """
    Return the page with the marked place filled.

    Raises ValueError when the page has no such place.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no place {begin} … {end}")
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"


def main() -> int:
    path = DOCS / "performance.md"
    page = path.read_text(encoding="utf-8")
    charts = DOCS / "performance"
    charts.mkdir(exist_ok=True)
    if (BUILD / "bench-server.json").is_file():
        records = read_records(BUILD / "bench-server.json")
        page = replaced(page, "server-run", _facts(_read("bench-server-run.json")))
        page = replaced(
            page,
            "server-targets",
            server_report.markdown(server_report.VERDICT_HEAD, server_report.verdicts(records)),
        )
        page = replaced(page, "server-tables", _server_tables(records))
        (charts / "server.svg").write_text(server_chart.draw(records), encoding="utf-8")
    if (BUILD / "bench-grpc.json").is_file():
        records = read_records(BUILD / "bench-grpc.json")
        page = replaced(page, "grpc-run", _facts(_read("bench-grpc-run.json")))
        page = replaced(page, "grpc-tables", _server_tables(records, "call"))
    if (BUILD / "bench-overload-run.json").is_file():
        details = _read("bench-overload-run.json")
        page = replaced(page, "overload-run", _facts(details["facts"]))
        page = replaced(page, "overload", _overload_table(_read("bench-overload.json")))
        page = replaced(page, "overload-models", _overload_models(details["trials"]))
        (charts / "overload.svg").write_text(overload_chart.draw(details), encoding="utf-8")
    if (BUILD / "bench-soak.json").is_file():
        soak = _read("bench-soak.json")
        page = replaced(page, "soak", _soak_words(soak))
        (charts / "soak.svg").write_text(soak_chart.draw(soak), encoding="utf-8")
    path.write_text(page, encoding="utf-8")
    return 0


def _read(name: str) -> Any:
    return json.loads((BUILD / name).read_text(encoding="utf-8"))


def _facts(facts: dict[str, str]) -> str:
    return server_report.markdown(("", "this run"), list(facts.items())).replace("---:", "---")


def _server_tables(records: list[Any], what: str = "connection") -> str:
    parts = []
    for case, connections in server_report.points(records):
        plural = "s" if connections > 1 else ""
        parts.append(f"**{server_report.title(case)}, {connections} {what}{plural}**\n")
        found = server_report.at(records, case, connections)
        parts.append(server_report.markdown(server_report.HEAD, server_report.rows(found)) + "\n")
    return "\n".join(parts)


def _overload_table(records: list[dict[str, float]]) -> str:
    head = ("offered, of capacity", "good answers, of capacity", "refusals, p99", "normal again after")
    body = [
        (
            f"{one['offered_ratio']:g}x",
            f"{one['goodput_ratio']:.0%}",
            f"{one['reject_p99_ms']:.1f} ms" if one["reject_p99_ms"] else "none refused",
            f"{one['recovered_s']:.1f} s",
        )
        for one in records
    ]
    return server_report.markdown(head, body)


def _overload_models(trials: list[dict[str, Any]]) -> str:
    head = (
        "model, offered",
        "capacity/s",
        "good, of capacity",
        "refusals, p99 ms",
        "normal after s",
        "answers",
        "generator late, p99 ms",
    )
    body = [
        (
            f"{one['subject']}, {one['ratio']:g}x",
            f"{one['capacity']:,.0f}",
            f"{one['goodput_ratio']:.0%}",
            f"{one['reject_p99_ms']:.1f}",
            f"{one['recovered_s']:.1f}",
            ", ".join(f"{count} {name}" for name, count in sorted(one["counts"].items())),
            f"{one['lag_p99_ms']:.1f}",
        )
        for one in trials
    ]
    return server_report.markdown(head, body)


def _soak_words(soak: dict[str, Any]) -> str:
    last = soak["readings"][-1]
    return (
        f"{last['requests']:,} requests in {last['seconds']:.0f} s, {last['refused']:,} of them wrong on purpose; "
        f"{last['rss_mb']:.1f} MB at the end, {soak['growth_mb']:+.2f} MB from the second quarter to the last "
        f"({soak['facts']['date']}, commit {soak['facts']['commit']})."
    )


if __name__ == "__main__":
    sys.exit(main())
