"""Objects of more than 4 GiB, in sparse files: nothing here reads or writes that much.

`scripts/large` sends whole ones through real servers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dgate.archive.records import Arrival, Outcome
from dgate.config.settings import DuplicateContent
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.table import PIXEL_DATA, ElementTable
from tests.acceptance.largeobject import GIB, KINDS, SC, Large
from tests.archive.intake_kit import Station, open_station

TOTAL = 4 * GIB + (1 << 20)


def arrived(station: Station, large: Large) -> Arrival:
    """Return an object as it is when its last byte has been received, in a file full of holes."""
    header = file_meta(SC, large.sop_instance, large.syntax, "MODALITY")
    payload = station.ingest.payload(large.syntax, SC, large.sop_instance, "MODALITY")
    payload.append(bytes(2 << 20))
    spill = payload.spilled
    assert isinstance(spill, SpillFile)
    assert spill.data_offset == len(header)
    large.write_sparse(spill.path, header)
    payload.size = large.size
    return Arrival(payload, large.syntax, "MODALITY", "DGATE", SC, large.sop_instance)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_object_of_more_than_four_gib_is_stored_and_goes_out_whole(
    tmp_path: Path, make: Callable[[int], Large]
) -> None:
    station = open_station(tmp_path)
    large = make(TOTAL)
    assert large.size > 1 << 32

    receipt = station.ingest.store(arrived(station, large))

    assert receipt.outcome is Outcome.STORED
    ref = station.ref(large.sop_instance)
    header = file_meta(SC, large.sop_instance, large.syntax, "MODALITY")
    assert station.path(large.sop_instance).stat().st_size == len(header) + large.size
    assert station.exporter.peek(ref).size == large.size
    outgoing = station.exporter.open(ref)
    assert (outgoing.size, outgoing.syntax) == (large.size, large.syntax)
    # What is at the end, far behind 2^32, is where it belongs.
    reader = outgoing.reader
    end = large.parts[-1]
    if isinstance(end, bytes):
        assert reader.read_at(reader.size - len(end), 100) == end
    outgoing.close()
    station.close()


@pytest.mark.parametrize("kind", ["encapsulated", "elements"])
def test_elements_behind_four_gib_are_found(tmp_path: Path, kind: str) -> None:
    station = open_station(tmp_path)
    large = KINDS[kind](TOTAL)
    station.ingest.store(arrived(station, large))

    with station.exporter.table(station.ref(large.sop_instance)) as table:
        assert table.text(0x00080018) == large.sop_instance
        assert table.text(0x00100010) == "LARGE^OBJECT"
        assert PIXEL_DATA in table
        assert table.size == large.size
        assert not table.truncated
    station.close()


def test_changed_copy_of_a_large_object_has_all_of_it(tmp_path: Path) -> None:
    station = open_station(tmp_path)
    large = KINDS["elements"](TOTAL)
    station.ingest.store(arrived(station, large))

    def rename(table: ElementTable) -> None:
        table.set_text(0x00100010, "SOMEBODY^ELSE^ALTOGETHER")

    outgoing = station.exporter.open(station.ref(large.sop_instance), rewrite=rename)

    assert outgoing.size == large.size + len("SOMEBODY^ELSE^ALTOGETHER") - len("LARGE^OBJECT")
    outgoing.close()
    station.close()


def test_payload_counts_beyond_four_gib() -> None:
    payload = Payload()
    payload.size = (1 << 32) - 10
    payload.append(bytes(20))

    assert payload.size == (1 << 32) + 10
    assert payload.overflowed


def test_second_content_of_a_large_object_is_compared_by_its_hash(tmp_path: Path) -> None:
    # Much smaller, as both are read through.
    station = open_station(tmp_path, duplicate_content=DuplicateContent.ASIDE)
    large = KINDS["encapsulated"](GIB // 32)
    station.ingest.store(arrived(station, large))

    again = station.ingest.store(arrived(station, large))
    longer = station.ingest.store(arrived(station, KINDS["encapsulated"](GIB // 32 + 2)))

    assert again.outcome is Outcome.REWRITTEN
    assert longer.outcome is Outcome.ASIDE
    station.close()
