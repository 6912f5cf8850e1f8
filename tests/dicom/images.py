"""Images for tests of pixels: any layout, made by pydicom, native in any syntax."""

from __future__ import annotations

import io
import random

from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset

from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import EXPLICIT_LE
from tests.dicom.samples import read


def image(pixels: bytes | None = None, **values: object) -> Dataset:
    """Return an image of 5 rows and 6 columns, 16 bits of noise, with changes."""
    made = Dataset()
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    made.SOPInstanceUID = "1.2.3.4.5"
    made.ImageType = ["ORIGINAL", "PRIMARY"]
    made.PatientID = "P1"
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.Rows = 5
    made.Columns = 6
    made.BitsAllocated = 16
    made.BitsStored = values.get("BitsAllocated", 16)
    made.PixelRepresentation = 0
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made.HighBit = int(made.BitsStored) - 1
    if pixels is None:
        samples = 2 if made.PhotometricInterpretation == "YBR_FULL_422" else made.SamplesPerPixel
        bits = made.Rows * made.Columns * samples * made.BitsAllocated
        bits *= int(made.get("NumberOfFrames") or 1)
        pixels = random.Random(1).randbytes((bits + 7) // 8)
    made.PixelData = pixels + b"\0" * (len(pixels) % 2)
    made["PixelData"].VR = "OW" if made.BitsAllocated > 8 else "OB"
    return made


def data_of(made: Dataset, syntax: str = EXPLICIT_LE) -> bytes:
    """Return an image as data set in a native syntax, converted by dgate where need be."""
    buffer = io.BytesIO()
    stream = DicomIO(buffer)
    stream.is_implicit_VR = False
    stream.is_little_endian = True
    write_dataset(stream, made)
    data = buffer.getvalue()
    return data if syntax == EXPLICIT_LE else convert(data, EXPLICIT_LE, syntax)


def table_of(made: Dataset, syntax: str = EXPLICIT_LE) -> ElementTable:
    """Return an image as element table."""
    return ElementTable(data_of(made, syntax), syntax)


def judged(table: ElementTable) -> Dataset:
    """Return what pydicom reads of an object as it is now."""
    return read(file_meta("1.2", "1.2", table.syntax) + table.tobytes())


LAYOUTS: dict[str, dict[str, object]] = {
    "8 bits": {"BitsAllocated": 8},
    "16 bits": {},
    "16 bits signed": {"PixelRepresentation": 1},
    "32 bits": {"BitsAllocated": 32},
    "odd": {"BitsAllocated": 8, "Rows": 3, "Columns": 3},
    "frames": {"NumberOfFrames": 4},
    "odd frames": {"BitsAllocated": 8, "Rows": 3, "Columns": 3, "NumberOfFrames": 3},
    "colour by pixel": {
        "BitsAllocated": 8,
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
    },
    "colour by plane": {
        "BitsAllocated": 8,
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 1,
        "NumberOfFrames": 2,
    },
    "colour of 16 bits": {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
    },
}
"""What RLE can hold."""
BITS: dict[str, object] = {"BitsAllocated": 1, "NumberOfFrames": 5, "Rows": 3, "Columns": 3}
"""Single bits, frames without a gap between them: what RLE cannot hold."""
