"""Makes DICOM files for tests and for the benchmark: the same seed gives the same bytes.

One template per kind is written with pydicom; each object is that template with values of the same
length put in, so ten thousand objects cost a second. Not for odd or broken objects: tests write
those themselves. Every function may be called from any thread.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

UID_ROOT = "1.2.826.0.1.3680043.8.498"


class Kind(Enum):
    """What an object looks like: SOP class, modality, rows, columns."""

    SMALL = (MRImageStorage, "MR", 32, 42)
    CT = (CTImageStorage, "CT", 512, 512)
    LARGE = (CTImageStorage, "CT", 1024, 768)
    """1.5 MiB of pixels: more than is kept in memory while an object arrives."""

    @property
    def sop_class(self) -> str:
        """Return the SOP class UID."""
        return str(self.value[0])


@dataclass(frozen=True, slots=True)
class Plan:
    """How many objects a set has and how they are spread over patients, studies and series."""

    count: int
    kind: Kind = Kind.SMALL
    seed: int = 0
    per_series: int = 10
    series_per_study: int = 1
    studies_per_patient: int = 1


@dataclass(frozen=True, slots=True)
class Generated:
    """One object that was written, with the values a test asks for again."""

    path: Path
    sop_class: str
    sop_instance: str
    study: str
    series: str
    patient_id: str


@dataclass(frozen=True, slots=True)
class _Names:
    sop_instance: str
    study: str
    series: str
    patient_id: str
    number: int


def write_files(folder: Path, plan: Plan) -> list[Generated]:
    """Write the plan's objects into the folder as Part 10 files 000000.dcm, 000001.dcm, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for names, content in _objects(plan):
        path = folder / f"{names.number:06d}.dcm"
        path.write_bytes(content)
        written.append(_generated(path, plan.kind, names))
    return written


def data_set_of(part10: bytes) -> bytes:
    """Return what follows preamble and file meta group: the bytes that travel in a C-STORE."""
    if part10[128:132] != b"DICM":
        raise ValueError("not a Part 10 file")
    # (0002,0000) comes first: 4 bytes tag, 2 VR, 2 length, then the length of the rest.
    group_length = int.from_bytes(part10[140:144], "little")
    return part10[144 + group_length :]


def _generated(path: Path, kind: Kind, names: _Names) -> Generated:
    return Generated(
        path, kind.sop_class, names.sop_instance, names.study, names.series, names.patient_id
    )


def _objects(plan: Plan) -> Iterator[tuple[_Names, bytes]]:
    template_names = _names(plan, -1)
    template = _template(plan.kind, template_names)
    head, pixels = template[: -_pixel_bytes(plan.kind)], _pixel_bytes(plan.kind)
    noise = random.Random(plan.seed)
    for number in range(plan.count):
        names = _names(plan, number)
        content = head
        for old, new in (
            (template_names.sop_instance, names.sop_instance),
            (template_names.series, names.series),
            (template_names.study, names.study),
            (template_names.patient_id, names.patient_id),
            (_instance_number(template_names), _instance_number(names)),
        ):
            content = content.replace(old.encode(), new.encode())
        yield names, content + noise.randbytes(pixels)


def _names(plan: Plan, number: int) -> _Names:
    """Name the object with this number; every number of a plan gives texts of the same length.

    Number -1 is the template. No text is part of another one, so that replacing each is safe.
    """
    series = number // plan.per_series if number >= 0 else 800_000
    study = series // plan.series_per_study if number >= 0 else 800_000
    patient = study // plan.studies_per_patient if number >= 0 else 800_000
    instance = number if number >= 0 else 800_000
    root = f"{UID_ROOT}.{1000 + plan.seed}"
    return _Names(
        sop_instance=f"{root}.1.{100_000 + instance}",
        study=f"{root}.2.{100_000 + study}",
        series=f"{root}.3.{100_000 + series}",
        patient_id=f"P{plan.seed:03d}-{patient:06d}",
        number=number,
    )


def _instance_number(names: _Names) -> str:
    """Return six digits; the template's stand nowhere else in its header."""
    return f"{100_000 + names.number:06d}" if names.number >= 0 else "777777"


def _pixel_bytes(kind: Kind) -> int:
    _, _, rows, columns = kind.value
    return rows * columns * 2


def _template(kind: Kind, names: _Names) -> bytes:
    data_set = _header(kind, names)
    data_set.PixelData = bytes(_pixel_bytes(kind))
    data_set["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind.sop_class
    meta.MediaStorageSOPInstanceUID = names.sop_instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.file_meta = meta
    buffer = io.BytesIO()
    dcmwrite(buffer, data_set, enforce_file_format=True)
    return buffer.getvalue()


def _header(kind: Kind, names: _Names) -> Dataset:
    sop_class, modality, rows, columns = kind.value
    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 100"
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.SOPClassUID = sop_class
    data_set.SOPInstanceUID = names.sop_instance
    data_set.StudyDate = "20260314"
    data_set.SeriesDate = "20260314"
    data_set.ContentDate = "20260314"
    data_set.StudyTime = "101500"
    data_set.SeriesTime = "101730"
    data_set.ContentTime = "101732"
    data_set.AccessionNumber = "A4711"
    data_set.Modality = modality
    data_set.Manufacturer = "Example Imaging"
    data_set.InstitutionName = "Hospital of the Test"
    data_set.ReferringPhysicianName = "Referrer^Rita"
    data_set.StationName = "ROOM1"
    data_set.StudyDescription = "Head routine"
    data_set.SeriesDescription = "1.0 mm axial"
    data_set.ManufacturerModelName = "Model 1"
    data_set.PatientName = "Doe^Jane"
    data_set.PatientID = names.patient_id
    data_set.PatientBirthDate = "19700101"
    data_set.PatientSex = "F"
    data_set.PatientAge = "056Y"
    data_set.BodyPartExamined = "HEAD"
    data_set.SliceThickness = "1.0"
    data_set.ProtocolName = "Head"
    data_set.PatientPosition = "HFS"
    data_set.StudyInstanceUID = names.study
    data_set.SeriesInstanceUID = names.series
    data_set.StudyID = "1"
    data_set.SeriesNumber = "2"
    data_set.InstanceNumber = _instance_number(names)
    data_set.ImagePositionPatient = ["-120.0", "-120.0", "10.0"]
    data_set.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data_set.FrameOfReferenceUID = f"{UID_ROOT}.9"
    data_set.SliceLocation = "10.0"
    data_set.SamplesPerPixel = 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.Rows = rows
    data_set.Columns = columns
    data_set.PixelSpacing = ["0.47", "0.47"]
    data_set.BitsAllocated = 16
    data_set.BitsStored = 12
    data_set.HighBit = 11
    data_set.PixelRepresentation = 0
    data_set.WindowCenter = "40"
    data_set.WindowWidth = "400"
    data_set.RescaleIntercept = "-1024"
    data_set.RescaleSlope = "1"
    return data_set
