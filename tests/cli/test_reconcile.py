"""`dgate reconcile` against scripted archives: what it says and answers; with real ones:
tests/acceptance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dgate.cli.reconcile import reconcile_command
from dgate.delivery.inquiry import STUDY_DATE, STUDY_ROOT
from dgate.net import CommandField, Status
from tests.archive.maintenance.ward import open_ward
from tests.delivery.reconcile.odd import Odd
from tests.net.kit import serving

pytestmark = pytest.mark.integration

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what compares an archive with studies, by number and time, with a node."""

    def run(odd: Odd, *words: str, ours: dict[int, str] | None = None) -> Result:
        ward = open_ward(tmp_path)
        for number, time in (ours or {}).items():
            ward.add(1, study=number, StudyDate="20260105", StudyTime=time)
        ward.close()
        handlers = {(CommandField.C_FIND_RQ, f"{STUDY_ROOT}.1"): odd.handle}
        with serving(handlers=handlers) as server:
            (tmp_path / "acrnema.map").write_text(f"PEER 127.0.0.1 {server.port} as\n")
            return CliRunner().invoke(reconcile_command, ["PEER", "-c", str(tmp_path), *words])

    return run


def uid_of(number: int) -> str:
    """Return the UID of a study of both sides."""
    return f"1.2.801.{number}"


def many(*, without_time: bool = False) -> tuple[Odd, dict[int, str]]:
    """Return a node that has more studies of a day than it lists, and the same of ours."""
    times = {number: f"{number + 6:02d}1500" for number in range(1, 10)}
    if without_time:
        times[9] = ""
    odd = Odd(limit=4, final=0xA700)
    for number, time in times.items():
        odd.add(uid_of(number), "20260105", 1, time=time, patient=f"H{number}")
    return odd, times


def answers(result: Result) -> list[dict[str, Any]]:
    """Return what was said as JSON."""
    return [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]


def test_what_cannot_be_asked_for_does_not_change_the_exit_code(run: Run) -> None:
    odd, ours = many()
    result = run(odd, "--since", "20260101", ours=ours)
    assert result.exit_code == 0, result.output
    assert "Cannot be asked for: studies that only PEER has, of days" in result.output
    assert "9 studies compared, 9 equal" in result.output
    assert "1 kinds of studies that cannot be asked for, none of which was seen" in result.output

    strict = run(odd, "--since", "20260101", "--strict", "--json")
    assert strict.exit_code == 3
    [told] = [each for each in answers(strict) if each["kind"] == "residual"]
    assert "without a study time" in told["part"]
    summary = answers(strict)[-1]
    assert (summary["residual"], summary["uncompared"]) == (1, 0)

    kept = run(odd, "--status")
    assert "cannot be asked for: studies that only PEER has" in kept.output


def test_part_that_is_not_compared_has_an_exit_code_of_its_own(run: Run) -> None:
    odd, ours = many(without_time=True)
    result = run(odd, "--since", "20260101", ours=ours)
    assert result.exit_code == 3, result.output
    assert "Not compared: studies that only PEER has, of days" in result.output
    assert "PEER has studies without a time" in result.output


def test_difference_is_not_hidden_by_a_part_that_is_not_compared(run: Run) -> None:
    odd, ours = many(without_time=True)
    odd.add(uid_of(20), "20260120", 2, time="080000")
    result = run(odd, "--since", "20260101", ours=ours)
    assert result.exit_code == 1, result.output
    assert "2 missing here" in result.output
    assert "1 studies still differ, 1 parts not compared" in result.output
    summary = answers(run(odd, "--since", "20260101", "--json"))[-1]
    assert (summary["left"], summary["uncompared"]) == (1, 1)


def test_study_that_could_not_be_dealt_with_is_a_failure(run: Run) -> None:
    odd = Odd(counts=False, broken_series=frozenset([uid_of(2)]))
    for number in (1, 2):
        odd.add(uid_of(number), "20260105", 1)
    result = run(odd, "--since", "20260101", ours={1: "", 2: ""})
    assert result.exit_code == 2, result.output
    assert "1 studies could not be dealt with" in result.output
    odd.add(uid_of(3), "20260105", 1)
    assert run(odd, "--since", "20260101").exit_code == 1


def test_node_that_refuses_all_is_a_failure(run: Run) -> None:
    odd = Odd(limit=0, final=Status.UNABLE_TO_PROCESS, refuses=True)
    odd.add(uid_of(1), "20260105", 1)
    result = run(odd, ours={1: ""})
    assert result.exit_code == 2, result.output


@pytest.mark.parametrize("until", ["99991231", "21000102", "9999-12-31"])
@pytest.mark.parametrize("since", ["20260101", "0001-01-01", ""])
def test_dates_at_the_end_of_time(run: Run, since: str, until: str) -> None:
    odd = Odd()
    odd.add(uid_of(1), "20260105", 1)
    odd.add(uid_of(2), "20991231", 1)
    words = ["--since", since] if since else []
    result = run(odd, *words, "--until", until, ours={1: ""})
    assert result.exit_code == 1, result.output
    assert "2 studies compared, 1 equal" in result.output
    assert {len(keys.get(STUDY_DATE, "")) for keys in odd.asked} <= {0, 8, 9, 17}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--until", "99991332"], "'99991332' is no date; write YYYYMMDD or YYYY-MM-DD"),
        (["--until", "100000101"], "is no date"),
        (["--since", "20260229"], "is no date"),
        (["--since", "20260201", "--until", "20260131"], "no day is from 20260201 to 20260131"),
    ],
)
def test_dates_that_are_none(run: Run, words: list[str], text: str) -> None:
    odd = Odd()
    result = run(odd, *words)
    assert result.exit_code == 2, result.output
    assert text in result.output
    assert odd.asked == []


@pytest.mark.parametrize(("level", "code"), [("series", 0), ("object", 1), ("image", 1)])
def test_level_of_objects_has_two_names(run: Run, level: str, code: int) -> None:
    odd = Odd()
    odd.studies[uid_of(1)] = "20260105", {f"{uid_of(1)}.1": ["1.2.9"]}
    assert run(odd, "--level", level, ours={1: ""}).exit_code == code
