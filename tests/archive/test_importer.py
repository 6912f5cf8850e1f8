"""Files that are brought in from folders."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.importer import files_below, import_file, import_files
from dgate.archive.records import Outcome
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import Payload
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import NotDicom
from tests.archive.intake_kit import CT, SOP, Station, data_set, large_data_set, open_station


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path / "site")
    yield made
    made.close()


def written(path: Path, data: bytes | None = None) -> Path:
    """Write a file, of an image unless `data` says otherwise, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = file_meta(CT, SOP, EXPLICIT_LE) + data_set() if data is None else data
    path.write_bytes(content)
    return path


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_files_come_in_name_order_without_directories_and_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.dcm", "b/1.dcm", "a.dcm", "DICOMDIR", ".hidden"):
        written(tmp_path / name)

    found = list(files_below([tmp_path]))

    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.dcm", "b/1.dcm", "b/2.dcm"]


def test_what_a_data_folder_holds_beside_stored_objects_is_left_out(tmp_path: Path) -> None:
    stored = written(tmp_path / "P1" / "1.dcm")
    for name in (
        "P1/1.dcm.prev",
        "dgate/incoming/1.2.3.n1",
        "dgate/spool/anonymised.dcm",
        "dgate/spool/lost/anonymised.dcm",
    ):
        written(tmp_path / name)

    assert list(files_below([tmp_path])) == [stored]
    assert list(files_below([tmp_path / "dgate"])) == []


def test_folders_of_those_names_elsewhere_are_not_left_out(tmp_path: Path) -> None:
    names = ["dgate/P1/1.dcm", "incoming/2.dcm", "spool/3.dcm"]
    paths = [written(tmp_path / name) for name in names]

    assert list(files_below([tmp_path])) == paths


def test_lost_copies_are_found_when_their_folder_is_named(tmp_path: Path) -> None:
    copy = written(tmp_path / "dgate" / "spool" / "lost" / "copy.dcm")
    previous = written(tmp_path / "1.dcm.prev")

    assert list(files_below([copy.parent, previous])) == [copy, previous]


def test_file_is_stored_like_an_object_from_the_network(station: Station, tmp_path: Path) -> None:
    receipt = import_file(station.ingest, written(tmp_path / "1.dcm"))

    assert receipt.outcome is Outcome.STORED
    assert station.content() == data_set()


def test_file_that_fails_stops_nothing(station: Station, tmp_path: Path) -> None:
    paths = [
        written(tmp_path / "1.dcm", b""),
        written(tmp_path / "2.dcm", b"text"),
        tmp_path / "gone.dcm",
        written(tmp_path / "3.dcm"),
    ]

    results = list(import_files(station.ingest, paths))

    assert [bool(result.error) for result in results] == [True, True, True, False]
    assert results[-1].receipt is not None


def test_empty_file_is_no_object(station: Station, tmp_path: Path) -> None:
    with pytest.raises(NotDicom, match="empty"):
        import_file(station.ingest, written(tmp_path / "1.dcm", b""))


def test_import_that_is_interrupted_leaves_no_file_behind(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = file_meta(CT, SOP, EXPLICIT_LE) + large_data_set()
    path = written(tmp_path / "1.dcm", content)
    descriptors = open_descriptors()
    real = Payload.append

    def interrupted(payload: Payload, fragment: bytes) -> None:
        real(payload, fragment)
        if payload.spilled is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr(Payload, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_file(station.ingest, path)

    assert station.files() == []
    assert open_descriptors() == descriptors


SHORTENED = """
import os, sys
from dgate.archive import importer
from dgate.dicom.part10 import read_meta
from dgate.errors import NotDicom

path = sys.argv[1]

def read(head):
    # Somebody cuts the file short in the very moment in which its head is looked at.
    os.truncate(path, 0)
    return read_meta(head)

importer.read_meta = read
with open(path, "rb") as file:
    try:
        importer.import_open_file(None, file, path)
    except (NotDicom, AttributeError) as exc:
        print(type(exc).__name__)
"""


def test_file_that_is_cut_short_while_its_head_is_read_kills_nobody(tmp_path: Path) -> None:
    path = written(tmp_path / "1.dcm", file_meta(CT, SOP, EXPLICIT_LE) + large_data_set())

    done = subprocess.run(
        [sys.executable, "-c", SHORTENED, str(path)], capture_output=True, text=True, check=False
    )

    # Its head was complete, so it got as far as the way in, which there is none of.
    assert (done.returncode, done.stdout.strip()) == (0, "AttributeError"), done.stderr


@pytest.mark.parametrize("extra", [100, 70_000, 2 << 20], ids=["short", "long", "very long"])
def test_file_with_a_long_head_is_stored(station: Station, tmp_path: Path, extra: int) -> None:
    """A private element of group 2 may have any length (PS3.10 7.1)."""
    head = file_meta(CT, SOP, EXPLICIT_LE)
    private = struct.pack("<HH2sHI", 2, 0x102, b"OB", 0, extra) + bytes(extra)

    receipt = import_file(station.ingest, written(tmp_path / "1.dcm", head + private + data_set()))

    assert receipt.outcome is Outcome.STORED
    assert station.content(SOP) == data_set()


@pytest.mark.parametrize("cut", [130, 200, 300])
def test_file_that_ends_inside_its_head_is_no_object(
    station: Station, tmp_path: Path, cut: int
) -> None:
    whole = file_meta(CT, SOP, EXPLICIT_LE) + data_set()

    with pytest.raises(NotDicom):
        import_file(station.ingest, written(tmp_path / "1.dcm", whole[:cut]))
