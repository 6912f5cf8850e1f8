"""A configuration folder for a test, written from the shipped files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dgate.config.problem import Problem
from dgate.config.settings import Configuration, load
from dgate.config.store import NOTE
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


_KILLED_BEFORE_THE_LAST = """
import os, sys
from pathlib import Path
from dgate.config.store import write_files
base = Path(sys.argv[1])
files, expected = {}, {}
for name in sys.argv[2:]:
    path, new = base / name, base / f"{name}.wanted"
    files[path] = new.read_bytes() if new.exists() else None
    expected[path] = path.read_bytes() if path.exists() else None
    new.unlink(missing_ok=True)
def hook(event, arguments):
    if event == "os.rename" and str(arguments[1]) == str(path):
        os._exit(9)
sys.addaudithook(hook)
write_files(base, files, expected)
"""


def interrupt(folder: Path, files: Mapping[str, bytes | None]) -> None:
    """Have a process write these files (None = remove), and kill it before the last one has its
    name."""
    for name, content in files.items():
        if content is not None:
            (folder / f"{name}.wanted").write_bytes(content)
    command = [sys.executable, "-c", _KILLED_BEFORE_THE_LAST, str(folder), *files]
    assert subprocess.run(command, timeout=300, check=False).returncode == 9
    assert (folder / NOTE).stat().st_size > 0


def about(configuration: Configuration, text: str) -> Problem:
    """Return the one problem whose message contains `text`."""
    found = [p for p in configuration.problems if text in p.message]
    assert len(found) == 1, (text, configuration.problems)
    return found[0]
