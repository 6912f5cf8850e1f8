from __future__ import annotations

import os
from pathlib import Path

import pytest

from dgate.config.check import Count, check, in_order, ports
from dgate.config.problem import Problem, Severity
from dgate.config.settings import load
from tests.config.kit import configured, write


def found(folder: Path, lines: str = "", **files: str) -> list[tuple[str, str]]:
    """Return severity and place-and-message of what `check` finds beyond loading."""
    configuration = configured(folder, lines, **files)
    return [
        (problem.severity.value, str(problem))
        for problem in check(configuration)
        if problem not in configuration.problems
    ]


def test_working_configuration_has_no_problem(tmp_path: Path) -> None:
    assert check(configured(tmp_path)) == []


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("IncomingCompression = ul", "dicom.ini:2: IncomingCompression = ul"),
        ("IncomingCompression = j450", "with loss"),
        ("DroppedFileCompression = s1\nCompressionConverter1 = nop", "by a script"),
        ("FileNameSyntax = 3", "dicom.ini:2: FileNameSyntax = 3"),
        ("FileNameSyntax = 3\nV2Content = raw", "implicit little endian"),
        ("FileNameSyntax = %sopuid.V2", "FileNameSyntax = %sopuid.V2"),
        ("Durability = none", "a power cut can lose objects"),
    ],
)
def test_place_that_changes_or_risks_objects_is_named(
    tmp_path: Path, lines: str, text: str
) -> None:
    ((severity, problem),) = found(tmp_path, lines)

    assert severity == "info"
    assert text in problem


@pytest.mark.parametrize("code", ["", "as", "is", "uj"])
def test_code_that_keeps_objects_is_not_named(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, f"IncomingCompression = {code}", map=f"A h 1 {code or 'as'}") == []


def test_missing_title_is_a_warning(tmp_path: Path) -> None:
    problems = check(load(write(tmp_path, "[sscscp]\nSQLServer =\nMAGDevice0 = data\n")))

    assert [problem.severity for problem in problems] == [Severity.WARNING]
    assert "the AE title is none" in problems[0].message


def test_index_without_files_is_a_warning(tmp_path: Path) -> None:
    assert [severity for severity, _ in found(tmp_path, "IncomingCompression = vX")] == ["warning"]


def test_nodes_that_get_other_objects_are_named_together(tmp_path: Path) -> None:
    table = "".join(f"NODE{n} h 104 UN\n" for n in range(10)) + "OTHER h 104 as\n"

    ((severity, problem),) = found(tmp_path, map=table)
    assert severity == "info"
    assert "NODE0, NODE1" in problem
    assert "NODE7 and 2 more" in problem


def test_device_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    assert {severity for severity, _ in found(tmp_path)} == {"error"}


@pytest.mark.parametrize("name", ["UserLog", "TroubleLog", "SQLServer"])
def test_folder_in_the_place_of_a_file_is_an_error(tmp_path: Path, name: str) -> None:
    ((severity, problem),) = found(tmp_path, f"{name} = .")

    assert severity == "error"
    assert f"dicom.ini:2: {name}: {tmp_path} is a folder" in problem


def test_file_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "user.log"
    log.write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: path != log)

    ((severity, problem),) = found(tmp_path, "UserLog = user.log")
    assert severity == "error"
    assert f"UserLog: {log} cannot be written" in problem


def test_device_by_another_name_is_the_same_device(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")

    ((severity, problem),) = found(tmp_path, "MAGDevices = 2\nMAGDevice1 = link")
    assert severity == "error"
    assert "dicom.ini:3: MAGDevice1 is the same folder as MAGDevice0" in problem


def test_ports_of_a_configuration_are_told(tmp_path: Path) -> None:
    assert ports(configured(tmp_path, "TCPPort = 11112"))[0] == ("TCPPort", 11112)
    assert ports(configured(tmp_path, "TCPPort = 0\nWebPort = 0")) == []


def test_every_problem_of_a_line_has_a_column(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    configuration = configured(tmp_path, "TCPPrt = 1\nUserLog =   ./data/log\nTCPPort = x")

    columns = {p.where: (p.column, p.source) for p in check(configuration) if p.line}
    assert columns["dicom.ini:2"] == (1, "TCPPrt = (not shown)")
    assert columns["dicom.ini:3"] == (13, "UserLog =   ./data/log")
    assert columns["dicom.ini:4"] == (11, "TCPPort = x")
    assert all(column is not None for column, _ in columns.values())


def test_device_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tests may run as root, for whom every folder is writable.
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/proc")

    ((severity, problem),) = found(tmp_path, "UserLog = /proc/nowhere/user.log")
    assert severity == "error"
    assert "/proc cannot be written, so /proc/nowhere cannot be made" in problem


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ("StudyDate", None),
        ("dicompatients.patientid, DICOMStudies.StudyDate DESC", None),
        ("AccessTime", None),
        ("PatientName", "no column PatientName"),
        ("dicomseries.StudyDate", "no column dicomseries.StudyDate"),
        ("StudyDate; drop table x", "no column"),
    ],
)
def test_sort_order_names_columns_of_the_index(
    tmp_path: Path, order: str, text: str | None
) -> None:
    problems = found(tmp_path, f"StudyQuerySortOrder = {order}")

    assert [severity for severity, _ in problems] == (["warning"] if text else [])
    assert all(text is not None and text in problem for _, problem in problems)


def test_column_that_may_be_cut_has_to_exist(tmp_path: Path) -> None:
    assert len(found(tmp_path, "AllowTruncate = StudyDescr,Nothing")) == 1


@pytest.mark.parametrize(
    ("lines", "files", "text"),
    [
        ("RetryFirst = 700", {}, "RetryFirst is longer than RetryMax"),
        ("RetryDelay = 9\nRetryMax = 60", {}, "RetryMax has no effect, as RetryDelay is set"),
        ("AllowUnknown = 0", {"map": "# none\n"}, "callers can only use C-ECHO"),
        ("MAGDevices = 2\nMAGDevice1 = data/more", {}, "MAGDevice1 lies inside the folder of MAG"),
    ],
)
def test_contradiction_is_a_warning(
    tmp_path: Path, lines: str, files: dict[str, str], text: str
) -> None:
    ((severity, problem),) = found(tmp_path, lines, **files)

    assert severity == "warning"
    assert text in problem


def test_problems_come_by_file_and_line(tmp_path: Path) -> None:
    configuration = load(
        write(tmp_path, "[x]\nQueueSize = 1\nIndexDBF = 1\n", map="A h\n", lst="a b c\n")
    )
    rule = Problem(Severity.ERROR, str(tmp_path / "dicom.ini"), 2, "a rule", "mend it")

    found = in_order(configuration, [*check(configuration), rule, rule])
    places = [problem.where for problem in found]
    assert len([problem for problem in found if problem == rule]) == 1
    names = [place.split(":")[0] for place in places]
    assert names == sorted(names, key=["dicom.ini", "acrnema.map", "dgatesop.lst"].index)
    assert places.index("dicom.ini:2") < places.index("dicom.ini:3")


@pytest.mark.parametrize(
    ("severities", "code"),
    [
        ([], 0),
        ([Severity.INFO], 0),
        ([Severity.WARNING, Severity.INFO], 2),
        ([Severity.WARNING, Severity.ERROR], 1),
    ],
)
def test_exit_code_tells_the_worst(severities: list[Severity], code: int) -> None:
    problems = [Problem(severity, "f", 1, "m", "a") for severity in severities]

    assert Count.of(problems).exit_code == code
