"""Measure what rules cost per object: `python scripts/bench_rules.py` prints medians.

CPU time of one thread over 10,000 objects; the scan of the object is excluded except where named.
Not a test: the numbers depend on the machine.
"""

from __future__ import annotations

import io
import statistics
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

ROUNDS = 7
OBJECTS = 10_000

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
    buffer = io.BytesIO()
    stream = DicomIO(buffer)
    stream.is_implicit_VR = False
    stream.is_little_endian = True
    write_dataset(stream, made)
    return buffer.getvalue()


def rules(family: str, *lines: str, lua: bool = False, **filters: str) -> Rules:
    """Compile lines."""
    converters = tuple(
        ConverterText(family, number, line, lua, Filters(**filters), where="bench")
        for number, line in enumerate(lines)
    )
    return Rules.build(default_settings(Path("/nonexistent"), converters=converters))


def median_us(work: Callable[[ElementTable], object], data: bytes) -> float:
    """Return the median time of `work` on a freshly scanned object, in microseconds."""
    rounds = []
    for _ in range(ROUNDS):
        tables = [ElementTable(data, EXPLICIT_LE) for _ in range(OBJECTS)]
        start = time.thread_time()
        for table in tables:
            work(table)
        rounds.append((time.thread_time() - start) / OBJECTS)
    return statistics.median(rounds) * 1e6


PIXEL_LOOP = """
for y = 0, Data.Rows - 1 do
  for x = 0, Data.Columns - 1 do
    local v = Data:GetPixel(x, y)
    if v > 1000 then v = 1000 end
    Data:SetPixel(x, y, 0, v)
  end
end
"""


def pixel_loop_ms() -> float:
    """Return the median CPU time of reading and writing every pixel of a 512 x 512 image in Lua,
    with the frame on its way into Lua and back, in milliseconds."""
    size = 512
    image = Dataset()
    image.Rows = image.Columns = size
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.SamplesPerPixel, image.PixelRepresentation = 1, 0
    image.PhotometricInterpretation = "MONOCHROME2"
    values = (number * 7 % 4096 for number in range(size * size))
    image.add_new(0x7FE00010, "OW", b"".join(value.to_bytes(2, "little") for value in values))
    buffer = io.BytesIO()
    stream = DicomIO(buffer)
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_dataset(stream, image)
    session, environment = Session(), cast(Environment, Outside())
    library = rules("Import").library
    rounds = []
    for _ in range(ROUNDS):
        table = ElementTable(buffer.getvalue(), EXPLICIT_LE)
        run = Run(table, capture(table, "SCANNER", "DGATE"), environment, session=session)
        start = time.process_time()
        library.lua.run(run, library, PIXEL_LOOP.encode(), "=bench")
        rounds.append(time.process_time() - start)
    session.close()
    return statistics.median(rounds) * 1e3


def main() -> None:
    """Print the table."""
    data = object_of_4_kb()
    outside = Outside()
    captured = capture(ElementTable(data, EXPLICIT_LE), "SCANNER", "DGATE")

    def importing(*lines: str, **filters: str) -> Callable[[ElementTable], object]:
        made = rules("Import", *lines, **filters)
        return lambda table: made.run_import(table, captured, outside)

    session = Session("SCANNER", "DGATE")
    lua_rules = rules("Import", LUA, lua=True)

    def run_lua(table: ElementTable) -> object:
        return lua_rules.run_import(table, captured, outside, session)

    def exporting(*lines: str, **filters: str) -> Callable[[ElementTable], object]:
        made = rules("Export", *lines, **filters)
        return lambda table: made.plan_exports(table, captured, outside)

    other = dict(modality="MR", calling="OTHER*")
    set_rules = rules("Import", SETTING)

    def set_and_write(table: ElementTable) -> int:
        set_rules.run_import(table, captured, outside)
        return len(table.tobytes())

    work = {
        f"scan of {len(data)} bytes": lambda table: ElementTable(data, EXPLICIT_LE),
        "capture": lambda table: capture(table, "SCANNER", "DGATE"),
        "1 import line, filter does not match": importing(SETTING, **other),
        "10 import lines, filters do not match": importing(*[SETTING] * 10, **other),
        "1 import line, test does not match": importing('ifequal "%m", "MR"; reject'),
        "10 import lines, tests do not match": importing(*['ifequal "%m", "MR"; reject'] * 10),
        "import line of 3: test and two sets": importing(SETTING),
        "the same, with the changed object written": set_and_write,
        "Lua hook: reads five elements, sets two": run_lua,
        "1 Lua line, test does not match": importing('ifequal "%m", "MR"; lua "destroy()"'),
        "1 export line, filter does not match": exporting(ROUTING, **other),
        "1 export line, test and forward": exporting(ROUTING),
        "1 export line, deferred": exporting("call nobody"),
    }
    for name, run in work.items():
        print(f"{name:45} {median_us(run, data):8.1f} us")
    print(f"{'GetPixel and SetPixel of 512 x 512 in Lua':45} {pixel_loop_ms():8.1f} ms")


if __name__ == "__main__":
    main()
