"""What rules and Lua cost: CPU time of one thread, per object or per image (rulings, Measuring).

The scan of an object is excluded except where it is named.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import cast

from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset

from dgate.clock import Clock, SystemClock
from dgate.config.settings import ConverterText, Filters, default_settings
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.rules.effects import Captured
from dgate.rules.hooks import Rules, capture
from dgate.rules.run import Environment, Run
from dgate.rules.session import Session
from scripts.benchmark.loads import encoded

OBJECTS = 10_000

Rounds = list[float]
Measure = Callable[[int], Rounds]
"""Measures so many rounds."""

SETTING = 'ifequal "%m", "CT"; { set InstitutionName to "Site A"; set 0018,1030 if "%V0008,103e"; }'
LUA = (
    "local name, id, modality, rows, station = Data.PatientName, Data.PatientID, Data.Modality, "
    "Data.Rows, Data.StationName "
    "if modality == 'CT' then Data.InstitutionName = 'Site A' Data.PatientComments = id .. rows end"
)
ROUTING = 'ifequal "%m", "CT"; forward to ARCHIVE org GATE'


class Outside:
    """An environment that gives constants."""

    own_ae = "DGATE"
    clock: Clock = SystemClock()

    def new_uid(self) -> str:
        """Return a constant."""
        return "1.2.3"

    def file_name(self, table: ElementTable) -> PurePath:
        """Return a constant."""
        return PurePath("/data/1.dcm")

    def sql_filter(self, condition: str, captured: Captured) -> bool:
        """Let everything pass."""
        return True


def object_of_4_kb() -> bytes:
    """Return a CT data set of about 4 kB with 41 elements, explicit little endian."""
    made = Dataset()
    texts = {
        "SpecificCharacterSet": "ISO_IR 100", "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SOPInstanceUID": "1.2.826.0.1.5",
        "StudyDate": "20260102", "SeriesDate": "20260102", "AcquisitionDate": "20260102",
        "ContentDate": "20260102", "StudyTime": "101112", "SeriesTime": "101113",
        "ContentTime": "101114", "AccessionNumber": "A1", "Modality": "CT",
        "Manufacturer": "Dgate Works", "InstitutionName": "Hospital", "StationName": "ROOM1",
        "StudyDescription": "Head routine", "SeriesDescription": "Axial 5 mm",
        "ManufacturerModelName": "Model 5", "PatientName": "HEAD^EXP2", "PatientID": "0009703828",
        "PatientBirthDate": "19700101", "PatientSex": "O", "PatientAge": "056Y",
        "SliceThickness": "5", "KVP": "120", "ProtocolName": "Head", "PatientPosition": "HFS",
        "StudyInstanceUID": "1.2.826.0.1.2", "SeriesInstanceUID": "1.2.826.0.1.3",
        "StudyID": "1", "SeriesNumber": "2", "InstanceNumber": "3",
        "PhotometricInterpretation": "MONOCHROME2",
    }  # fmt: skip
    numbers = {"Rows": 40, "Columns": 40, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    for keyword, value in {**texts, **numbers, "SamplesPerPixel": 1}.items():
        setattr(made, keyword, value)
    made.add_new(0x7FE00010, "OW", bytes(3200))
    return encoded(made)


def rules(family: str, *lines: str, lua: bool = False, **filters: str) -> Rules:
    """Compile lines."""
    converters = tuple(
        ConverterText(family, number, line, lua, Filters(**filters), where="bench")
        for number, line in enumerate(lines)
    )
    return Rules.build(default_settings(Path("/nonexistent"), converters=converters))


def objects_us(work: Callable[[ElementTable], object], data: bytes) -> Measure:
    """Return what measures a work on freshly scanned objects, in microseconds an object."""

    def measure(rounds: int) -> Rounds:
        found = []
        for _ in range(rounds):
            tables = [ElementTable(data, EXPLICIT_LE) for _ in range(OBJECTS)]
            start = time.thread_time()
            for table in tables:
                work(table)
            found.append((time.thread_time() - start) / OBJECTS * 1e6)
        return found

    return measure


PIXEL_LOOP = """
for y = 0, Data.Rows - 1 do
  for x = 0, Data.Columns - 1 do
    local v = Data:GetPixel(x, y)
    if v > 1000 then v = 1000 end
    Data:SetPixel(x, y, 0, v)
  end
end
"""
_SIZE = 512


def image() -> bytes:
    """Return an object of 512 x 512 values of 16 bits."""
    made = Dataset()
    made.Rows = made.Columns = _SIZE
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.SamplesPerPixel, made.PixelRepresentation = 1, 0
    made.PhotometricInterpretation = "MONOCHROME2"
    values = (number * 7 % 4096 for number in range(_SIZE * _SIZE))
    made.add_new(0x7FE00010, "OW", b"".join(value.to_bytes(2, "little") for value in values))
    buffer = io.BytesIO()
    stream = DicomIO(buffer)
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_dataset(stream, made)
    return buffer.getvalue()


def pixel_loop_ms(rounds: int) -> Rounds:
    """Measure reading and writing every pixel of an image in Lua, with the frame on its way into
    Lua and back, in milliseconds an image."""
    data = image()
    session, environment = Session(), cast(Environment, Outside())
    library = rules("Import").library
    found = []
    for _ in range(rounds):
        table = ElementTable(data, EXPLICIT_LE)
        run = Run(table, capture(table, "SCANNER", "DGATE"), environment, session=session)
        start = time.thread_time()
        library.lua.run(run, library, PIXEL_LOOP.encode(), "=bench")
        found.append((time.thread_time() - start) * 1e3)
    session.close()
    return found


class Stages:
    """The rule stages, over one object of 4 kB."""

    def __init__(self) -> None:
        self.data = object_of_4_kb()
        self._outside = Outside()
        self._captured = capture(ElementTable(self.data, EXPLICIT_LE), "SCANNER", "DGATE")
        self._session = Session("SCANNER", "DGATE")

    def scan(self) -> Measure:
        """Return what measures the scan that all others leave out."""
        return objects_us(lambda table: ElementTable(self.data, EXPLICIT_LE), self.data)

    def importing(
        self, *lines: str, lua: bool = False, written: bool = False, **filters: str
    ) -> Measure:
        """Return what measures import lines; `written`: with the changed object put together."""
        made = rules("Import", *lines, lua=lua, **filters)

        def work(table: ElementTable) -> None:
            made.run_import(table, self._captured, self._outside, self._session)
            if written:
                table.tobytes()

        return objects_us(work, self.data)

    def exporting(self, *lines: str, **filters: str) -> Measure:
        """Return what measures export lines when an object is stored."""
        made = rules("Export", *lines, **filters)
        return objects_us(
            lambda table: made.plan_exports(table, self._captured, self._outside), self.data
        )
