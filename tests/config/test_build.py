"""Settings that take more than one key, or a rule of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.build import _failure_status, _file_name_syntax, _level, _uid_prefix
from dgate.config.key_table import REGISTRY
from dgate.config.model import Engine, Value
from dgate.config.problem import Report, Severity
from dgate.config.settings import Configuration, load
from tests.config.kit import ENOUGH, about, configured, write

HEAD = "[sscscp]\nMyACRNema = T\n"


def loaded(folder: Path, lines: str) -> Configuration:
    """Load a configuration that has nothing but these lines and a title."""
    return load(write(folder, f"{HEAD}{lines}"))


def value(name: str, text: str) -> Value:
    return Value(REGISTRY[name], name, text, 7)


@pytest.mark.parametrize(
    ("lines", "engine", "server"),
    [
        ("SQLite = 1\nSQLServer = ./x.db3", Engine.SQLITE, "x.db3"),
        ("PostGres = 1\nSQLServer = pacs", Engine.POSTGRES, "pacs"),
        ("MySQL = 1\nSQLServer = pacs", Engine.MYSQL, "pacs"),
        ("MySQL = 1\nPostGres = 1\nSQLite = 1\nSQLServer = x", Engine.SQLITE, "x"),
        ("MySQL = 1\nPostGres = 1\nSQLServer = x", Engine.POSTGRES, "x"),
        ("SQLServer = .\\data\\dbase\\", Engine.SQLITE, "data/dbase/dgate.db3"),
        ("SQLServer =", Engine.NONE, ""),
        ("SQLite = 1\nSQLServer =", Engine.NONE, ""),
        ("SQLServer = conquest", Engine.NONE, ""),
    ],
)
def test_database_is_the_one_that_the_flags_name(
    tmp_path: Path, lines: str, engine: Engine, server: str
) -> None:
    settings = loaded(tmp_path, f"MAGDevice0 = ./data\n{lines}\n").settings

    assert settings.engine is engine
    is_file = engine is Engine.SQLITE
    assert settings.sql_server == (str(tmp_path / server) if is_file else server)


def test_data_source_of_odbc_is_an_error_and_dbase_a_warning(tmp_path: Path) -> None:
    odbc = about(loaded(tmp_path, "MAGDevice0 = .\nSQLServer = conquest\n"), "ODBC")
    dbase = about(loaded(tmp_path, "MAGDevice0 = .\nSQLServer = ./dbase/\n"), "meant dBase")

    assert (odbc.severity, dbase.severity) == (Severity.ERROR, Severity.WARNING)


@pytest.mark.parametrize("host", ["db:port", "db:70000"])
def test_database_host_has_to_be_one(tmp_path: Path, host: str) -> None:
    lines = f"MAGDevice0 = .\nPostGres = 1\nSQLServer = x\nSQLHost = {host}\n"
    found = [p for p in loaded(tmp_path, lines).problems if p.message.startswith("SQLHost: ")]
    assert [p.severity for p in found] == [Severity.ERROR]


@pytest.mark.parametrize(
    ("lines", "devices", "message"),
    [
        ("MAGDevices = 2\nMAGDevice0 = a\nMAGDevice1 = b", ["a", "b"], ""),
        ("MAGDevices = 1\nMAGDevice0 = a\nMAGDevice1 = b", ["a"], "MAGDevice1 is not used"),
        ("MAGDevices = 3\nMAGDevice0 = a\nMAGDevice2 = c", ["a"], "MAGDevice1 is not set"),
        ("MAGDevices = 2\nMAGDevice0 = a\nMAGDevice1 = ./a", ["a", "a"], "is the same folder"),
        ("MAGDevices = 1\nMAGDevice0 =", [], "MAGDevice0 is not set"),
    ],
)
def test_devices_end_at_the_first_that_is_missing(
    tmp_path: Path, lines: str, devices: list[str], message: str
) -> None:
    found = loaded(tmp_path, f"SQLite = 1\nSQLServer = x.db3\n{lines}\n")

    assert list(found.settings.mag_devices) == [tmp_path / name for name in devices]
    assert any(message in p.message for p in found.problems if "MAGDevice" in p.message) is bool(
        message
    )


def test_temporary_files_go_to_the_first_device(tmp_path: Path) -> None:
    assert configured(tmp_path).settings.temp_dir == tmp_path / "data" / "printer_files"
    elsewhere = configured(tmp_path, "TempDir = ./tmp").settings.temp_dir
    assert elsewhere == tmp_path / "tmp"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("ImageTableName = x; DROP", "cannot be the name of a table"),
        ("ImageTableName = 1x", "cannot be the name of a table"),
        (f"ImageTableName = {'x' * 64}", "cannot be the name of a table"),
        ("ImageTableName = dicomstudies", "is also StudyTableName"),
    ],
)
def test_table_names_are_names_and_differ(tmp_path: Path, lines: str, message: str) -> None:
    assert about(configured(tmp_path, lines), message).severity is Severity.ERROR


def test_startup_statements_lose_what_durability_decides(tmp_path: Path) -> None:
    line = "SQLiteStartup = PRAGMA cache_size = 5; pragma main.Synchronous=OFF ;PRAGMA mmap_size=0"
    found = configured(tmp_path, line)

    assert found.settings.sqlite_startup == "PRAGMA cache_size = 5; PRAGMA mmap_size=0"
    assert "synchronous in SQLiteStartup is ignored" in about(found, "Durability decides").message


@given(st.text("0123456789.", max_size=50))
def test_uid_prefix_always_begins_a_uid(text: str) -> None:
    report = Report("dicom.ini")
    found = _uid_prefix(value("UIDPrefix", text), report)

    parts = found.split(".")
    assert len(parts) >= 2
    assert all(part == str(int(part)) for part in parts)
    assert len(f"{found}.6.4000000000.999999999") <= 64
    assert found == text.strip(" .") or report.problems[0].severity is Severity.ERROR


@pytest.mark.parametrize(
    ("text", "expected", "problems"),
    [
        ("0", "0", 0),
        ("12", "12", 0),
        ("012", "12", 0),
        ("13", "0", 1),
        ("4 # by patient", "4", 1),
        ("", "0", 1),
        ("lua:x", "lua:x", 0),
        ("%id/%sopuid.dcm", "%id/%sopuid.dcm", 0),
        ("%id/%sopuid", "%id/%sopuid", 1),
        ("../%id.dcm", "4", 1),
        ("/etc/%id.dcm", "4", 1),
        ("\\\\host\\%id.dcm", "4", 1),
        ("a\\..\\%id.dcm", "4", 1),
    ],
)
def test_file_name_syntax_stays_below_the_device(text: str, expected: str, problems: int) -> None:
    report = Report("dicom.ini")
    default = REGISTRY["FileNameSyntax"].default
    wanted = default if expected == "4" and not text.startswith("4") else expected

    assert _file_name_syntax(value("FileNameSyntax", text), report) == wanted
    assert len(report.problems) == problems


@given(st.integers(-10, 0x20000))
def test_refused_object_is_never_answered_by_success_or_a_warning(status: int) -> None:
    report = Report("dicom.ini")
    found = _failure_status(value("StorageFailedErrorCode", str(status)), status, report)

    assert 0x0100 <= found <= 0xFFFF
    assert not 0xB000 <= found <= 0xBFFF
    assert (found == status) is not bool(report.problems)


@pytest.mark.parametrize(
    ("text", "expected", "advice"),
    [
        ("SERIES", "SERIES", ""),
        ("STUDYUID", "STUDY", ""),
        ("series", "GLOBAL", "write SERIES"),
        ("", "GLOBAL", "write one of"),
    ],
)
def test_association_level_counts_in_upper_case_only(text: str, expected: str, advice: str) -> None:
    report = Report("dicom.ini")
    assert _level(value("ForwardAssociationLevel", text), report) == expected
    assert [advice in each.advice for each in report.problems] == ([True] if advice else [])


def test_profile_is_the_section_that_was_read(tmp_path: Path) -> None:
    path = write(tmp_path, f"[sscscp]\nMicroPACS = night\n[night]\n{ENOUGH}")
    assert load(path).settings.profile == "night"
