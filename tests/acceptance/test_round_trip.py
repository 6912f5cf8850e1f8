"""Byte for byte: every file that pydicom ships goes in and comes out again the same."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.rawdicom import STUDY_ROOT_GET, VERIFICATION, Offer, RawAssociation

SHIPPED = Path(pydicom.__file__).parent / "data"
NOT_DATA = {".py", ".pyc", ".json", ".txt", ".md", ".ini", ".yaml", ".xml"}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
FAILURES = (*range(0xA900, 0xAA00), *range(0xC000, 0xD000))


@dataclass(frozen=True, slots=True)
class Shipped:
    """A file that pydicom ships, taken apart as far as sending it needs."""

    path: Path
    syntax: str
    data: bytes
    sop_class: str
    sop_instance: str
    study: str
    series: str
    patient: str

    @property
    def name(self) -> str:
        """Return a readable test name."""
        return str(self.path.relative_to(SHIPPED))

    @property
    def is_complete(self) -> bool:
        """Tell whether the data set names its SOP class and instance."""
        return bool(self.sop_class and self.sop_instance)

    def clashes_with(self, other: Shipped) -> bool:
        """Tell whether an archive that holds the other refuses or replaces one with this."""
        return (
            self.sop_instance == other.sop_instance
            or (self.study == other.study and self.patient != other.patient)
            or (
                self.series == other.series
                and (self.study, self.patient) != (other.study, other.patient)
            )
        )


def shipped_files() -> Iterator[Shipped]:
    """Read every data file below pydicom's data folder, those that are not DICOM too."""
    for path in sorted(SHIPPED.rglob("*")):
        if path.is_file() and path.suffix not in NOT_DATA:
            yield take_apart(path)


def take_apart(path: Path) -> Shipped:
    """Split a file into meta information and data set."""
    content = path.read_bytes()
    data_set = Dataset()
    with warnings.catch_warnings():
        # The files are shipped because they are odd; pydicom says so for most of them.
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    if content[128:132] == b"DICM":
        offset = end_of_meta(content)
        syntax = str(data_set.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian)
    else:
        offset = 0
        syntax = guessed_syntax(data_set)
    return Shipped(
        path,
        syntax,
        content[offset:],
        sop_class=str(data_set.get("SOPClassUID") or ""),
        sop_instance=str(data_set.get("SOPInstanceUID") or ""),
        study=str(data_set.get("StudyInstanceUID") or path),
        series=str(data_set.get("SeriesInstanceUID") or path),
        patient=str(data_set.get("PatientID") or "").strip(),
    )


def guessed_syntax(data_set: Dataset) -> str:
    """Return the syntax that pydicom found a file without meta information to have."""
    is_implicit, is_little_endian = data_set.original_encoding
    if is_implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian)


def end_of_meta(content: bytes) -> int:
    """Walk over group 0002, whose length element some files lack."""
    offset = 132
    while content[offset : offset + 2] == b"\x02\x00":
        vr = content[offset + 4 : offset + 6]
        if vr in (b"OB", b"UN"):
            offset += 12 + struct.unpack_from("<I", content, offset + 8)[0]
        else:
            offset += 8 + struct.unpack_from("<H", content, offset + 6)[0]
    return offset


FILES = tuple(shipped_files())
# Its last sequence ends before it is as long as it says: a broken object, and refused as such.
CUT_OFF = "test_files/rtplan_truncated.dcm"
COMPLETE = tuple(one for one in FILES if one.is_complete and one.name != CUT_OFF)
OTHERS = tuple(one for one in FILES if not one.is_complete)


def groups_without_clashes() -> list[list[Shipped]]:
    """Spread the complete files so that each group fits into one archive."""
    groups = list[list[Shipped]]()
    for one in COMPLETE:
        for group in groups:
            if not any(one.clashes_with(other) for other in group):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


GROUPS = groups_without_clashes()


def differs_by_generated_uids_only(stored: bytes, sent: bytes) -> bool:
    """Tell whether the stored data set is the sent one with one stretch of bytes put in."""
    added = len(stored) - len(sent)
    if added <= 0:
        return False
    same = next(
        (n for n, (a, b) in enumerate(zip(stored, sent, strict=False)) if a != b), len(sent)
    )
    return sent[same:] == stored[same + added :]


def store_and_fetch(gateway: Gateway, one: Shipped) -> str:
    """Send a file, fetch it in the same syntax, and return what is wrong, '' for nothing."""
    offers = [
        Offer(one.sop_class, (one.syntax,), scp_role=True),
        Offer(STUDY_ROOT_GET),
    ]
    with RawAssociation.open(gateway.port, offers) as association:
        reply = association.store(one.sop_class, one.sop_instance, one.data)
        if reply.status != 0:
            return f"{one.name}: status {reply.status:04X} {reply.comment}"
        keys = {0x00080052: "IMAGE", 0x00080018: one.sop_instance}
        received, final = association.get(keys)
    if final.status != 0 or len(received) != 1:
        return f"{one.name}: C-GET ended with {final.status:04X}, {len(received)} objects"
    if received[0].syntax != one.syntax:
        return f"{one.name}: came back as {received[0].syntax} instead of {one.syntax}"
    data = received[0].data
    lacks_uids = str(one.path) in (one.study, one.series)
    if data == one.data or (lacks_uids and differs_by_generated_uids_only(data, one.data)):
        return ""
    return f"{one.name}: {len(one.data)} bytes went in, {len(data)} other bytes came out"


@pytest.fixture
def open_gateway(farm: Farm) -> Gateway:
    """Return a server that accepts every SOP class and transfer syntax."""
    gateway = farm.gateway(start=False)
    (gateway.folder / "dgatesop.lst").unlink()
    return gateway.start()


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_the_same_bytes_come_out_that_went_in(open_gateway: Gateway, number: int) -> None:
    problems = [store_and_fetch(open_gateway, one) for one in GROUPS[number]]

    assert [problem for problem in problems if problem] == []


def test_bytes_are_the_same_after_a_restart(open_gateway: Gateway) -> None:
    kept = GROUPS[0][:40]
    for one in kept:
        assert store_and_fetch(open_gateway, one) == ""

    open_gateway.restart()

    contents = [path.read_bytes() for path in open_gateway.stored_files()]
    stored = {content[end_of_meta(content) :] for content in contents}
    assert len(contents) == len(kept)
    missing = [one.name for one in kept if one.data not in stored]
    assert all(str(one.path) in (one.study, one.series) for one in kept if one.name in missing)


def test_files_without_identity_are_refused_and_leave_nothing(open_gateway: Gateway) -> None:
    problems = []
    for one in OTHERS:
        offers = [Offer(SECONDARY_CAPTURE, (one.syntax,)), Offer(VERIFICATION)]
        with RawAssociation.open(open_gateway.port, offers) as association:
            reply = association.store(SECONDARY_CAPTURE, generate_uid(), one.data)
            if reply.status not in FAILURES or not reply.comment:
                problems.append(f"{one.name}: {reply.status:04X} {reply.comment!r}")
            assert association.echo().status == 0

    assert problems == []
    assert open_gateway.stored_files() == []


def test_a_file_that_is_cut_off_is_refused_and_leaves_nothing(open_gateway: Gateway) -> None:
    (one,) = (one for one in FILES if one.name == CUT_OFF)

    with RawAssociation.open(open_gateway.port, [Offer(one.sop_class, (one.syntax,))]) as caller:
        reply = caller.store(one.sop_class, one.sop_instance, one.data)

    assert reply.status in range(0xC000, 0xD000)
    assert reply.comment
    assert open_gateway.stored_files() == []


def test_pydicom_ships_what_this_file_was_written_for() -> None:
    assert len(COMPLETE) > 150
    assert len(OTHERS) > 15
    assert len({one.syntax for one in COMPLETE}) > 10
