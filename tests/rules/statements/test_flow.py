"""Flow: `defer` and what a session keeps of `testmode`; the rest is in test_compile."""

from __future__ import annotations

import logging

import pytest

from dgate.errors import Deferred
from dgate.rules.effects import Outcome
from tests.rules import kit


def expand(line: str, **changes: object) -> list[str]:
    """Return the targets of an export line."""
    made = kit.rules(kit.converter(line, "Export"), **changes)  # type: ignore[arg-type]
    assert made.problems == ()
    found = made.expand(0, kit.table(), kit.captured(), kit.FakeEnvironment())
    return [forward.target for forward in found.forwards]


@pytest.mark.parametrize(
    "line",
    [
        "defer",
        "forward to A; defer",
        'ifequal "%m", "CT"; defer; forward to A',
        "call wait; forward to A",
    ],
)
def test_defer_ends_an_export_line_without_a_result(line: str) -> None:
    with pytest.raises(Deferred, match=r"deferred by ExportConverter0\.\d"):
        expand(line, scripts={"wait": 'ifequal "%m", "CT"; defer; nop'})


def test_defer_that_is_skipped_does_nothing() -> None:
    assert expand('ifequal "%m", "MR"; defer; forward to A') == ["A"]


def test_lines_that_defer_wait_for_the_dispatcher() -> None:
    made = kit.rules(kit.converter("defer; forward to A", "Export"))
    [plan] = made.plan_exports(kit.table(), kit.captured(), kit.FakeEnvironment())
    assert plan.deferred


def test_defer_in_an_import_line_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    verdict, table = kit.run_import(kit.importing('defer; set StudyID to "after"'))
    assert verdict.outcome is Outcome.KEEP
    assert table.text(0x00200010) == "after"
    assert "Importconverter0.0: defer has no effect" in caplog.text


def test_lenient_lines_defer_all_the_same() -> None:
    with pytest.raises(Deferred):
        expand("defer", script_errors_reject=False)
