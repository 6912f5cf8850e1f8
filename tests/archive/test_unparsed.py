"""NoDicomCheck: objects that cannot be parsed are kept, as far as they are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import Outcome
from dgate.archive.unparsed import unparsed_table
from dgate.config.settings import V2Content
from dgate.dicom.part10 import read_meta
from dgate.dicom.uids import DEFLATED, EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import DataSetMismatch, NotDicom
from tests.archive.intake_kit import CT, SOP, Hooks, Station, data_set, large_data_set, open_station

# An element of a length that no object has, behind what can be read.
BROKEN = b"\x32\x00\x60\x10LO\xff\xffno such value"


def broken(**elements: Any) -> bytes:
    """Return a data set whose header breaks off."""
    return (
        data_set(PixelData=None, Rows=None, Columns=None, BitsAllocated=None, **elements) + BROKEN
    )


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path / "site", no_dicom_check=True)
    yield made
    made.close()


def test_object_is_refused_where_the_check_is_on(tmp_path: Path) -> None:
    station = open_station(tmp_path / "site")

    with pytest.raises(NotDicom):
        station.send(broken())

    assert station.files() == []
    station.close()


def test_object_is_kept_byte_for_byte(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    receipt = station.send(broken())

    assert receipt.outcome is Outcome.STORED
    assert station.content() == broken()
    assert "cannot be parsed" in caplog.text


def test_index_gets_what_stands_before_the_fault(station: Station) -> None:
    station.send(broken(PatientID="P77", StudyInstanceUID="1.2.3.77"))

    ref = station.ref()
    assert (ref.patient_id, ref.sop_class) == ("P77", CT)
    # The elements are in the order of their tags: the study comes after the patient.
    assert ref.study == "1.2.3.77"


@pytest.mark.parametrize("data", [b"\xff" * 5000, b"\x00" * 3, b"garbage" * 400_000])
def test_garbage_gets_the_uids_of_the_command(station: Station, data: bytes) -> None:
    station.send(data)

    ref = station.ref()
    assert (ref.sop_class, ref.sop_instance) == (CT, SOP)
    assert station.content() == data


def test_large_object_is_kept_byte_for_byte(station: Station) -> None:
    data = broken() + large_data_set()
    station.send(data)

    assert station.content() == data


def test_object_can_be_replaced(station: Station) -> None:
    station.send(broken())
    receipt = station.send(data_set())

    assert receipt.outcome is Outcome.REWRITTEN
    assert station.content() == data_set()


def test_instance_of_another_name_is_refused_all_the_same(station: Station) -> None:
    with pytest.raises(DataSetMismatch):
        station.send(broken(), sop_instance="1.2.3.99")


@pytest.mark.parametrize("uid", ["", "../../etc", "1.2.x"])
def test_uids_of_the_command_have_to_be_uids(uid: str) -> None:
    with pytest.raises(NotDicom, match="of the command"):
        unparsed_table(b"garbage", EXPLICIT_LE, CT, uid)


def test_import_rules_refuse_what_they_cannot_see(tmp_path: Path) -> None:
    hooks = Hooks()
    station = open_station(tmp_path / "site", hooks=hooks, no_dicom_check=True)

    with pytest.raises(NotDicom):
        station.send(broken())

    assert hooks.imported == []
    station.close()


def test_file_is_part_10_even_where_it_is_called_v2(tmp_path: Path) -> None:
    station = open_station(
        tmp_path / "site",
        no_dicom_check=True,
        v2_content=V2Content.RAW,
        file_name_syntax="3",
    )
    station.send(data_set())

    path = station.path()
    assert path.suffix == ".v2"
    assert path.read_bytes()[128:132] == b"DICM"
    station.close()


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE, DEFLATED])
def test_transfer_syntax_is_that_of_the_context(station: Station, syntax: str) -> None:
    station.send(b"\xff" * 100, syntax=syntax)

    assert read_meta(station.path().read_bytes()).syntax == syntax


def test_what_is_known_ends_where_reading_fails() -> None:
    table = unparsed_table(broken(), EXPLICIT_LE, CT, SOP)

    assert table.text(0x00100020) == "P1"
    assert 0x00321060 not in table
    assert table.size == len(broken())
