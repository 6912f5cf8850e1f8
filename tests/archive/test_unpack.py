"""Archives of files: what is in them, and archives that are traps."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.archive import unpack
from dgate.archive.unpack import Wrapping, members, wrapping_of
from dgate.errors import NotDicom


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def content(data: bytes, name: str = "x") -> dict[str, bytes]:
    """Return what is in an archive."""
    return {
        inner: stream.read()
        for inner, stream in members(io.BytesIO(data), wrapping_of(data[:512]), name)
    }


@pytest.mark.parametrize(
    ("head", "wrapping"),
    [
        (b"PK\x03\x04" + bytes(200), Wrapping.ZIP),
        (b"PK\x05\x06" + bytes(18), Wrapping.ZIP),
        (b"\x1f\x8b\x08" + bytes(20), Wrapping.GZIP),
        (b"BZh9", Wrapping.OTHER),
        (b"Rar!\x1a\x07\x00", Wrapping.OTHER),
        (bytes(257) + b"ustar", Wrapping.OTHER),
        (b"PK\x03\x04" + bytes(124) + b"DICM", Wrapping.NONE),
        (b"\x08\x00\x05\x00CS", Wrapping.NONE),
        (b"", Wrapping.NONE),
    ],
)
def test_kind_is_told_by_the_first_bytes(head: bytes, wrapping: Wrapping) -> None:
    assert wrapping_of(head) is wrapping


def test_files_of_a_zip_come_in_its_order_without_what_is_none() -> None:
    files = {
        "b.dcm": b"b",
        "a/c.dcm": b"c",
        "a/": b"",
        "a/DICOMDIR": b"d",
        ".hidden": b"e",
        "__MACOSX/a/c.dcm": b"f",
        "a\\.x": b"g",
    }

    assert list(content(zipped(files)).items()) == [("b.dcm", b"b"), ("a/c.dcm", b"c")]


def test_gzip_has_one_file_named_like_itself() -> None:
    assert content(gzip.compress(b"data"), "IM1.gz") == {"IM1": b"data"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_zip_are_read(method: int) -> None:
    assert content(zipped({"a": b"data" * 100}, method)) == {"a": b"data" * 100}


def test_encrypted_zip_says_so() -> None:
    data = bytearray(zipped({"a": b"data"}))
    # The flag in the local header, and the one in the table of contents.
    data[6] |= 1
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1

    with pytest.raises(NotDicom, match=r"password required|encrypted"):
        content(bytes(data))


def test_bomb_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "LEAST_EXPANSION_BYTES", 1 << 20)
    data = zipped({f"{number}": bytes(1 << 20) for number in range(8)})

    with pytest.raises(NotDicom, match="far more than its size"):
        content(data)


def test_table_of_contents_that_would_fill_the_memory_is_refused() -> None:
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 1 << 30, 0, 0)

    with pytest.raises(NotDicom, match="too many entries"):
        content(b"PK\x03\x04" + bytes(1000) + end)


def test_table_of_contents_in_the_large_form_is_measured_too() -> None:
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 1 << 40, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 4, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)

    with pytest.raises(NotDicom, match="too many entries"):
        content(b"PK\x03\x04" + record + locator + end)


@given(st.binary(max_size=300), st.sampled_from([b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b\x08"]))
def test_no_bytes_raise_anything_but_not_dicom(data: bytes, magic: bytes) -> None:
    try:
        content(magic + data)
    except NotDicom:
        return


@given(st.integers(min_value=0), st.binary(min_size=1, max_size=8))
def test_no_damage_raises_anything_but_not_dicom(place: int, damage: bytes) -> None:
    data = bytearray(zipped({"a.dcm": b"some data" * 20, "b.dcm": b"other data" * 20}))
    at = place % len(data)
    data[at : at + len(damage)] = damage
    try:
        content(bytes(data))
    except NotDicom:
        return
