"""Rules and settings that touch pixels, all the way into the archive and out again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dgate.archive.records import InstanceRef, Outcome, Receipt
from dgate.dicom.frames import Frames
from dgate.dicom.part10 import read_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, RLE_LOSSLESS
from dgate.errors import Refused
from dgate.rules.effects import ExportPlan, ImportVerdict
from dgate.rules.session import Session
from tests.archive.intake_kit import (
    CT,
    Hooks,
    Station,
    open_station,
)
from tests.archive.intake_kit import data_set as plain
from tests.rules import kit

SIZES = pytest.mark.parametrize("side", [8, 768], ids=["small", "spilled"])


def data_set(side: int = 8, syntax: str = EXPLICIT_LE, **elements: Any) -> bytes:
    """Return an image with a picture in it, which 768 makes long enough for a file."""
    row = b"".join((value // 3).to_bytes(2, "little") for value in range(side))
    elements = {
        "Rows": side,
        "Columns": side,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": row * side,
        **elements,
    }
    return plain(syntax, **elements)


class RuleHooks(Hooks):
    """Runs real import lines."""

    def __init__(self, *lines: str, plans: list[ExportPlan] | None = None) -> None:
        super().__init__(plans=plans or [])
        self._rules = kit.rules(*(kit.converter(line, index=n) for n, line in enumerate(lines)))
        self._env = kit.FakeEnvironment()

    def run_import(
        self, table: ElementTable, captured: Any, session: Session | None = None
    ) -> ImportVerdict:
        """Run them."""
        return self._rules.run_import(table, captured, self._env, session)


def stored(station: Station) -> tuple[str, Dataset]:
    """Return the transfer syntax that the stored file names, and what pydicom reads of it."""
    content = station.path().read_bytes()
    return read_meta(content).syntax, pydicom.dcmread(io.BytesIO(content))


def image(data: bytes) -> np.ndarray:
    frames = Frames(ElementTable(data, EXPLICIT_LE))
    return np.frombuffer(frames.frame(0), "<u2").reshape(frames.layout.rows, -1)


@SIZES
@pytest.mark.parametrize("received", [EXPLICIT_LE, IMPLICIT_LE, RLE_LOSSLESS])
@pytest.mark.parametrize(
    ("code", "syntax"), [("rl", RLE_LOSSLESS), ("un", EXPLICIT_LE), ("ui", IMPLICIT_LE)]
)
def test_compressed_by_a_rule_the_object_is_stored_in_its_new_syntax(
    tmp_path: Path, code: str, syntax: str, received: str, side: int
) -> None:
    line = f'set StudyDescription to "Before"; compression {code}; set SeriesDescription to "After"'
    station = open_station(tmp_path, hooks=RuleHooks(line))
    data = convert(data_set(side), EXPLICIT_LE, received)

    station.send(data, syntax=received)

    named, found = stored(station)
    assert named == found.file_meta.TransferSyntaxUID == syntax
    assert (found.StudyDescription, found.SeriesDescription) == ("Before", "After")
    assert np.array_equal(found.pixel_array, image(data_set(side)))
    with station.exporter.table(station.ref()) as table:
        assert table.syntax == syntax
    assert station.exporter.peek(station.ref()).syntax == syntax
    assert convert(station.content(), syntax, EXPLICIT_LE) == data_set(
        side, StudyDescription="Before", SeriesDescription="After"
    )
    assert len(station.files()) == 1
    station.close()


@SIZES
def test_each_forward_has_the_syntax_of_its_place_in_the_line(tmp_path: Path, side: int) -> None:
    hooks = RuleHooks("forward to A; compression rl; forward to B; compression ui; forward to C")
    station = open_station(tmp_path, hooks=hooks)
    station.send(data_set(side))
    syntaxes = {}
    for debt in station.debts():
        ref = InstanceRef(CT, debt["sop_instance"], "", "", "", debt["device"], debt["name"])
        if debt["device"] != "SPOOL":
            ref = station.ref()
        syntaxes[debt["destination"]] = station.exporter.peek(ref).syntax
        sent = convert(station.sent(ref), syntaxes[debt["destination"]], EXPLICIT_LE)
        assert sent == data_set(side)
    assert syntaxes == {"A": EXPLICIT_LE, "B": RLE_LOSSLESS, "C": IMPLICIT_LE}
    station.close()


def test_replaced_file_is_known_by_the_hash_of_what_is_stored(tmp_path: Path) -> None:
    station = open_station(tmp_path, hooks=RuleHooks("compression rl"))
    station.send(data_set())
    receipt = station.send(data_set(StudyDescription="Again"))
    assert receipt.outcome is Outcome.REWRITTEN
    assert stored(station)[0] == RLE_LOSSLESS
    # Recovery keeps the file whose hash was committed.
    station.recover()
    assert len(station.files()) == 1
    assert stored(station)[1].StudyDescription == "Again"
    station.close()


def test_compression_that_fails_leaves_the_object_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = data_set(PixelData=b"\0\0")
    station = open_station(tmp_path, hooks=RuleHooks("compression rl"))
    station.send(broken)
    assert station.content() == broken
    assert "the object keeps its transfer syntax" in caplog.text
    station.close()


@pytest.mark.parametrize("line", ["crop 0,0,8,7", "compression jk", "compression %i"])
def test_statement_that_makes_no_sense_refuses_the_object(tmp_path: Path, line: str) -> None:
    station = open_station(tmp_path, hooks=RuleHooks(line))
    with pytest.raises(Refused):
        station.send(data_set())
    assert station.files() == []
    station.close()


@SIZES
def test_cropped_object_is_stored_cropped(tmp_path: Path, side: int) -> None:
    station = open_station(tmp_path, hooks=RuleHooks("crop 1,2,6,4"))
    station.send(convert(data_set(side), EXPLICIT_LE, RLE_LOSSLESS), syntax=RLE_LOSSLESS)
    named, found = stored(station)
    assert named == EXPLICIT_LE
    assert np.array_equal(found.pixel_array, image(data_set(side))[2:5, 1:7])
    station.close()


@pytest.mark.parametrize("line", ["tomono", "crop 0,0,1,1", "compression rl", "compression kc"])
def test_objects_without_pixels_pass(tmp_path: Path, line: str) -> None:
    station = open_station(tmp_path, hooks=RuleHooks(line))
    station.send(plain(PixelData=None))
    assert station.content() == plain(PixelData=None)
    station.close()


# Settings.


@SIZES
def test_incoming_compression_stores_rle(tmp_path: Path, side: int) -> None:
    station = open_station(tmp_path, incoming_compression="rl")
    station.send(data_set(side))
    named, found = stored(station)
    assert named == RLE_LOSSLESS
    assert np.array_equal(found.pixel_array, image(data_set(side)))
    assert len(station.files()) == 1
    station.close()


def test_incoming_compression_leaves_objects_without_pixels(tmp_path: Path) -> None:
    station = open_station(tmp_path, incoming_compression="rl")
    station.send(plain(PixelData=None))
    assert stored(station)[0] == EXPLICIT_LE
    station.close()


@SIZES
def test_incoming_compression_makes_objects_smaller(tmp_path: Path, side: int) -> None:
    station = open_station(tmp_path, incoming_compression="kc")
    station.send(data_set(side))
    _, found = stored(station)
    assert (found.Rows, found.Columns) == (min(side, 16),) * 2
    assert found.pixel_array.shape == (min(side, 16),) * 2
    station.close()


def test_object_that_cannot_be_made_smaller_is_kept_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    station = open_station(tmp_path, incoming_compression="kc")
    for number in range(2):
        data = data_set(32, PixelData=b"\0\0", SOPInstanceUID=f"1.2.{number}")
        receipt: Receipt = station.send(data, sop_instance=f"1.2.{number}")
        assert receipt.outcome is Outcome.STORED
    assert caplog.text.count("kept in the size that it has") == 1
    station.close()


def test_suffix_of_the_called_ae_names_a_code(tmp_path: Path) -> None:
    station = open_station(tmp_path)
    station.send(data_set(), called="DGATE~rl")
    assert stored(station)[0] == RLE_LOSSLESS
    station.close()
