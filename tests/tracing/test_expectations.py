"""Unit tests for rules: what passes, what fails and why, and what is not written as tests are."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dgate.cli.main import cli
from dgate.errors import ConfigError
from dgate.tracing.expectations import Verdict, read_tests, run_test
from tests.tracing.kit import configuration, opened

RULES = (
    'ImportModality0 = CT\nImportConverter0 = set InstitutionName to "Site"; delete 0010,1040; '
    "storage MAG0\n"
    "ImportCallingAE1 = BAD*\nImportConverter1 = nop x; reject\n"
    "ExportConverters = 1\nExportConverter0 = forward to ARCHIVE"
)


def verdicts(folder: Path, text: str) -> list[Verdict]:
    """Run the tests of a text under RULES."""
    path = folder / "rules.toml"
    path.write_text(text)
    with opened(folder, RULES) as trace:
        return [run_test(trace.tracer, test, "GATE") for test in read_tests(path)]


def faults(folder: Path, expect: str, tags: str = 'Modality = "CT"', calling: str = "CT1") -> str:
    """Return the faults of one test as text."""
    (verdict,) = verdicts(
        folder,
        f'[[test]]\n[test.tags]\n{tags}\n[test.association]\ncalling = "{calling}"\n'
        f"[test.expect]\n{expect}\n",
    )
    return "; ".join(verdict.faults)


PASSING = """
outcome = "keep"
device = "MAG0"
destinations = ["ARCHIVE"]
fires = ["ImportConverter0", "ExportConverter0"]
silent = ["ImportConverter1"]
changes = ["InstitutionName", "PatientAddress"]
removed = ["0010,1040"]
unchanged = ["PatientID"]
[test.expect.values]
InstitutionName = "Site"
PatientID = "TEST"
"""
TAGS = 'Modality = "CT"\nPatientAddress = "Elm Street"'


def test_everything_as_expected(tmp_path: Path) -> None:
    assert faults(tmp_path, PASSING, TAGS) == ""


@pytest.mark.parametrize(
    ("expect", "fault"),
    [
        ('outcome = "destroy"', "the outcome is keep, not destroy"),
        ('device = "MAG1"', "the device is MAG0, not MAG1"),
        ("destinations = []", "it is also sent to ARCHIVE by ExportConverter0.0"),
        ('destinations = ["ARCHIVE", "OTHER"]', "nothing is sent to target OTHER"),
        (
            'destinations = [{target = "ARCHIVE", called = "X"}]',
            "nothing is sent to target ARCHIVE, called X; it is also sent to ARCHIVE",
        ),
        ('fires = ["ImportConverter1"]', "ImportConverter1 does not run: ImportCallingAE1 = BAD*"),
        ('fires = ["ImportConverter7"]', "there is no such rule"),
        ('silent = ["ImportConverter0"]', "ImportConverter0 runs"),
        ('changes = ["PatientName"]', "InstitutionName is changed, which is not expected"),
        ('changes = ["PatientName"]', "(0010,0010) is not changed"),
        ('removed = ["InstitutionName"]', "InstitutionName is still there: 'Site'"),
        ('unchanged = ["InstitutionName"]', "InstitutionName is changed: '' -> 'Site'"),
        ('values = {InstitutionName = "Other"}', "InstitutionName is 'Site', not 'Other'"),
        ('reason = "because"', "the reason is '', without 'because'"),
    ],
)
def test_each_expectation_can_fail(tmp_path: Path, expect: str, fault: str) -> None:
    assert fault in faults(tmp_path, expect)


def test_refusal_is_expected_with_its_reason(tmp_path: Path) -> None:
    expect = 'outcome = "reject"\nreason = "ImportConverter1.1"\ndestinations = []'
    assert faults(tmp_path, expect, calling="BAD1") == ""


def test_object_of_a_file_with_changes(tmp_path: Path) -> None:
    import pydicom.data

    path = pydicom.data.get_testdata_file("CT_small.dcm")
    (verdict,) = verdicts(
        tmp_path,
        f'[[test]]\nname = "file"\nobject = "{path}"\n[test.tags]\nPatientID = "P"\n'
        '[test.expect]\nchanges = ["InstitutionName"]\nvalues = {PatientID = "P"}\n',
    )
    assert verdict.faults == ()


def test_object_that_is_missing_fails_its_test_only(tmp_path: Path) -> None:
    first, second = verdicts(
        tmp_path,
        '[[test]]\nobject = "none.dcm"\n[test.expect]\noutcome = "keep"\n'
        '[[test]]\n[test.tags]\nModality = "CT"\n[test.expect]\noutcome = "keep"\n',
    )
    assert "No such file" in first.faults[0]
    assert second.faults == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begin with [[test]]"),
        ("[[tset]]", "has tset"),
        ("test = 1", "begin with [[test]]"),
        ("[[test]\n", "is not TOML"),
        ("test = [1]", "a test is a table"),
        ("[[test]]\nexpects = 1", "expects is not known"),
        ('[[test]]\nobject = "a"', "nothing is expected"),
        ('[[test]]\n[test.expect]\noutcome = "keep"', "there is no object"),
        ('[[test]]\nobject = "a"\n[test.expect]\noutcome = "kept"', "outcome is none of"),
        ('[[test]]\nobject = "a"\n[test.expect]\nfires = "x"', "fires is not a list"),
        (
            '[[test]]\nobject = "a"\n[test.expect]\nremoved = ["Nonsense"]',
            "'Nonsense' is no element",
        ),
        ('[[test]]\n[test.tags]\nNonsense = 1\n[test.expect]\ndevice = ""', "'Nonsense' is no el"),
        (
            '[[test]]\nobject = "a"\n[test.association]\npeer = 1\n[test.expect]\ndevice = ""',
            "peer is",
        ),
        ('[[test]]\nobject = "a"\n[test.expect]\ndestinations = [{to = "a"}]', "to is not known"),
        ('[[test]]\nobject = "a"\n[test.expect]\nvalues = 1', "values is not a table"),
        ('[[test]]\nobject = "a"\n[test.expect]\ndevice = 1', "device is not a text"),
        ('[[test]]\nobject = "a"\ntags = 1\n[test.expect]\ndevice = ""', "tags is not a table"),
    ],
)
def test_what_is_not_written_as_tests_are(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_tests(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_command_says_what_failed(tmp_path: Path) -> None:
    configuration(tmp_path, RULES)
    path = tmp_path / "rules.toml"
    path.write_text(
        '[[test]]\nname = "good"\n[test.tags]\nModality = "CT"\n[test.expect]\ndevice = "MAG0"\n'
        '[[test]]\nname = "bad"\n[test.tags]\nModality = "CT"\n[test.expect]\ndevice = "MAG1"\n'
    )
    result = CliRunner().invoke(cli, ["test", "-c", str(tmp_path), str(path), "-v"])
    assert result.exit_code == 1
    assert "passed: good\nFAILED: bad\n  the device is MAG0, not MAG1\n" in result.output
    assert "ImportConverter0 (dicom.ini:8): runs" in result.output
    assert "1 of 2 test(s) passed." in result.output
    result = CliRunner().invoke(cli, ["test", "-c", str(tmp_path), str(path), "--json"])
    assert '"passed": false' in result.output
