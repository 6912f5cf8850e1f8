"""What tests of de-identification share: objects from pydicom, and profiles in a few words."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from dgate.dicom.deidentify import (
    Clean,
    Deidentifier,
    Masks,
    Profile,
    Pseudonyms,
    Replaced,
    Retain,
    SafeList,
)
from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE

SECRET = bytes(range(32))
TABLE = Path(__file__).parents[2] / "data" / "deidentify" / "table-e1-1.csv"
SYNTAXES = (EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE)
KEPT_SEQUENCE = 0x52009229
"""Shared Functional Groups: no row of the table, so its items are gone through."""


def rows() -> Iterator[dict[str, str]]:
    """Yield the rows of table E.1-1."""
    with TABLE.open(newline="") as file:
        yield from csv.DictReader(file)


def profile(*words: str, **more: object) -> Profile:
    """Return a profile by the words of its options."""
    retain = {option.value: option for option in Retain}
    clean = {option.value: option for option in Clean}
    if "safe-private" in words:
        more.setdefault("safe_list", SafeList.shipped())
    if "pixels" in words:
        more.setdefault("masks", Masks())
    return Profile(
        frozenset(retain[word] for word in words if word in retain),
        frozenset(clean[word] for word in words if word in clean),
        **more,  # type: ignore[arg-type]
    )


def data_set(**values: object) -> Dataset:
    """Return a small CT object."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    made.SOPInstanceUID = "1.2.826.0.1.5"
    made.StudyInstanceUID = "1.2.826.0.1.2"
    made.SeriesInstanceUID = "1.2.826.0.1.3"
    made.Modality = "CT"
    made.PatientName = "Zumsteg^Quirin"
    made.PatientID = "PAT-4711"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def encoded(made: Dataset, syntax: str = EXPLICIT_LE) -> bytes:
    """Return the bytes of a data set."""
    buffer = io.BytesIO()
    stream = DicomIO(buffer)
    stream.is_implicit_VR = syntax == IMPLICIT_LE
    stream.is_little_endian = syntax != EXPLICIT_BE
    write_dataset(stream, made)
    return buffer.getvalue()


def read(data: bytes, syntax: str = EXPLICIT_LE) -> Dataset:
    """Return what pydicom reads from the bytes of a data set."""
    return dcmread(io.BytesIO(file_meta("1.2", "1.2.3", syntax) + data))


def run(
    data: bytes, chosen: Profile | None = None, syntax: str = EXPLICIT_LE, stage: str = ""
) -> tuple[ElementTable, Replaced]:
    """De-identify an encoded object."""
    table = ElementTable(data, syntax)
    chosen = chosen or profile()
    # Thousands of tests use a few profiles; a list of safe elements has no hash.
    deidentifier = Deidentifier(chosen) if chosen.safe_list else _prepared(chosen)
    return table, deidentifier.apply(table, Pseudonyms(SECRET, stage))


@functools.lru_cache(maxsize=64)
def _prepared(chosen: Profile) -> Deidentifier:
    return Deidentifier(chosen)


def deidentified(
    made: Dataset, *words: str, syntax: str = EXPLICIT_LE, stage: str = "", **more: object
) -> Dataset:
    """Return an object de-identified, as pydicom reads it."""
    table, _ = run(encoded(made, syntax), profile(*words, **more), syntax, stage)
    return read(table.tobytes(), table.syntax)


def nested(inner: Dataset) -> Dataset:
    """Return an object with a data set two levels down in sequences that are kept."""
    middle = Dataset()
    middle.add_new(KEPT_SEQUENCE, "SQ", Sequence([inner]))
    made = data_set()
    made.add_new(KEPT_SEQUENCE, "SQ", Sequence([middle]))
    return made


def innermost(result: Dataset) -> Dataset:
    """Return the data set that `nested` put there."""
    inner = result[KEPT_SEQUENCE].value[0][KEPT_SEQUENCE].value[0]
    assert isinstance(inner, Dataset)
    return inner
