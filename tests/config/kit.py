"""A configuration folder for a test, written from the shipped files."""

from __future__ import annotations

from pathlib import Path

from dgate.config.problem import Problem
from dgate.config.settings import Configuration, load
from dgate.config.template import NAMES, default_file

ENOUGH = "MyACRNema = TEST\nMAGDevice0 = ./data/\nSQLite = 1\nSQLServer = ./data/index.db3\n"


def write(folder: Path, ini: str, **files: str) -> Path:
    """Write dicom.ini with this text, and the other three as shipped unless given by `map=` etc."""
    names = {"map": "acrnema.map", "sql": "dicom.sql", "lst": "dgatesop.lst"}
    for name in NAMES[1:]:
        (folder / name).write_bytes(default_file(name))
    for short, text in files.items():
        (folder / names[short]).write_text(text, encoding="utf-8")
    path = folder / "dicom.ini"
    path.write_text(ini, encoding="utf-8")
    return path


def configured(folder: Path, lines: str = "", **files: str) -> Configuration:
    """Load a working configuration with `lines` added to section [sscscp]."""
    return load(write(folder, f"[sscscp]\n{lines}\n{ENOUGH}", **files))


def about(configuration: Configuration, text: str) -> Problem:
    """Return the one problem whose message contains `text`."""
    found = [p for p in configuration.problems if text in p.message]
    assert len(found) == 1, (text, configuration.problems)
    return found[0]
