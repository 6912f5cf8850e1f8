"""`tomono`, `crop`, `compression` in lines."""

from __future__ import annotations

import logging

import pytest

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, RLE_LOSSLESS
from dgate.rules.effects import Outcome
from dgate.rules.problems import Gravity
from tests.dicom.images import image, table_of
from tests.rules import kit

RGB: dict[str, object] = {
    "BitsAllocated": 8,
    "SamplesPerPixel": 3,
    "PhotometricInterpretation": "RGB",
    "PlanarConfiguration": 0,
}


def changed(line: str, table: ElementTable | None = None) -> ElementTable:
    """Return an image after an import line, which must keep it."""
    table = table_of(image()) if table is None else table
    verdict, table = kit.run_import(kit.importing(line), table)
    assert verdict.outcome is Outcome.KEEP, verdict.reason
    return table


def refused(line: str, table: ElementTable | None = None) -> str:
    """Return why an import line refuses an image."""
    verdict, _ = kit.run_import(kit.importing(line), table_of(image()) if table is None else table)
    assert verdict.outcome is Outcome.REJECT
    return verdict.reason


def test_tomono_makes_grey() -> None:
    table = changed("tomono", table_of(image(pixels=b"\1\2\6" * 30, **RGB)))
    assert table.text(0x00280004) == "MONOCHROME2"
    assert table.raw(0x7FE00010) == b"\3" * 30


def test_crop_takes_left_top_right_bottom() -> None:
    table = changed("crop 1,2,5,3")
    assert (table.text(0x00280011), table.text(0x00280010)) == ("5", "2")


def test_crop_takes_values_of_the_object() -> None:
    assert changed('set x to "1"; crop 0,0,%x,%x').text(0x00280010) == "2"


def test_crop_outside_the_image_refuses_the_object() -> None:
    assert "whose last pixel is 5,4" in refused("crop 0,0,6,6")
    assert "crop cannot be followed by" in refused("crop 0,0,%i")


@pytest.mark.parametrize(
    ("code", "syntax"), [("rl", RLE_LOSSLESS), ("RL", RLE_LOSSLESS), ("ui", IMPLICIT_LE)]
)
def test_compression_changes_the_syntax_of_the_object(code: str, syntax: str) -> None:
    assert changed(f"compression {code}").syntax == syntax
    assert changed(f'set x to "{code}"; compression %x').syntax == syntax


def test_compression_to_what_it_is_changes_nothing() -> None:
    assert changed("compression un; compression as; compression uj").revision == 0


def test_compression_k_makes_the_object_smaller() -> None:
    table = changed("compression kc", table_of(image(Rows=32, Columns=64)))
    assert (table.text(0x00280010), table.text(0x00280011)) == ("8", "16")


def test_compression_that_fails_is_logged_and_the_line_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = changed('compression rl; set PatientID to "X"', table_of(image(pixels=b"\0\0")))
    assert table.syntax == EXPLICIT_LE
    assert table.text(0x00100020) == "X"
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage().startswith("Importconverter0.0: the object keeps its transfer synt")


def test_compression_without_an_encoder_is_a_problem_and_refuses_the_object() -> None:
    [problem] = kit.importing("compression jk").problems
    assert problem.gravity is Gravity.UNAVAILABLE
    assert "no encoder for JPEG 2000 Lossless" in problem.message
    assert "no encoder" in refused("compression jk")


def test_compression_with_an_unknown_code_of_the_object_refuses_it() -> None:
    assert "is not known" in refused("compression %i")


def test_private_compression_is_reported_and_taken_as_none() -> None:
    [problem] = kit.importing("compression n4").problems
    assert problem.gravity is Gravity.WARNING
    assert "has no encoder" in problem.message
    assert changed("compression n4", changed("compression rl")).syntax == EXPLICIT_LE


def test_compression_s_runs_its_converter() -> None:
    made = kit.rules(
        kit.converter('compression s3; set StudyDescription to "%VSeriesDescription!"'),
        kit.converter('set SeriesDescription to "By 3"; reject', "Compression", 3),
    )
    verdict, table = kit.run_import(made, table_of(image()))
    assert verdict.outcome is Outcome.KEEP
    assert table.text(0x00081030) == "By 3!"


def test_compression_s_without_converter_does_nothing() -> None:
    assert changed("compression s5").revision == 0


def test_compression_s_that_leads_to_itself_is_an_error() -> None:
    made = kit.rules(
        kit.converter("compression s3"), kit.converter("compression s3", "Compression", 3)
    )
    verdict, _ = kit.run_import(made, table_of(image()))
    assert verdict.outcome is Outcome.REJECT
    assert "leads to itself" in verdict.reason


@pytest.mark.parametrize("line", ["tomono", "crop 0,0,1,1", "compression rl", "compression k1"])
def test_object_without_pixels_is_left_alone(line: str) -> None:
    assert changed(line, kit.table()).revision == 0


@pytest.mark.parametrize("statement", ["tomono", "crop 0,0,1,1", "compression un"])
def test_they_work_in_import_lines_only(statement: str) -> None:
    [problem] = kit.rules(kit.converter(statement, "Export")).problems
    assert "works in import lines only" in problem.message
