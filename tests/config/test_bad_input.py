"""Files as nobody should write them: read, or refused with a reason, in bounded time and memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgate.config.nodes import NodeMap
from dgate.config.problem import Severity
from dgate.config.settings import load
from dgate.config.template import NAMES, default_file
from dgate.config.text import LARGEST_FILE, read_file
from dgate.errors import ConfigError
from dgate.inspection import inspect
from tests.config.kit import ENOUGH, configured, write
from tests.pace import least_processor_s

HUNDRED_MB = 100 << 20


def large(path: Path) -> None:
    """Make a file of 100 MB that takes no space on the disk."""
    with path.open("wb") as file:
        file.truncate(HUNDRED_MB)


def test_ini_file_of_100_mb_is_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    large(path)
    tracemalloc.start()

    with pytest.raises(ConfigError, match="more than 4 MB"):
        load(path)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * LARGEST_FILE


@pytest.mark.parametrize(("short", "key"), [("map", "ACRNemaMap"), ("sql", "kFactorFile")])
def test_other_file_of_100_mb_is_an_error(tmp_path: Path, short: str, key: str) -> None:
    large(tmp_path / "large")
    configuration = configured(tmp_path, f"{key} = large")

    (problem,) = [p for p in configuration.problems if p.severity is Severity.ERROR]
    assert key in problem.message
    assert "more than 4 MB" in problem.message
    assert problem.line == 2


def test_list_of_100_mb_is_left_out_with_a_warning(tmp_path: Path) -> None:
    large(tmp_path / "dgatesop.lst")
    ini = tmp_path / "dicom.ini"
    ini.write_text(f"[sscscp]\n{ENOUGH}")
    for name in NAMES[1:3]:
        (tmp_path / name).write_bytes(default_file(name))

    problems = [p for p in load(ini).problems if "more than 4 MB" in p.message]
    assert [p.severity for p in problems] == [Severity.WARNING]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused_and_does_not_block(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "dicom.ini"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)

    with pytest.raises(OSError, match=r"directory|ordinary"):
        read_file(path)


def test_script_file_of_100_mb_is_not_read(tmp_path: Path) -> None:
    large(tmp_path / "large.txt")

    problems = inspect(configured(tmp_path, "ImportConverter0 = call large.txt"))
    (problem,) = [problem for problem in problems if problem.severity is Severity.ERROR]
    assert "large.txt cannot be read: it has more than 4 MB" in problem.message


LONGEST_LINES = {
    "key": "x" * LARGEST_FILE,
    "unknown key": f"{'k' * (LARGEST_FILE - 4)} = 1",
    "value": f"PACSName = {'x' * (LARGEST_FILE - 40)}",
    "number": f"TCPPort = {'9' * (LARGEST_FILE - 40)}",
    "rule": f"ImportConverter0 = {';' * (LARGEST_FILE - 40)}",
    "quotes": "ImportConverter0 = " + '""' * (LARGEST_FILE // 2 - 40),
    "header": f"[{'x' * (LARGEST_FILE - 40)}",
    "blanks": " " * (LARGEST_FILE - 40) + "x",
    "code": f"IncomingCompression = {'j' * (LARGEST_FILE - 40)}",
    "template": f"FileNameSyntax = {'%x' * (LARGEST_FILE // 2 - 40)}.dcm",
    "sort order": f"StudyQuerySortOrder = {'a,' * (LARGEST_FILE // 2 - 40)}",
}


@pytest.mark.parametrize("name", LONGEST_LINES)
def test_longest_line_is_read_in_bounded_time(tmp_path: Path, name: str) -> None:
    text = f"[sscscp]\n{LONGEST_LINES[name]}"[:LARGEST_FILE]
    (tmp_path / "dicom.ini").write_text(text)

    def read() -> None:
        for problem in inspect(load(tmp_path)):
            assert len(str(problem)) < 2000

    assert least_processor_s(read, 2.0) < 2.0


def test_file_of_nothing_but_mistakes_is_reported_in_part(tmp_path: Path) -> None:
    configuration = configured(tmp_path, "".join(f"Nothing{n}at = all\n" for n in range(50_000)))

    warnings = [p for p in configuration.problems if p.severity is Severity.WARNING]
    assert len(warnings) == 1001
    assert "more than 1000 problems of this kind" in warnings[-1].message


def test_error_behind_a_thousand_warnings_is_still_told(tmp_path: Path) -> None:
    lines = "".join(f"Nothing{n}at = all\n" for n in range(2000))
    configuration = configured(tmp_path, f"{lines}TCPPort = 99999")

    assert Severity.ERROR in {problem.severity for problem in configuration.problems}


@pytest.mark.parametrize(
    "row",
    [
        "NODE{n} host{n} 104 as\n",
        "N{n}* * 104 as\n",
        "SAME host 104\n",
        "{n} h\n",
        "A{n} h 99999 q\n",
    ],
    ids=["nodes", "wildcards", "doubles", "without port", "mistakes"],
)
def test_ten_thousand_nodes_are_read_in_a_moment(row: str) -> None:
    text = "".join(row.format(n=n) for n in range(10_000)).encode()

    assert least_processor_s(lambda: NodeMap.parse(text, "acrnema.map"), 2.0) < 2.0
    nodes, problems = NodeMap.parse(text, "acrnema.map")
    assert len(problems) <= 3003
    assert len(nodes) == (0 if b" h\n" in text else 10_000)


def test_doubles_among_ten_thousand_nodes_are_found(tmp_path: Path) -> None:
    rows = [f"NODE{n} h 104 as\n" for n in range(10_000)]
    rows[9_000] = "NODE17 other 105 as\n"

    (problem,) = NodeMap.parse("".join(rows).encode(), "acrnema.map")[1]
    assert "NODE17 is never used: line 18 (NODE17) comes first" in problem.message
    assert (problem.line, problem.column) == (9001, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("DT_UI }", "DT_UID }"), "did you mean DT_UI?"),
        (("\n*Series*", "\n*Serie*"), "the section *Series* is missing"),
        (("\n*Series*", "\n*Serie*"), "did you mean *Series*?"),
        (('"StudyDate"', '"StudyTime"'), "two columns called StudyTime"),
    ],
)
def test_mistake_in_the_layout_is_an_error_with_its_place(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    text = default_file("dicom.sql").decode()
    assert change[0] in text
    configuration = configured(tmp_path, sql=text.replace(*change, 1))

    errors = [p for p in configuration.problems if p.severity is Severity.ERROR]
    found = [p for p in errors if message in str(p)]
    assert found
    assert all(p.line is None or (p.column and p.source) for p in errors)


PIECES = [
    *(f"{key} = ".encode() for key in ("TCPPort", "ImportConverter0", "MAGDevice0", "SQLite")),
    *(
        b"[sscscp]\n",
        b"[lua]\n",
        b"[scripts]\n",
        b"[node X]\n",
        b"[",
        b"]",
        b"\n",
        b"\r",
        b"=",
        b'"',
    ),
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"/*", b"*/", b"//", b"#", b";", b"{", b"}"),
    *(b"*Study*", b"0x0020", b"DT_UI", b",", b"%i", b"forward to ", b"call x", b"AE h 104 as\n"),
    *(b"x 1.2 sop\n", b"-1", b"9" * 30, b"../", b"\\", b" ", b"\t", b"\xc3\xa4"),
]
anything = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.tuples(anything, anything, anything, anything))
def test_no_bytes_in_the_four_files_crash_the_check(
    tmp_path: Path, contents: tuple[bytes, bytes, bytes, bytes]
) -> None:
    for name, data in zip(NAMES, contents, strict=True):
        (tmp_path / name).write_bytes(data)

    for problem in inspect(load(tmp_path)):
        assert problem.message
        assert problem.column is None or problem.column >= 1


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_no_rule_crashes_the_check(tmp_path: Path, rule: bytes) -> None:
    line = rule.replace(b"\n", b" ").replace(b"\r", b" ")
    ini = b"[sscscp]\nMAGDevice0 = data\nImportConverter0 = " + line
    (tmp_path / "dicom.ini").write_bytes(ini)
    for name in NAMES[1:]:
        (tmp_path / name).write_bytes(default_file(name))

    for problem in inspect(load(tmp_path)):
        if problem.column is not None and problem.source:
            assert problem.column <= len(problem.source) + 2
