from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.model import ConverterText, Filters
from dgate.config.problem import Severity
from dgate.config.settings import load
from tests.config.kit import ENOUGH, about, configured, write


def test_rules_come_by_family_and_number_with_their_lines(tmp_path: Path) -> None:
    lines = """ExportConverters = 3
ExportConverter2 = forward to B
ExportConverter0 = forward to A
ImportConverter10 = nop ten
ImportConverter9 = nop nine"""

    assert configured(tmp_path, lines).settings.converters == (
        ConverterText("Import", 9, "nop nine", where="dicom.ini:6"),
        ConverterText("Import", 10, "nop ten", where="dicom.ini:5"),
        ConverterText("Export", 0, "forward to A", where="dicom.ini:4"),
        ConverterText("Export", 2, "forward to B", where="dicom.ini:3"),
    )


def test_filters_belong_to_the_rule_of_their_number(tmp_path: Path) -> None:
    lines = """ExportConverters = 2
ExportConverter1 = forward to A
ExportModality1 = CT
ExportStationName1 = S*
ExportCallingAE1 =
ExportCalledAE1 = me
ExportFilter1 = QRows = 512"""

    (rule,) = configured(tmp_path, lines).settings.converters
    assert rule.filters == Filters("CT", "S*", "", "me", "QRows = 512")


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("ExportConverter0 = nop", "ExportConverter0 never runs, as ExportConverters = 0"),
        ("ExportConverters = 2\nExportConverter2 = nop", "ExportConverter2 never runs"),
        ("ImportConverters = 1\nImportConverter1 = nop", "ImportConverter1 never runs"),
        ("ExportConverter20 = nop", "ExportConverter20 is never used"),
        ("ImportConverter100 = nop", "ImportConverter100 is never used"),
        ("QueryConverter1 = nop", "QueryConverter1 is never used"),
    ],
)
def test_rule_that_never_runs_is_reported(tmp_path: Path, lines: str, text: str) -> None:
    configuration = configured(tmp_path, lines)

    assert configuration.settings.converters == ()
    assert about(configuration, text).severity is Severity.WARNING


def test_every_import_rule_runs_unless_their_number_is_given(tmp_path: Path) -> None:
    rule = "ImportConverter99 = nop"

    (free,) = configured(tmp_path, rule).settings.converters
    limited = configured(tmp_path, f"ImportConverters = 99\n{rule}")

    assert free.index == 99
    assert limited.settings.converters == ()
    assert about(limited, "ImportConverter99 never runs").advice == "write ImportConverters = 100"


def test_number_of_rules_to_write_is_advised(tmp_path: Path) -> None:
    configuration = configured(tmp_path, "ExportConverter4 = nop")

    assert about(configuration, "never runs").advice == "write ExportConverters = 5"


def test_filter_without_a_rule_is_noted(tmp_path: Path) -> None:
    configuration = configured(tmp_path, "ImportModality3 = CT\nImportCallingAE3 = *")

    assert about(configuration, "ImportModality3 has no effect").severity is Severity.INFO


def test_empty_rule_is_none(tmp_path: Path) -> None:
    assert configured(tmp_path, "ImportConverter0 =").settings.converters == ()


def test_lua_rule_replaces_the_text_rule_and_its_filters(tmp_path: Path) -> None:
    lines = "ImportConverter0 = nop\nImportModality0 = CT\n"
    lua = "[lua]\nimportconverter0 = Data.PatientID = 'x'\n"
    configuration = load(write(tmp_path, f"[sscscp]\n{lines}{ENOUGH}{lua}"))

    assert configuration.settings.converters == (
        ConverterText("Import", 0, "Data.PatientID = 'x'", lua=True, where="dicom.ini:9"),
    )
    assert about(configuration, "has one of the same name").line == 2


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ("startup = print(1)", None),
        ("association = reject()", None),
        ("association =", None),
        ("printserver = x", Severity.INFO),
        ("QueryConverter0 = destroy()", None),
        ("ImportConverter0 = x", None),
        ("ImportConverter100 = x", Severity.WARNING),
        ("startapp = x", Severity.WARNING),
    ],
)
def test_lua_event_without_effect_is_reported(
    tmp_path: Path, line: str, severity: Severity | None
) -> None:
    configuration = load(write(tmp_path, f"[sscscp]\n{ENOUGH}[lua]\n{line}\n"))

    found = [p.severity for p in configuration.problems]
    assert found == ([severity] if severity else [])


def test_named_scripts_are_found_in_any_letter_case(tmp_path: Path) -> None:
    text = "[scripts]\nAnon = set 0010,0010 to x\nanon = nop\nempty =\n"
    scripts = load(write(tmp_path, f"[sscscp]\n{ENOUGH}{text}")).settings.scripts

    assert scripts["ANON"] == "set 0010,0010 to x"
    assert scripts.get("empty") == ""
    assert "other" not in scripts
    assert len(scripts) == 2


@pytest.mark.parametrize("family", ["MoveDevice", "Archive"])
def test_lua_rule_that_needs_a_text_rule_beside_it_does_nothing_alone(
    tmp_path: Path, family: str
) -> None:
    """Spec converters.md section 3, notes."""
    lua = f"[lua]\n{family}Converter0 = Data.PatientID = 'x'\n"
    alone = load(write(tmp_path, f"[sscscp]\n{ENOUGH}{lua}"))
    text = f"{family}Converter0 = nop\n"
    both = load(write(tmp_path, f"[sscscp]\n{ENOUGH}{text}{lua}"))

    assert alone.settings.converters == ()
    [told] = [one for one in alone.problems if "alone" in one.message]
    assert told.severity is Severity.WARNING
    assert [(one.family, one.lua) for one in both.settings.converters] == [(family, True)]
