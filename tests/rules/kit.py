"""What tests of rules share: one object, an environment in memory, and rules from plain text."""

from __future__ import annotations

import io
import logging
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Sequenced
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from dgate.config.settings import ConverterText, Filters, Settings, default_settings
from dgate.dicom.deidentify import Pseudonyms, Replaced
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import RuleError
from dgate.rules.effects import Captured, ImportVerdict
from dgate.rules.hooks import Rules, capture
from dgate.rules.run import Record

NOON = 1_795_298_517.0
"""Sat Nov 21 2026, 22:01:57 UTC."""


class StillClock:
    """A clock that stands."""

    def now(self) -> float:
        return NOON

    def monotonic(self) -> float:
        return 0.0


class FakeRegister:
    """The in-memory twin of the register of replaced values."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[str, str]] = {}
        """New value and kind, by old value and stage."""
        self.fault: RuleError | None = None
        """What every call raises."""

    def forward(self, old: str, stage: str = "", kind: str = "", proposal: str = "") -> str:
        if self.fault is not None:
            raise self.fault
        if not old:
            return ""
        new = proposal or f"1.2.3.7.{len(self.rows) + 1}"
        return self.rows.setdefault((old, stage), (new, kind))[0]

    def forget(self) -> None:
        """Nothing is remembered beside the rows."""

    def forward_all(self, olds: Mapping[str, str], stage: str = "") -> dict[str, str]:
        return {old: self.forward(old, stage, kind) for old, kind in olds.items()}

    def back(self, new: str, stage: str = "", kind: str = "") -> str | None:
        if self.fault is not None:
            raise self.fault
        for (old, where), row in self.rows.items():
            if where == stage and row[0] == new and kind in ("", row[1]):
                return old
        return None


class FakeFiles:
    """The in-memory twin of the files that rules may touch."""

    def __init__(self) -> None:
        self.content: dict[Path, bytes] = {}
        self.folders: set[Path] = set()
        self.aliases: dict[tuple[str, str], str] = {}
        """New values by the letter of the file and the old value in lower case."""

    def place(self, name: str) -> Path:
        if not name.strip() or "\0" in name:
            raise RuleError("the name of a file is empty or contains a NUL character")
        place = Path(os.path.normpath(Path("/base") / name))
        if not place.is_relative_to("/base") and not place.is_relative_to("/data"):
            raise RuleError(f"{name} leads out of the folders that rules may use")
        return place

    def read(self, name: str) -> bytes:
        try:
            return self.content[self.place(name)]
        except KeyError:
            raise RuleError(f"{name} cannot be read: No such file or directory") from None

    def write(self, name: str, content: bytes, *, append: bool = False) -> None:
        place = self.place(name)
        before = self.content.get(place, b"") if append else b""
        self.content[place] = before + content

    def save(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        self.write(name, b"".join(parts))

    def alias(self, letter: str, value: str) -> str:
        return self.aliases.get((letter, value.lower()), value)

    def copy(self, source: str, target: str) -> None:
        self.write(target, self.read(source))

    def make_folder(self, name: str) -> None:
        self.folders.add(self.place(name))

    def remove(self, name: str) -> None:
        place = self.place(name)
        self.content.pop(place, None)
        # Where a test has given names real places.
        place.unlink(missing_ok=True)

    def to_write(self, name: str) -> Path:
        return self.place(name)

    def rename(self, source: str, target: str) -> None:
        origin, place = self.place(source), self.place(target)
        if origin.exists():
            origin.replace(place)
        else:
            self.content[place] = self.content.pop(origin)

    def temporary(self, extension: str) -> Path:
        return Path(tempfile.gettempdir()) / f"{uuid.uuid4()}{extension}"


class FakePrograms:
    """The twin of programs, which records what was to run."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.status = 0

    def run(self, arguments: Sequenced[str]) -> int:
        self.ran.append(list(arguments))
        return self.status


class FakeDeidentification:
    """The twin of key and table, in memory."""

    def __init__(self, secret: bytes = b"0123456789abcdef") -> None:
        self.secret = secret
        self.kept: list[Replaced] = []
        self.fault: Exception | None = None
        """What every call raises."""

    def pseudonyms(self, stage: str) -> Pseudonyms:
        if self.fault is not None:
            raise self.fault
        return Pseudonyms(self.secret, stage)

    def keep(self, replaced: Replaced) -> None:
        if self.fault is not None:
            raise self.fault
        self.kept.append(replaced)


class FakeEnvironment:
    """The in-memory twin of the seam to archive and gateway."""

    own_ae = "DGATE"

    def __init__(self, *, passes_sql: bool = True) -> None:
        self.clock = StillClock()
        self.uids = FakeRegister()
        self.files = FakeFiles()
        self.programs = FakePrograms()
        self.deidentification = FakeDeidentification()
        self.uids_made = 0
        self.names_made = 0
        self.conditions: list[str] = []
        self.passes_sql = passes_sql
        self.records: dict[tuple[Record, int], str] = {}
        """What `%Q` tokens find."""
        self.objects: dict[tuple[str, str], ElementTable] = {}
        """Stored objects by SOP instance and patient ID."""

    def new_uid(self) -> str:
        self.uids_made += 1
        return f"1.2.3.6.{self.uids_made}"

    def file_name(self, table: ElementTable) -> PurePath:
        self.names_made += 1
        return PurePosixPath("/data/mag0/0009703828") / f"{table.text(0x00080018)}.dcm"

    def sql_filter(self, condition: str, captured: Captured) -> bool:
        self.conditions.append(condition)
        return self.passes_sql

    def record(self, record: Record, table: ElementTable, tag: int) -> str:
        return self.records.get((record, tag), "")

    @contextmanager
    def stored(self, sop_instance: str, patient_id: str) -> Iterator[ElementTable | None]:
        yield self.objects.get((sop_instance, patient_id))


def data_set(**values: object) -> Dataset:
    """Return the object of the conformance trace (spec converters.md section 14), with changes."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    made.SOPInstanceUID = "1.2.3.4.5"
    made.StudyDate = "20260102"
    made.Modality = "CT"
    made.Manufacturer = "Dgate Works"
    made.StationName = "ROOM1"
    made.StudyDescription = "Head routine"
    made.PatientName = "HEAD EXP2"
    made.PatientID = "0009703828"
    made.StudyInstanceUID = "1.2.3.4"
    made.SeriesInstanceUID = "1.2.3.4.6"
    made.Rows = 512
    made.Columns = 256
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def table_of(made: Dataset) -> ElementTable:
    """Return the element table over a data set, explicit little endian."""
    buffer = io.BytesIO()
    stream = DicomIO(buffer)
    stream.is_implicit_VR = False
    stream.is_little_endian = True
    write_dataset(stream, made)
    return ElementTable(buffer.getvalue(), EXPLICIT_LE)


def table(**values: object) -> ElementTable:
    """Return the object of the conformance trace as element table."""
    return table_of(data_set(**values))


def with_sequence() -> ElementTable:
    """Return an object with two items in ReferencedStudySequence."""
    items = []
    for number in (1, 2):
        item = Dataset()
        item.ReferencedSOPInstanceUID = f"9.{number}"
        items.append(item)
    return table(ReferencedStudySequence=Sequence(items))


def captured(**changes: str) -> Captured:
    """Return the captured values of the object of the trace."""
    values = {
        "modality": "CT",
        "station": "ROOM1",
        "sop_instance": "1.2.3.4.5",
        "patient_id": "0009703828",
        "calling": "SCANNER",
        "called": "DGATE",
    }
    return Captured(**{**values, **changes})


def converter(
    text: str, family: str = "Import", index: int = 0, *, lua: bool = False, **filters: str
) -> ConverterText:
    """Return one converter as the configuration gives it."""
    where = f"dicom.ini:{40 + index}"
    return ConverterText(family, index, text, lua, Filters(**filters), where)


def rules(
    *converters: ConverterText,
    base: Path = Path("/nonexistent"),
    scripts: Mapping[str, str] | None = None,
    **changes: object,
) -> Rules:
    """Compile converters."""
    settings: Settings = default_settings(
        base, converters=converters, scripts=scripts or {}, **changes
    )
    return Rules.build(settings)


def importing(text: str, **changes: object) -> Rules:
    """Compile one import line."""
    return rules(converter(text), **changes)  # type: ignore[arg-type]


def run_import(
    made: Rules, on: ElementTable | None = None, env: FakeEnvironment | None = None
) -> tuple[ImportVerdict, ElementTable]:
    """Run the import converters over an object; return the verdict and the object afterwards."""
    on = table() if on is None else on
    verdict = made.run_import(on, capture(on, "SCANNER", "DGATE"), env or FakeEnvironment())
    return verdict, on


def nops(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what `nop` statements logged, without the name of the line."""
    return [
        record.getMessage().split(": ", 1)[1]
        for record in caplog.records
        if record.levelno == logging.INFO and ": nop" in record.getMessage()
    ]
