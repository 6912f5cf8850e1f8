"""The data that the benchmark sends: made once per run, the same on every machine."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from tests.generate import UID_ROOT, Generated, Kind, Plan, write_files

SMALL = Plan(2000, Kind.SMALL, seed=1)
"""2,000 objects of 4 kB: 200 patients with one study of ten images each."""

CT = Plan(400, Kind.CT, seed=2, per_series=100, series_per_study=4)
"""One study of 400 CT slices of 512 kB in four series."""

WAYS = 4
"""How many associations the parallel works use."""


@dataclass(frozen=True, slots=True)
class Load:
    """A set of files, whole and dealt out to the parallel senders."""

    folder: Path
    items: list[Generated]
    parts: list[Path]

    @classmethod
    def make(cls, folder: Path, plan: Plan) -> Load:
        """Write the files, and one folder of links to every fourth file per sender."""
        items = write_files(folder / "all", plan)
        parts = []
        for way in range(WAYS):
            part = folder / f"part{way}"
            part.mkdir()
            for item in items[way::WAYS]:
                (part / item.path.name).hardlink_to(item.path)
            parts.append(part)
        return cls(folder / "all", items, parts)


def encoded(data_set: Dataset) -> bytes:
    """Return a data set in explicit VR little endian."""
    buffer = io.BytesIO()
    dcmwrite(buffer, data_set, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def write_queries(folder: Path, items: list[Generated], count: int) -> list[Path]:
    """Write study queries by patient ID, one file each, for different patients."""
    folder.mkdir()
    patients = sorted({item.patient_id for item in items})[:count]
    paths = []
    for patient_id in patients:
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        query.PatientID = patient_id
        query.PatientName = ""
        query.StudyInstanceUID = ""
        query.StudyDate = ""
        query.StudyDescription = ""
        query.file_meta = FileMetaDataset()
        query.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{patient_id}.dcm"
        dcmwrite(path, query, enforce_file_format=False)
        paths.append(path)
    return paths


@dataclass(frozen=True, slots=True)
class Huge:
    """A multi-frame object that is never whole in this process's memory."""

    sop_class: str = "1.2.840.10008.5.1.4.1.1.7.3"
    sop_instance: str = f"{UID_ROOT}.4096.1"
    study: str = f"{UID_ROOT}.4096.2"
    frames: int = 4096

    def chunks(self) -> Iterator[bytes]:
        """Yield the data set: a header, then 2 GiB of pixels, 1 MiB at a time."""
        size = self.frames * 512 * 512 * 2
        # (7FE0,0010) OW with its length: too much to hand to pydicom.
        yield self._header() + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size)
        block = random.Random(3).randbytes(1 << 20)
        for _ in range(size >> 20):
            yield block

    def checksum(self) -> int:
        """Return the CRC-32 of the whole data set."""
        value = 0
        for chunk in self.chunks():
            value = zlib.crc32(chunk, value)
        return value

    def _header(self) -> bytes:
        data_set = Dataset()
        data_set.SOPClassUID = self.sop_class
        data_set.SOPInstanceUID = self.sop_instance
        data_set.Modality = "OT"
        data_set.PatientName = "Huge^Object"
        data_set.PatientID = "HUGE"
        data_set.StudyInstanceUID = self.study
        data_set.SeriesInstanceUID = f"{UID_ROOT}.4096.3"
        data_set.SamplesPerPixel = 1
        data_set.PhotometricInterpretation = "MONOCHROME2"
        data_set.NumberOfFrames = self.frames
        data_set.Rows = 512
        data_set.Columns = 512
        data_set.BitsAllocated = 16
        data_set.BitsStored = 16
        data_set.HighBit = 15
        data_set.PixelRepresentation = 0
        return encoded(data_set)
