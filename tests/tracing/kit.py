"""A configured folder to trace in, from a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dgate.config.settings import Configuration, load
from dgate.tracing.opening import Opened, open_trace
from dgate.tracing.report import ObjectTrace
from dgate.tracing.tracer import Subject
from tests.rules import kit

INI = """[sscscp]
MicroPACS = sscscp
MyACRNema = GATE
SQLite = 1
SQLServer = ./index.db3
MAGDevice0 = ./data
"""
MAP = """ARCHIVE 10.0.0.1 104 as
MRARCHIVE 10.0.0.2 105 un
"""


def configuration(folder: Path, rules: str, scripts: str = "") -> Configuration:
    """Write dicom.ini with these rule lines, and load it."""
    section = f"[scripts]\n{scripts}\n" if scripts else ""
    (folder / "dicom.ini").write_text(f"{INI}{rules}\n{section}")
    (folder / "acrnema.map").write_text(MAP)
    return load(folder)


@contextmanager
def opened(folder: Path, rules: str, scripts: str = "") -> Iterator[Opened]:
    """Open a folder with these rules for tracing."""
    made = configuration(folder, rules, scripts)
    with open_trace(made, kit.StillClock(), in_use=False) as trace:
        yield trace


def traced(
    folder: Path, rules: str, scripts: str = "", *, calling: str = "CT1", **values: object
) -> ObjectTrace:
    """Return the trace of the object of the conformance trace, with changes."""
    with opened(folder, rules, scripts) as trace:
        return trace.tracer.trace(Subject("object", kit.table(**values), calling, "GATE"))
