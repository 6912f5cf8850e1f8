"""Worklist settings and codes s0 to s9: what counts, and what does not fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.check import check
from tests.config.kit import configured, default_file


def messages(folder: Path, *lines: str, **files: str) -> list[str]:
    """Return what `dgate check` says about a configuration with these lines."""
    return [str(problem) for problem in check(configured(folder, "\n".join(lines), **files))]


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ((), 100),
        (("WorkListReturnsISO_IR = 192",), 192),
        (("WorkListReturnsISO_IR = 0",), 0),
        (("WorkListReturnsISO_IR_100 = 1", "WorkListReturnsISO_IR = 192"), 100),
        (("WorkListReturnsISO_IR_100 = 0", "WorkListReturnsISO_IR = 192"), 0),
        (("WorkListReturnsISO_IR_100 = -1", "WorkListReturnsISO_IR = 144"), 144),
        (("WorkListReturnsISO_IR = 87",), 192),
        (("WorkListReturnsISO_IR_100 = 3",), 192),
    ],
)
def test_character_set_of_worklist_answers(
    tmp_path: Path, lines: tuple[str, ...], number: int
) -> None:
    assert configured(tmp_path, "\n".join(lines)).settings.worklist_iso_ir == number


def test_number_that_is_no_character_set_is_reported(tmp_path: Path) -> None:
    [found] = [
        line for line in messages(tmp_path, "WorkListReturnsISO_IR = 87") if "ISO_IR" in line
    ]

    assert "ISO_IR 87 is no character set; UTF-8 is used" in found


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0, []),
        (1, ["WorkListMode = 1 has no effect, as SQLServer is empty"]),
        (2, ["WorkListMode = 2 refuses every object, as SQLServer is empty"]),
    ],
)
def test_mode_without_worklist_is_reported(tmp_path: Path, mode: int, expected: list[str]) -> None:
    found = messages(tmp_path, "SQLServer =", f"WorkListMode = {mode}")

    told = [line for line in found if "SQLServer is empty" in line and "WorkListMode" in line]
    assert len(told) == len(expected)
    assert all(text in line for text, line in zip(expected, told, strict=True))


def test_place_that_no_message_has_is_reported(tmp_path: Path) -> None:
    layout = default_file("dicom.sql").decode().replace('"OBR.16"', '"OBR-16"')

    [found] = [line for line in messages(tmp_path, sql=layout) if "HL7" in line]

    assert "dicom.sql" in found
    assert "ReqPhysician: 'OBR-16' is no place in an HL7 message" in found


def test_code_without_its_rule_is_reported(tmp_path: Path) -> None:
    nodes = "ONE 127.0.0.1 104 s1\nTWO 127.0.0.1 105 s2\n"

    lines = ("IncomingCompression = s3", "CompressionConverter2 = nop")
    found = messages(tmp_path, *lines, map=nodes)

    told = [line for line in found if "does nothing" in line]
    assert len(told) == 2
    assert "IncomingCompression = s3 does nothing: there is no CompressionConverter3" in told[0]
    assert "the code s1 of ONE does nothing: there is no CompressionConverter1" in told[1]
