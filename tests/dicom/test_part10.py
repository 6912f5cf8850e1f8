"""File framing, ours and everybody's."""

from __future__ import annotations

import mmap
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.dicom.part10 import FileMeta, file_meta, read_meta
from dgate.dicom.uids import (
    DEFLATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLEMENTATION_CLASS,
    IMPLEMENTATION_VERSION,
    IMPLICIT_LE,
)
from dgate.errors import NotDicom
from tests.dicom.samples import NO_HEAD, SHIPPED, Shipped, explicit, implicit, read, shipped

CT = "1.2.840.10008.5.1.4.1.1.2"
DATA = explicit(0x00080016, "UI", b"1.2.3\0") + explicit(0x00080018, "UI", b"1.2.3.4\0")
PLAIN = implicit(0x00080016, b"1.2.3\0") + implicit(0x00080018, b"1.2.3.4\0")
BIG = explicit(0x00080016, "UI", b"1.2.3\0", ">") + explicit(0x00080018, "UI", b"1.2.3.4\0", ">")


def test_our_header_is_read_by_pydicom() -> None:
    head = file_meta(CT, "1.2.3.4.5", EXPLICIT_LE, "MODALITY1")
    meta = pydicom.dcmread(BytesIO(head + DATA)).file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4.5"
    assert meta.TransferSyntaxUID == EXPLICIT_LE
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION
    assert meta.SourceApplicationEntityTitle == "MODALITY1"
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.FileMetaInformationGroupLength == len(head) - 144


def test_source_is_left_out_when_unknown() -> None:
    meta = pydicom.dcmread(BytesIO(file_meta(CT, "1.2", IMPLICIT_LE))).file_meta
    assert "SourceApplicationEntityTitle" not in meta


@given(
    sop_class=st.from_regex(r"[1-9](\.[1-9][0-9]{0,5}){0,9}", fullmatch=True),
    source=st.from_regex(r"[A-Z]{0,16}", fullmatch=True),
)
def test_what_we_write_we_read(sop_class: str, source: str) -> None:
    head = file_meta(sop_class, "1.2.3.4.5", DEFLATED, source)
    assert read_meta(head) == FileMeta(sop_class, "1.2.3.4.5", DEFLATED, len(head))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file", shipped(), ids=repr)
def test_shipped_files_are_read_as_pydicom_reads_them(file: Shipped) -> None:
    judge = read(file.path.read_bytes())
    meta = read_meta(file.path.read_bytes())
    assert meta.syntax == judge.file_meta.get("TransferSyntaxUID", meta.syntax)
    if "SOPInstanceUID" in judge:
        assert (meta.sop_class, meta.sop_instance) == (judge.SOPClassUID, judge.SOPInstanceUID)
    assert read_meta(file.path.read_bytes()[:2048]) == meta


@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for path in SHIPPED.rglob("*")
        if path.suffix in (".txt", ".json", ".md", ".gz") or path.name in NO_HEAD
    ),
    ids=lambda path: path.name,
)
def test_other_files_are_refused(path: Path) -> None:
    with pytest.raises(NotDicom):
        read_meta(path.read_bytes())


@pytest.mark.parametrize(
    ("data", "syntax"), [(DATA, EXPLICIT_LE), (PLAIN, IMPLICIT_LE), (BIG, EXPLICIT_BE)]
)
def test_bare_data_set_is_recognised(data: bytes, syntax: str) -> None:
    assert read_meta(data) == FileMeta("1.2.3", "1.2.3.4", syntax, 0)


def test_header_without_preamble_is_recognised() -> None:
    head = file_meta(CT, "1.2", IMPLICIT_LE)
    assert read_meta(head[128:] + PLAIN) == FileMeta(
        "1.2.3", "1.2.3.4", IMPLICIT_LE, len(head) - 128
    )
    assert read_meta(head[132:] + PLAIN) == FileMeta(
        "1.2.3", "1.2.3.4", IMPLICIT_LE, len(head) - 132
    )


@pytest.mark.parametrize(("data", "syntax"), [(DATA, EXPLICIT_LE), (PLAIN, IMPLICIT_LE)])
def test_missing_transfer_syntax_is_guessed(data: bytes, syntax: str) -> None:
    head = bytes(128) + b"DICM" + explicit(0x00020002, "UI", b"1.9\0")
    assert read_meta(head + data) == FileMeta("1.2.3", "1.2.3.4", syntax, len(head))


def test_data_set_is_right_where_group_2_differs() -> None:
    meta = read_meta(file_meta("1.9", "1.9", EXPLICIT_LE) + DATA)
    assert (meta.sop_class, meta.sop_instance) == ("1.2.3", "1.2.3.4")


def test_wrong_group_length_does_not_matter() -> None:
    head = bytearray(file_meta(CT, "1.2", EXPLICIT_LE))
    head[140:144] = b"\xff\xff\xff\x7f"
    assert read_meta(bytes(head) + DATA).data_offset == len(head)


def test_mapped_file_can_be_closed_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "object.dcm"
    path.write_bytes(file_meta(CT, "1.2", EXPLICIT_LE) + DATA)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert read_meta(mapped).sop_class == "1.2.3"


@pytest.mark.parametrize(
    "content", [b"", b"DICM", bytes(128) + b"DICM", bytes(200), b"\x08\0\x16\0"]
)
def test_nothing_is_no_dicom(content: bytes) -> None:
    with pytest.raises(NotDicom):
        read_meta(content)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(content: bytes) -> None:
    for start in (b"", bytes(128) + b"DICM"):
        try:
            read_meta(start + content)
        except NotDicom:
            continue
