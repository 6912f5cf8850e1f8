"""Which section counts: spec dicom-ini.md section 1.3."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.problem import Severity
from dgate.config.settings import load
from tests.config.kit import ENOUGH, about, configured, write


@pytest.mark.parametrize(
    ("ini", "title"),
    [
        ("[sscscp]\nMyACRNema = A\n", "A"),
        ("[SSCSCP]\nMicroPACS = sscscp\nMyACRNema = A\n", "A"),
        ("[sscscp]\nMicroPACS = site2\nMyACRNema = A\n[Site2]\nMyACRNema = B\n", "B"),
        ("[sscscp]\nMyACRNema = A\n[lua]\n[sscscp]\nPACSName = x\n", "A"),
    ],
    ids=["plain", "names itself", "profile", "reopened"],
)
def test_selected_section_counts_without_a_warning(tmp_path: Path, ini: str, title: str) -> None:
    configuration = load(write(tmp_path, ini))

    assert configuration.settings.ae_title == title
    assert not [
        p
        for p in configuration.problems
        if "section" in p.message and p.severity is not Severity.INFO
    ]


@pytest.mark.parametrize(
    ("ini", "title", "line"),
    [
        ("# x\n[sscp]\nMicroPACS = sscscp\nMyACRNema = A\n[other]\nx = 1\n", "A", 2),
        ("[sscp]\nMicroPACS = site\n[site]\nMyACRNema = B\n", "B", 1),
        ("# x\n\n[only]\nMyACRNema = A\n", "A", 3),
        ("MyACRNema = A\n", "A", 1),
    ],
    ids=["holds MicroPACS", "MicroPACS leads on", "only section", "no header"],
)
def test_wrong_header_is_tolerated_with_a_warning(
    tmp_path: Path, ini: str, title: str, line: int
) -> None:
    configuration = load(write(tmp_path, ini))

    assert configuration.settings.ae_title == title
    problem = next(p for p in configuration.problems if "[sscscp]" in p.message + p.advice)
    assert (problem.severity, problem.line) == (Severity.WARNING, line)
    assert problem.advice == "write [sscscp] in the first line" or "instead of" in problem.advice


@pytest.mark.parametrize(
    ("ini", "text", "advice"),
    [
        ("[sscp]\nMyACRNema = A\n[other]\n", "[sscp], [other]", "did you mean [sscscp] by [sscp]?"),
        ("[a]\nMicroPACS = x\n[b]\nMicroPACS = y\n", "[a], [b]", "add a section [sscscp]"),
        ("[sscscp]\nMicroPACS =\n", "MicroPACS is empty", "MicroPACS = sscscp"),
        ("[sscscp]\nMicroPACS = site2\n", "selects section [site2]", "add the section"),
    ],
    ids=["no section fits", "two hold MicroPACS", "empty", "profile is missing"],
)
def test_section_that_cannot_be_told_is_an_error_naming_what_there_is(
    tmp_path: Path, ini: str, text: str, advice: str
) -> None:
    problem = about(load(write(tmp_path, ini)), text)

    assert problem.severity is Severity.ERROR
    assert advice in problem.advice


def test_lines_above_the_first_header_are_reported(tmp_path: Path) -> None:
    configuration = load(write(tmp_path, f"# x\nTCPPort = 1\nQueueSize = 2\n[sscscp]\n{ENOUGH}"))

    problem = about(configuration, "above the first section header")
    assert problem.message.startswith("lines 2 to 3 stand")
    assert problem.line == 2
    assert configuration.settings.tcp_port == 104


@pytest.mark.parametrize(
    ("section", "severity", "text"),
    [
        ("[webdefaults]\nport = 1\nsize = 2\n", Severity.INFO, "[webdefaults] has no effect"),
        ("[mypage]\nsource = x.lua\n", Severity.INFO, "[mypage] has no effect"),
        ("[site2]\nMyACRNema = B\nTCPPort = 1\n", Severity.INFO, "profile that is not selected"),
        ("[script]\na = nop\n", Severity.WARNING, "[script] is not known"),
        ("[node CT1]\nTLS = 1\n", Severity.WARNING, "[node CT1] names a node"),
        ("[node]\nTLS = 1\n", Severity.WARNING, "[node] names no node"),
        ("[node CT*]\nWindow = 1:00-2:00\n", Severity.WARNING, "[node CT*] names a node"),
    ],
)
def test_other_section_is_reported_once(
    tmp_path: Path, section: str, severity: Severity, text: str
) -> None:
    configuration = load(write(tmp_path, f"[sscscp]\n{ENOUGH}\n{section}"))

    assert [p.severity for p in configuration.problems if "section [" in p.message] == [severity]
    assert about(configuration, text).advice


def test_misspelt_section_gets_a_suggestion(tmp_path: Path) -> None:
    configuration = load(write(tmp_path, f"[sscscp]\n{ENOUGH}\n[script]\na = nop\n"))

    assert about(configuration, "[script]").advice == "did you mean [scripts]?"


def test_scripts_and_lua_sections_are_at_home(tmp_path: Path) -> None:
    text = "\n[scripts]\nA = nop\n[lua]\nassociation = package.path = 'x'\n"
    configuration = load(write(tmp_path, f"[sscscp]\n{ENOUGH}{text}"))

    assert configuration.problems == ()


def test_empty_file_is_loaded_with_defaults_and_errors(tmp_path: Path) -> None:
    configuration = load(write(tmp_path, ""))

    assert configuration.settings.ae_title == "none"
    assert configured(tmp_path).settings.ae_title == "TEST"
