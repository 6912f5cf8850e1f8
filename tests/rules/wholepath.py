"""A rule line on its whole way: compiled as every kind of converter, run over objects that are odd.

Files are real ones, below a folder of the test; programs, registers and indices are twins. Used by
`test_fuzz.py` and `scripts/fuzz_rules.py`.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, RLE_LOSSLESS
from dgate.errors import Deferred, RuleError, StoreError
from dgate.rules.events import Event
from dgate.rules.files import ConfinedFiles
from dgate.rules.hooks import Rules, capture
from tests.rules import kit

HOSTILE = (
    'a"; destroy; nop "',
    "%i%V0010,0010%n",
    "'; DROP TABLE DICOMPatients; --",
    "$(touch x)`id`|&<>*?[]{}\\",
    "../../../../etc/passwd",
    "line\nline\r\ttab",
    "-rf",
    "löwe",
    "x" * 64,
)
_REFUSALS = (RuleError, StoreError, Deferred)
"""What may come of a line."""
_LEFT = {
    "left": b"%i; nop\n",
    "to": b"# nothing\n",
    "job.lua": b"Data.SeriesDescription = command_line",
}
"""Files that lines find."""


def objects() -> list[ElementTable]:
    """Return objects that lines are to survive."""
    item = Dataset()
    item.ReferencedSOPInstanceUID = "9.1"
    sequence = Sequence([item, Dataset()])
    hostile = kit.table(SpecificCharacterSet="ISO_IR 192", ReferencedStudySequence=sequence)
    for tag, vr, text in (
        (0x00100010, "PN", HOSTILE[0]),
        (0x00100020, "LO", HOSTILE[4]),
        (0x00080060, "CS", HOSTILE[6]),
        (0x00081010, "SH", HOSTILE[1]),
        (0x00081030, "LO", HOSTILE[3]),
        (0x00104000, "LT", HOSTILE[5] + HOSTILE[2] + HOSTILE[7]),
    ):
        hostile.set_raw(tag, vr, text.encode())
    pixels = kit.data_set(
        Rows=4, Columns=4, BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=0,
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", NumberOfFrames=2,
    )  # fmt: skip
    pixels.add_new(0x7FE00010, "OW", bytes(range(64)))
    damaged = kit.table()
    damaged.set_raw(0x00081110, "SQ", b"garbage that is no item")
    damaged.set_raw(0x00100010, "PN", b"\x1b$B\xff\xfe\0x")
    coded = kit.table(Rows=4, Columns=4, BitsAllocated=8, SamplesPerPixel=1)
    coded.set_pixels("OB", b"\xfe\xff\x00\xe0\0\0\0\0", RLE_LOSSLESS)
    return [
        hostile,
        kit.table_of(pixels),
        damaged,
        coded,
        ElementTable(b"", EXPLICIT_LE),
    ]


class Site:
    """A folder with files that lines may find, and what lies beside it."""

    def __init__(self, folder: Path) -> None:
        self.base = folder / "base"
        self.beside = folder / "beside"
        for place in (self.base, self.base / "a", self.beside):
            place.mkdir(parents=True)
        (self.beside / "secret").write_bytes(b"untouched")
        self._mend()

    def _mend(self) -> None:
        for name, content in _LEFT.items():
            (self.base / name).write_bytes(content)

    def environment(self) -> kit.FakeEnvironment:
        """Return what lines see of this site."""
        env = kit.FakeEnvironment()
        env.files = ConfinedFiles(self.base, [], self.base / "temp")  # type: ignore[assignment]
        return env

    def check(self) -> None:
        """Make sure that nothing beside the folder was touched, and give back what was written."""
        assert [path.name for path in self.beside.iterdir()] == ["secret"]
        assert (self.beside / "secret").read_bytes() == b"untouched"
        for path in self.base.iterdir():
            if path.is_dir() and path.name != "a":
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file() and path.name not in _LEFT:
                with suppress(OSError):
                    os.unlink(path)  # noqa: PTH108 - names that no Path takes
        self._mend()


def run_everywhere(text: str, site: Site, subject: ElementTable, *, lenient: bool = False) -> None:
    """Compile a line as every kind of converter and run all of them over an object."""
    families = ["Import", "Export", *(event.value for event in Event)]
    made: Rules = kit.rules(
        *(kit.converter(text, family) for family in families),
        base=site.base,
        scripts={"x": text, "to": text},
        script_errors_reject=not lenient,
        allow_system_commands=lenient,
    )
    for problem in made.problems:
        str(problem)
        problem.caret()
        problem.problem()
    env = site.environment()
    captured = capture(subject, "SCANNER", "DGATE")
    for run in (
        lambda table: made.run_import(table, captured, env),
        lambda table: made.plan_exports(table, captured, env),
        lambda table: made.expand(0, table, captured, env),
        lambda table: made.run_script(text, table, captured, env),
        *(
            lambda table, event=event: made.events.run(event, table, captured, env)
            for event in Event
        ),
    ):
        table = subject.snapshot()
        with suppress(*_REFUSALS):
            run(table)  # type: ignore[no-untyped-call]
        # Whatever was done to it, it can be written.
        with suppress(*_REFUSALS):
            table.tobytes()
    site.check()
