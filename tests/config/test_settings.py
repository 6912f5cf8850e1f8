from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from pathlib import Path

import pytest

from dgate.config.model import ConverterText
from dgate.config.problem import Severity
from dgate.config.settings import (
    Durability,
    Engine,
    MissingUids,
    Settings,
    V2Content,
    default_settings,
    load,
)
from dgate.errors import ConfigError
from tests.config.kit import ENOUGH, about, configured, write
from tests.pace import least_processor_s


def has_type(value: object, expected: object) -> bool:
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return any(has_type(value, option) for option in typing.get_args(expected))
    if origin is tuple:
        element = typing.get_args(expected)[0]
        return isinstance(value, tuple) and all(has_type(item, element) for item in value)
    if origin is frozenset:
        return isinstance(value, frozenset)
    if origin is Mapping:
        return isinstance(value, Mapping)
    if expected is float:
        return isinstance(value, float)
    assert isinstance(expected, type)
    return isinstance(value, expected) and (expected is bool or not isinstance(value, bool))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Settings)])
def test_field_has_the_type_that_it_declares(tmp_path: Path, field: str) -> None:
    hints = typing.get_type_hints(Settings)
    lines = "RetryDelay = 7\nImportConverter0 = nop\nAllowTruncate = a,b\n"
    for settings in (default_settings(tmp_path), configured(tmp_path, lines).settings):
        assert has_type(getattr(settings, field), hints[field])


def test_defaults_are_those_of_the_reference(tmp_path: Path) -> None:
    settings = default_settings(tmp_path)

    assert (settings.ae_title, settings.tcp_port, settings.tcpip_timeout_s) == ("none", 104, 300)
    assert (settings.engine, settings.file_name_syntax) == (Engine.NONE, "4")
    assert (settings.durability, settings.pdu_size) == (Durability.FULL, 131072)
    assert (settings.retry_delay_s, settings.fail_hold_off_s) == (None, None)
    assert settings.storage_failed_error_code == 0x0110


def test_changes_can_be_made_to_the_defaults(tmp_path: Path) -> None:
    settings = default_settings(tmp_path, ae_title="OTHER", tcp_port=0)

    assert (settings.ae_title, settings.tcp_port, settings.pacs_name) == ("OTHER", 0, "sscscp")


def test_password_is_not_part_of_the_representation(tmp_path: Path) -> None:
    assert "geheim" not in repr(configured(tmp_path, "Password = geheim"))


def test_configuration_is_found_by_its_folder_and_by_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, f"[sscscp]\n{ENOUGH}")
    other = path.rename(tmp_path / "site.ini")
    path.write_text("[sscscp]\n" + ENOUGH.replace("TEST", "FOLDER"))

    assert load(tmp_path).settings.ae_title == "FOLDER"
    assert load(other).settings.ae_title == "TEST"
    assert load(other).settings.ini_path == other


@pytest.mark.parametrize("name", ["", "missing.ini", "missing/dicom.ini"])
def test_missing_ini_file_is_an_exception_with_a_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="dgate init"):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("TCPPort = 5678", "tcp_port", 5678),
        ("TCPPort = acr-nema", "tcp_port", 104),
        ("TCPPort = 0", "tcp_port", 0),
        ("PDUSize = 16384", "pdu_size", 16384),
        ("SendUpperCaseAE = 2", "send_upper_case_ae", True),
        ("FixKodak = -1", "fix_kodak", True),
        ("FixKodak = 0", "fix_kodak", False),
        ("MaxFileNameLength =  +100", "max_file_name_length", 100),
        ("TCP/IPTimeOut = 30", "tcpip_timeout_s", 30),
        ("MAGDeviceFullThreshHold = 99", "mag_device_full_threshold_mb", 99),
        ("ignoremagdevicethreshold = 1", "ignore_mag_device_threshold", True),
        ("Durability = Index", "durability", Durability.INDEX),
        ("MissingUIDs = reject", "missing_uids", MissingUids.REJECT),
        ("V2Content = raw", "v2_content", V2Content.RAW),
        ("StatusCodes = classic", "classic_status_codes", True),
        ("UnknownSOPClasses = accept", "accept_unknown_sop_classes", True),
        ("ScriptErrors = ignore", "script_errors_reject", False),
        ("RetryFirst = 0.1", "retry_first_s", 0.1),
        ("RetryDelay = 100", "retry_delay_s", 100.0),
        ("FailHoldOff = 0", "fail_hold_off_s", 0.0),
        ("IncomingCompression = J2", "incoming_compression", "j2"),
        ("AllowTruncate = PatientNam,StudyDescr", "allow_truncate", {"PatientNam", "StudyDescr"}),
        ("FileNameSyntax = %id/%sopuid.dcm", "file_name_syntax", "%id/%sopuid.dcm"),
        ("ForwardAssociationLevel = IMAGE", "forward_association_level", "IMAGE"),
        ("SQLHost =", "sql_host", "localhost"),
        ("QueriesReturnISO_IR = 100", "queries_return_iso_ir", 100),
    ],
)
def test_setting_is_read(tmp_path: Path, line: str, field: str, value: object) -> None:
    assert getattr(configured(tmp_path, line).settings, field) == value


@pytest.mark.parametrize(
    ("line", "field", "value", "severity"),
    [
        ("TCPPort = 5678 # DICOM", "tcp_port", 5678, Severity.WARNING),
        ("TCPPort = nosuchservice", "tcp_port", 104, Severity.ERROR),
        ("TCPPort = 70000", "tcp_port", 104, Severity.ERROR),
        ("EnableComputedFields = yes", "enable_computed_fields", False, Severity.WARNING),
        ("FixKodak = off", "fix_kodak", False, Severity.WARNING),
        ("MaxAssociations = 5x", "max_associations", 5, Severity.WARNING),
        ("MaxAssociations = 0", "max_associations", 100, Severity.WARNING),
        ("TCPIPTimeOut =", "tcpip_timeout_s", 300, Severity.WARNING),
        ("ImportExportDragAndDrop =", "import_export_drag_and_drop", False, Severity.WARNING),
        ("PACSName =", "pacs_name", "", Severity.WARNING),
        ("RetryMax = 5 min", "retry_max_s", 5.0, Severity.WARNING),
        ("RetryDelay = -5", "retry_delay_s", 0.0, Severity.WARNING),
        ("Durability = fulll", "durability", Durability.FULL, Severity.ERROR),
        ("MyACRNema = ATITLEOFMORETHAN16", "ae_title", "ATITLEOFMORETHAN", Severity.ERROR),
        ("MyACRNema = A\\B", "ae_title", "none", Severity.ERROR),
        ("IncomingCompression = qq", "incoming_compression", "qq", Severity.WARNING),
        ("StorageFailedErrorCode = 0", "storage_failed_error_code", 272, Severity.ERROR),
        ("StorageFailedErrorCode = 45056", "storage_failed_error_code", 272, Severity.ERROR),
        ("UIDPrefix = 99999.99999", "uid_prefix", "99999.99999", Severity.WARNING),
        ("UIDPrefix = a.b", "uid_prefix", "1.2.826.0.1.3680043.2.135.1066", Severity.ERROR),
        ("FileNameSyntax = 13", "file_name_syntax", "0", Severity.WARNING),
        ("FileNameSyntax = 8 x", "file_name_syntax", "8", Severity.WARNING),
        ("FileNameSyntax = %id/%sopuid", "file_name_syntax", "%id/%sopuid", Severity.WARNING),
        ("FileNameSyntax = ../%sopuid.dcm", "file_name_syntax", "4", Severity.ERROR),
        ("FileNameSyntax = /etc/%sopuid.dcm", "file_name_syntax", "4", Severity.ERROR),
        (
            "ForwardAssociationLevel = series",
            "forward_association_level",
            "GLOBAL",
            Severity.WARNING,
        ),
        ("StudyTableName = a;b", "study_table", "a;b", Severity.ERROR),
        ("StudyTableName = DICOMPatients", "study_table", "DICOMPatients", Severity.ERROR),
    ],
)
def test_odd_value_is_read_and_reported_with_its_line(
    tmp_path: Path, line: str, field: str, value: object, severity: Severity
) -> None:
    configuration = configured(tmp_path, line)

    assert getattr(configuration.settings, field) == value
    found = [p for p in configuration.problems if p.line == 2]
    assert found
    assert found[-1].severity is severity
    assert found[-1].advice
    assert line.split(" ")[0] in found[-1].message


def test_yes_gets_the_advice_to_write_1(tmp_path: Path) -> None:
    configuration = configured(tmp_path, "EnableComputedFields = yes")

    assert about(configuration, "yes").advice == "write EnableComputedFields = 1"


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ("MAGDeviceFullThreshold = 5\nMAGDeviceFullThreshHold = 9", 5),
        ("MAGDeviceFullThreshHold = 9\nMAGDeviceFullThreshold = 5", 5),
    ],
)
def test_proper_spelling_wins_over_the_alias_and_the_difference_is_reported(
    tmp_path: Path, lines: str, value: int
) -> None:
    configuration = configured(tmp_path, lines)

    assert configuration.settings.mag_device_full_threshold_mb == value
    assert about(configuration, "another value").severity is Severity.WARNING


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("TCPPrt = 1", "did you mean TCPPort?"),
        ("ExportConvertor0 = nop", "did you mean ExportConverter0?"),
        ("Zzzz = 1", "check the spelling"),
    ],
)
def test_unknown_key_is_reported_once_with_a_suggestion(
    tmp_path: Path, key: str, advice: str
) -> None:
    configuration = configured(tmp_path, f"{key}\n{key}")

    problem = about(configuration, "is not a known setting")
    assert (problem.line, problem.severity) == (2, Severity.WARNING)
    assert advice in problem.advice


def test_prose_without_comment_sign_is_reported(tmp_path: Path) -> None:
    problem = about(configured(tmp_path, "this is prose"), "neither a comment")

    assert problem.line == 2


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ("QueueSize = 9", Severity.INFO),
        ("IndexDBF = 1", Severity.INFO),
        ("Trouble.UDPPort = 1", Severity.INFO),
        ("moodle_password = geheim", Severity.INFO),
        ("ArchiveConverter0 = nop", Severity.WARNING),
        ("ForwardCollectDelay = 60", None),
        ("LossyQuality = 60", Severity.WARNING),
        ("QueryConverter0 = nop", None),
        ("QueryModality0 = *", None),
    ],
)
def test_key_without_effect_is_reported_once(
    tmp_path: Path, line: str, severity: Severity | None
) -> None:
    configuration = configured(tmp_path, line)

    found = [p for p in configuration.problems if "no effect" in p.message]
    assert [(p.severity, p.line) for p in found] == ([(severity, 2)] if severity else [])
    assert "geheim" not in str(found)


@pytest.mark.parametrize(
    ("lines", "engine", "server"),
    [
        ("SQLite = 1\nSQLServer = ./x/y.db3", Engine.SQLITE, "{folder}/x/y.db3"),
        ("SQLite = 1\nSQLServer = x\\y.db3", Engine.SQLITE, "{folder}/x/y.db3"),
        ("PostGres = 1\nSQLServer = conquest", Engine.POSTGRES, "conquest"),
        ("MySQL = 1\nSQLServer = conquest", Engine.MYSQL, "conquest"),
        ("MySQL = 1\nPostGres = 1\nSQLServer = conquest", Engine.POSTGRES, "conquest"),
        ("MySQL = 1\nSQLite = 1\nSQLServer = a.db3", Engine.SQLITE, "{folder}/a.db3"),
        ("SQLServer =", Engine.NONE, ""),
        ("SQLite = 1\nSQLServer =", Engine.NONE, ""),
        ("SQLServer = ./data/dbase", Engine.SQLITE, "{folder}/data/dbase/dgate.db3"),
        ("SQLServer = odbcname", Engine.NONE, ""),
    ],
)
def test_database_is_chosen(tmp_path: Path, lines: str, engine: Engine, server: str) -> None:
    settings = load(write(tmp_path, f"[sscscp]\nMAGDevice0 = ./data/\n{lines}\n")).settings

    assert (settings.engine, settings.sql_server) == (engine, server.format(folder=tmp_path))


@pytest.mark.parametrize(
    ("lines", "severity", "text"),
    [
        ("SQLServer = odbcname", Severity.ERROR, "ODBC"),
        ("SQLServer = ./data/dbase", Severity.WARNING, "dBase"),
        ("SQLite = 1\nSQLServer =", Severity.WARNING, "no index is kept"),
        ("SQLite = 1\nMySQL = 1\nSQLServer = x", Severity.WARNING, "MySQL = 1 is ignored"),
    ],
)
def test_odd_database_is_reported(
    tmp_path: Path, lines: str, severity: Severity, text: str
) -> None:
    configuration = load(write(tmp_path, f"[sscscp]\nMAGDevice0 = ./data/\n{lines}\n"))

    assert about(configuration, text).severity is severity


def test_pragmas_that_durability_decides_are_left_out(tmp_path: Path) -> None:
    line = (
        "SQLiteStartup = PRAGMA synchronous = OFF; PRAGMA cache_size=-9; pragma main.journal_mode=x"
    )
    configuration = configured(tmp_path, line)

    assert configuration.settings.sqlite_startup == "PRAGMA cache_size=-9"
    assert len([p for p in configuration.problems if "Durability decides" in p.message]) == 2


@pytest.mark.parametrize(
    ("lines", "devices", "severity"),
    [
        ("MAGDevice0 = ./a/", ["a"], None),
        ("MAGDevices = 2\nMAGDevice0 = a\nMAGDevice1 = .\\b\\", ["a", "b"], None),
        ("MAGDevices = 2\nMAGDevice0 = a", ["a"], Severity.ERROR),
        ("MAGDevice0 = a\nMAGDevice1 = b", ["a"], Severity.WARNING),
        ("MAGDevices = 2\nMAGDevice0 = a\nMAGDevice1 = ./a/", ["a", "a"], Severity.ERROR),
        ("MAGDevices = 2\nMAGDevice1 = b", [], Severity.ERROR),
        ("", [], Severity.ERROR),
    ],
)
def test_devices_are_listed_in_order(
    tmp_path: Path, lines: str, devices: list[str], severity: Severity | None
) -> None:
    ini = f"[sscscp]\nSQLite = 1\nSQLServer = x.db3\n{lines}\n"
    configuration = load(write(tmp_path, ini))

    assert configuration.settings.mag_devices == tuple(tmp_path / name for name in devices)
    found = {p.severity for p in configuration.problems if "MAGDevice" in p.message}
    assert found >= {severity} if severity else not found


def test_router_without_database_and_devices_is_no_error(tmp_path: Path) -> None:
    configuration = load(write(tmp_path, "[sscscp]\nMyACRNema = ROUTER\n"))

    assert configuration.settings.engine is Engine.NONE
    assert {p.severity for p in configuration.problems} == {Severity.WARNING}


def test_relative_path_is_taken_from_the_folder_of_the_ini_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "data").mkdir(parents=True)
    (there / "data").mkdir(parents=True)
    monkeypatch.chdir(there)

    assert configured(here).settings.mag_devices == (here / "data",)


def test_relative_path_that_is_only_in_the_current_folder_is_taken_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (there / "data").mkdir(parents=True)
    monkeypatch.chdir(there)

    configuration = configured(here)
    assert configuration.settings.mag_devices == (there / "data",)
    assert about(configuration, "is taken from").severity is Severity.INFO


def test_windows_path_is_reported(tmp_path: Path) -> None:
    configuration = configured(tmp_path, "UserLog = C:\\dicom\\user.log")

    assert about(configuration, "Windows path").severity is Severity.WARNING


def test_scratch_files_lie_on_the_first_device_unless_told_otherwise(tmp_path: Path) -> None:
    assert configured(tmp_path).settings.temp_dir == tmp_path / "data" / "printer_files"
    assert configured(tmp_path, "TempDir = /scratch").settings.temp_dir == Path("/scratch")


@pytest.mark.parametrize(
    ("key", "severity"),
    [
        ("ACRNemaMap", Severity.ERROR),
        ("kFactorFile", Severity.ERROR),
        ("SOPClassList", Severity.WARNING),
    ],
)
def test_missing_file_is_reported_with_the_line_that_names_it(
    tmp_path: Path, key: str, severity: Severity
) -> None:
    configuration = configured(tmp_path, f"{key} = nowhere.txt")

    problem = about(configuration, "nowhere.txt cannot be read")
    assert (problem.severity, problem.line) == (severity, 2)


def test_missing_list_accepts_everything(tmp_path: Path) -> None:
    sop_list = configured(tmp_path, "SOPClassList = nowhere.lst").sop_list

    assert sop_list.abstract is None


def test_problems_of_the_other_files_are_collected(tmp_path: Path) -> None:
    configuration = configured(tmp_path, map="AE1 host\n", lst="x 1.2.3\n", sql="stray")

    assert {Path(p.path).name for p in configuration.problems} == {
        "acrnema.map",
        "dgatesop.lst",
        "dicom.sql",
    }


def test_truncation_and_bound_reach_the_layout(tmp_path: Path) -> None:
    image = configured(tmp_path, "TruncateFieldNames = 0\nMaxFieldLength = 32").layout.image

    assert (image.key.name, image.key.length) == ("SOPInstanceUID", 32)


def test_truncation_that_makes_names_clash_is_an_error(tmp_path: Path) -> None:
    configuration = configured(tmp_path, "TruncateFieldNames = 4")

    assert Severity.ERROR in {p.severity for p in configuration.problems}


def test_two_thousand_lines_load_in_a_fifth_of_a_second(tmp_path: Path) -> None:
    lines = ["# a comment"] * 800
    lines += [f"ImportConverter{n} = set 0010,0010 to x; nop" for n in range(99)]
    lines += [f"ImportModality{n} = CT" for n in range(99)]
    lines += [f"Unknown{n}Key = {n}" for n in range(500)]
    lines += [f"WorkListMode = {n}" for n in range(500)]
    path = write(tmp_path, "[sscscp]\n" + ENOUGH + "\n".join(lines))
    assert len(path.read_text().splitlines()) > 2000

    assert least_processor_s(lambda: load(path), 0.2) < 0.2
    assert len(load(path).settings.converters) == 99


def test_enums_and_records_are_frozen(tmp_path: Path) -> None:
    settings = default_settings(tmp_path)

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.ae_title = "OTHER"  # type: ignore[misc]
    assert isinstance(settings.engine, enum.Enum)
    assert ConverterText("Import", 0, "nop").filters.modality == "*"
