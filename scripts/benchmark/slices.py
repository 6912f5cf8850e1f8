"""What de-identification costs: CT slices per second of CPU time of one thread.

For objects with 250 header elements and 512 kB of pixels (rulings, Measuring): scan, de-identify,
and the whole result put together, pixels copied once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.dicom.deidentify import Deidentifier, Profile, Pseudonyms
from dgate.dicom.deidentify.annex_e import BASIC, tags
from dgate.dicom.deidentify.known import KNOWN
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from scripts.benchmark.loads import encoded

OBJECTS = 60
ELEMENTS = 250
_VALUES = {"DA": "20260102", "TM": "101112", "DT": "20260102101112", "CS": "VALUE", "IS": "7",
           "DS": "1.5", "US": 3, "FD": 1.5, "FL": 1.5, "LO": "Some text", "SH": "Text", "UL": 7,
           "PN": "Miller^Ann", "ST": "Some longer text", "LT": "Some longer text", "AE": "SCANNER",
           "UI": "1.2.826.0.1.77"}  # fmt: skip


def slice_of_ct(number: int) -> bytes:
    """Return a CT data set: what identifies, what is kept, sequences, private elements, pixels."""
    made = Dataset()
    made.PatientName, made.PatientID, made.PatientBirthDate = "HEAD^EXP2", "0009703828", "19700101"
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.826.0.1.5.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.826.0.1.2", "1.2.826.0.1.3"
    made.Modality, made.Rows, made.Columns, made.BitsAllocated = "CT", 512, 512, 16
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    reference.ReferencedSOPInstanceUID = "1.2.826.0.1.9"
    made.ReferencedImageSequence = Sequence([reference, reference, reference])
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "T-D1213", "SRT", "Chest"
    made.ProcedureCodeSequence = Sequence([code])
    made.add_new(0x00090010, "LO", "GEMS_IDEN_01")
    for element in range(0x1001, 0x1021):
        made.add_new(0x00090000 | element, "LO", "private text")
    removed = [tag for table in BASIC.values() for tag in tags(table)]
    for pool, share in ((removed, 110), (list(tags(KNOWN)), ELEMENTS - len(made) - 111)):
        _fill(made, pool, len(made) + share)
    made.add_new(0x7FE00010, "OW", bytes(512 * 512 * 2))
    return encoded(made)


def _fill(made: Dataset, pool: list[int], size: int) -> None:
    for tag in pool:
        if len(made) >= size:
            return
        if tag in (0x00080064, 0x00280301):  # They would hold the object back.
            continue
        if 0x00080008 <= tag < 0x00500000 and tag not in made and dictionary_VR(tag) in _VALUES:
            made.add_new(tag, dictionary_VR(tag), _VALUES[dictionary_VR(tag)])


def slices_per_second(profile: Profile) -> Callable[[int], list[float]]:
    """Return what measures so many rounds with a profile."""

    def measure(rounds: int) -> list[float]:
        objects = [slice_of_ct(number) for number in range(OBJECTS)]
        deidentifier, pseudonyms = Deidentifier(profile), Pseudonyms(bytes(range(32)), "bench")
        found = []
        for _ in range(rounds):
            start = time.thread_time()
            for data in objects:
                table = ElementTable(data, EXPLICIT_LE)
                deidentifier.apply(table, pseudonyms)
                table.tobytes()
            found.append(len(objects) / (time.thread_time() - start))
        return found

    return measure
