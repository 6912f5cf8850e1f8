"""Mirrors, thresholds, nightly work and old volumes as dicom.ini names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.check import check
from dgate.config.settings import Configuration, load

BASE = "[sscscp]\nMicroPACS = sscscp\nMyACRNema = GATE\nSQLite = 1\nSQLServer = ./index.db3\n"
ONE = "MAGDevice0 = ./data\n"
TWO = "MAGDevices = 2\nMAGDevice0 = ./data\nMAGDevice1 = ./more\n"


def loaded(folder: Path, lines: str, devices: str = ONE) -> Configuration:
    (folder / "dicom.ini").write_text(BASE + devices + lines)
    return load(folder)


def messages(configuration: Configuration) -> str:
    return "\n".join(
        f"{problem.severity.value} {problem.message}"
        for problem in configuration.problems
        if problem.path.endswith("dicom.ini")
    )


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("MAGDeviceThreshold = 500", "mag_device_threshold_mb", 500),
        ("MAGDeviceThreshHold = 500", "mag_device_threshold_mb", 500),
        ("MAGDeviceFullThreshHold = 77", "mag_device_full_threshold_mb", 77),
        ("IgnoreMAGDeviceThreshHold = 1", "ignore_mag_device_threshold", True),
        ("NightlyCleanThreshold = 900", "nightly_clean_threshold_mb", 900),
        ("NightlyCleanThreshhold = 900", "nightly_clean_threshold_mb", 900),
        ("LRUSort = StudyDate", "lru_sort", "StudyDate"),
        ("ArchiveCompression = UL", "archive_compression", "ul"),
    ],
)
def test_each_key_reaches_its_setting(tmp_path: Path, line: str, field: str, value: object) -> None:
    configuration = loaded(tmp_path, line)

    assert getattr(configuration.settings, field) == value
    assert "no effect" not in messages(configuration)


def test_everything_is_off_by_default(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "").settings

    assert settings.mag_device_threshold_mb == settings.nightly_clean_threshold_mb == 0
    assert settings.nightly_move_threshold_mb == 0
    assert settings.mirror_devices == settings.jukebox_devices == settings.cache_devices == ()
    assert (settings.nightly_move_target, settings.nightly_move_minute) == ("", 120)


def test_of_two_spellings_the_proper_one_counts_and_a_difference_is_said(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, "MAGDeviceThreshHold = 100\nMAGDeviceThreshold = 200\n")

    assert configuration.settings.mag_device_threshold_mb == 200
    assert "another spelling of MAGDeviceThreshold with another value" in messages(configuration)


def test_mirrors_are_numbered_like_their_devices(tmp_path: Path) -> None:
    lines = "MIRRORDevices = 2\nMIRRORDevice0 = ./copy0\nMIRRORDevice1 = /srv/copy1\n"

    settings = loaded(tmp_path, lines, TWO).settings

    assert settings.mirror_devices == (tmp_path / "copy0", Path("/srv/copy1"))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("MIRRORDevice0 = ./copy", "MIRRORDevice0 is not used, as MIRRORDevices = 0"),
        ("MIRRORDevices = 1", "error MIRRORDevice0 is not set"),
        ("MIRRORDevices = 1\nMIRRORDevice0 = ./data", "same folder as MAGDevice0"),
        (
            "MIRRORDevices = 2\nMIRRORDevice0 = ./c\nMIRRORDevice1 = ./d",
            "mirrors nothing, as there is no MAGDevice1",
        ),
        ("NightlyMoveThreshold = 9\nNightlyMoveTarget = MAG0", "not a device to which"),
        ("NightlyMoveThreshold = 9\nNightlyMoveTarget = MAG7", "not a device to which"),
        ("NightlyMoveThreshold = 9\nNightlyMoveTarget = somewhere", "not a device to which"),
        ("NightlyMoveThreshold = 9", "not a device to which"),
        ("NightlyStrTimeToMove = 25:00", "no time of day"),
        ("NightlyStrTimeToMove = soon", "no time of day"),
        ("JUKEBOXDevice0 = /mnt/cd", "does not have 1 %d for the"),
        ("CACHEDevice0 = /mnt/%d", "does not have 2 %d for the"),
        ("MAGDeviceThreshold = -5", "out of range"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path: Path, lines: str, words: str) -> None:
    assert words in messages(loaded(tmp_path, lines))


@pytest.mark.parametrize("target", ["MAG1", "mag1", "1"])
def test_the_target_of_the_nightly_move_is_a_device(tmp_path: Path, target: str) -> None:
    lines = f"NightlyMoveThreshhold = 500\nNightlyMoveTarget = {target}\n"

    settings = loaded(tmp_path, lines, TWO).settings

    assert (settings.nightly_move_threshold_mb, settings.nightly_move_target) == (500, "MAG1")


@pytest.mark.parametrize(
    ("text", "minute"), [("04:30", 270), ("4:30:00", 270), ("05:", 300), ("23", 1380), ("0", 120)]
)
def test_the_time_of_the_nightly_move(tmp_path: Path, text: str, minute: int) -> None:
    settings = loaded(tmp_path, f"NightlyStrTimeToMove = {text}\n").settings

    assert settings.nightly_move_minute == minute


def test_a_mirror_of_minus_one_is_off_as_before(tmp_path: Path) -> None:
    configuration = loaded(tmp_path, "MIRRORDevices = 1\nMIRRORDevice0 = -1\n")

    assert configuration.settings.mirror_devices == ()


def test_old_volumes_keep_their_templates(tmp_path: Path) -> None:
    lines = "JUKEBOXDevice0 = /mnt/cd%d\nCACHEDevice0 = cache/%d/%02d\n"

    settings = loaded(tmp_path, lines).settings

    assert settings.jukebox_devices == ((0, "/mnt/cd%d"),)
    assert settings.cache_devices == ((0, str(tmp_path / "cache/%d/%02d")),)


@pytest.mark.parametrize("line", ["CACHEDevices = 1", "JUKEBOXDevices = 2"])
def test_archiving_to_cd_has_no_effect_and_says_why(tmp_path: Path, line: str) -> None:
    assert "no effect: there is no archiving to CD or tape" in messages(loaded(tmp_path, line))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("LRUSort = NoSuch", "LRUSort = NoSuch names no column"),
        ("LRUSort = StudyDate; DROP TABLE x", "names no column"),
        ("LRUSort = DICOMStudies.PatientXYZ", "names no column"),
        ("MAGDeviceThreshold = 20", "counts as full at 30 already"),
        ("MAGDeviceThreshold = 99\nIgnoreMAGDeviceThreshold = 1", "MAGDeviceThreshold has no"),
        ("NightlyCleanThreshold = 9\nIgnoreMAGDeviceThreshold = 1", "NightlyCleanThreshold has"),
        ("DiskReserve = 5%\nIgnoreMAGDeviceThreshold = 1", "DiskReserve has no effect"),
        ("DuplicateContent = aside\nIgnoreRewrite = 1", "DuplicateContent has no effect"),
    ],
)
def test_check_says_what_cleaning_would_not_do(tmp_path: Path, lines: str, words: str) -> None:
    found = check(loaded(tmp_path, lines))

    assert any(words in problem.message and problem.line for problem in found)


@pytest.mark.parametrize(
    "sort", ["StudyDate", "PatientBir", "PatientBirthDate", "AccessTime", "DICOMStudies.StudyDate"]
)
def test_check_accepts_the_columns_of_the_index(tmp_path: Path, sort: str) -> None:
    found = check(loaded(tmp_path, f"LRUSort = {sort}\n"))

    assert not any("LRUSort" in problem.message for problem in found)
