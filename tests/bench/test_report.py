"""The benchmark's own arithmetic: reports parsed, answers compared, the page written between its markers only."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from bench import pgbench, report, tpch
from bench.__main__ import PARTS
from bench.report import Bar, Section

REPORT = """pgbench (15.20)
transaction type: <builtin: select only>
number of transactions actually processed: 351520
number of failed transactions: 3 (0.001%)
latency average = 0.114 ms
initial connection time = 8.211 ms
tps = 70304.118 (without initial connection time)
"""


def test_a_report_is_read() -> None:
    assert pgbench.measured(REPORT) == pgbench.Run(tps=70304.118, latency_ms=0.114, failed=3)
    with pytest.raises(ValueError):
        pgbench.measured("pgbench: error: connection failed")


def test_answers_that_differ_stop_the_run() -> None:
    tpch.compare(
        "Q", [("A", Decimal("1.50"), Decimal("25.522005853257337"))], [("A", Decimal("1.5"), 25.522005853257337)]
    )
    for wrong in ([("A", Decimal("1.51"))], [("A",)], []):
        with pytest.raises(AssertionError):
            tpch.compare("Q", wrong, [("A", Decimal("1.50"))])


def test_bars_hold_on_their_own_side() -> None:
    assert Bar("fast", 0.5, 0.5).held
    assert not Bar("fast", 0.49, 0.5).held
    assert Bar("small", 2.0, 2.0, at_most=True).held
    assert not Bar("small", 2.1, 2.0, at_most=True).held


def test_the_page_keeps_its_prose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nafter\n")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "machine", lambda: "a machine")
    report.write(Section("x", ("what", "how fast"), [("new", "1")]))
    text = page.read_text()
    assert text.startswith("before\n<!-- bench:x -->\n| what | how fast |")
    assert text.endswith("<!-- /bench:x -->\nafter\n")
    assert "old" not in text
    with pytest.raises(ValueError):
        report.write(Section("y", ("what",)))


def test_every_part_has_its_place_on_the_page() -> None:
    text = report.PAGE.read_text()
    for name in PARTS:
        assert f"<!-- bench:{name} -->" in text
