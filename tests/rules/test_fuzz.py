"""A hundred thousand generated lines, and how the work grows with the length of a line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dgate.errors import Deferred, RuleError
from dgate.rules.compile import Library, compile_line
from dgate.rules.grammar import parse_line
from dgate.rules.run import Run
from dgate.rules.syntax import EXPORT, IMPORT, Dialect, Family, Text
from tests.rules import fuzzing, kit, wholepath

PER_SEED = 12_500
WHOLE_WAY = 60
DIALECTS = (IMPORT, EXPORT, IMPORT, Dialect(Family.EXPORT, "Export", programs=True))
RUN_EVERY = 25


class Nothing(kit.FakeEnvironment):
    """An environment in which nothing outside the test is touched."""


def attempt(text: str, dialect: Dialect, library: Library, *, run: bool) -> None:
    """Parse, compile and perhaps run a line; only an error of the rule may come of it."""
    tree = parse_line(Text.whole(text), dialect)
    compiled = compile_line(tree, library)
    for item, statement in tree.statements():
        assert 1 <= statement.column <= len(text) + 1, item
    if not run:
        return
    made = Run(
        kit.table(), kit.captured(), Nothing(), export=dialect.family is Family.EXPORT, lenient=True
    )
    made.enter("ImportConverter0", "dicom.ini:1")
    try:
        compiled.run(made)
    except (RuleError, Deferred):
        return


@pytest.mark.parametrize("seed", range(8))
def test_generated_lines_do_no_harm(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "dgate.rules")
    library = Library({}, [])
    for number, text in enumerate(fuzzing.lines(seed, PER_SEED)):
        try:
            attempt(text, DIALECTS[number % 4], library, run=number % RUN_EVERY == 0)
        except Exception as exc:
            pytest.fail(f"seed {seed}, line {number}: {exc!r} for {text!r}")


@pytest.mark.parametrize("seed", range(100, 104))
def test_generated_lines_go_their_whole_way(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As converters of every kind, over odd objects, with real files."""
    caplog.set_level(logging.CRITICAL, "dgate")
    site = wholepath.Site(tmp_path / "site")
    subjects = wholepath.objects()
    for number, text in enumerate(fuzzing.lines(seed, WHOLE_WAY)):
        subject = subjects[number % len(subjects)]
        try:
            wholepath.run_everywhere(text, site, subject, lenient=number % 2 == 0)
        except Exception as exc:
            pytest.fail(f"seed {seed}, line {number}: {exc!r} for {text!r}")


def _work(text: str) -> int:
    """Return how many lines of Python it takes to parse and compile a line."""
    count = 0

    def tracer(frame: Any, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal count
        count += 1
        return tracer

    library = Library({}, [])
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        compile_line(parse_line(Text.whole(text), IMPORT), library)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "piece",
    [
        "nop a;",
        'ifempty "a";{',
        'ifempty "a";{;',
        "{;",
        "};",
        '"',
        '""',
        '";"',
        "%",
        "%i[0,1]",
        "%V/0008,1110.1",
        "nop %i ",
        'set PatientID to "%V*PatientID";',
        "forward to A org B dest C ",
        "unknown words ",
        'script "nop;";',
        "lua",
        "a\0",
        "%VPatientName~",
    ],
)
@pytest.mark.parametrize("start", ["", "nop ", 'ifequal "', 'script "', "forward study "])
def test_work_grows_with_the_length_of_a_line_and_not_with_its_square(
    piece: str, start: str
) -> None:
    short, long = _work(start + piece * 200), _work(start + piece * 800)
    assert long <= 5 * short + 2000
