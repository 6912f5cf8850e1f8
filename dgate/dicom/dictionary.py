"""The DICOM data dictionary (PS3.6), as pydicom's package has it.

Only the table is read: importing pydicom as a whole takes a quarter of a second, which commands
that look at nothing but text files should not pay. Not for VRs of elements that no dictionary has
(`dgate.dicom.element`). Constants, safe between threads.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import cast

_FILE = "_dicom_dict.py"

Row = tuple[str, str, str, str, str]
"""VR, multiplicity, name, `Retired` or nothing, keyword."""


def _tables() -> ModuleType:
    """Return pydicom's module of tables without its package, or with it where that has changed."""
    package = importlib.util.find_spec("pydicom")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        path = Path(folder) / _FILE
        spec = importlib.util.spec_from_file_location("dgate.dicom._tables", path)
        if path.is_file() and spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    from pydicom import _dicom_dict

    return cast(ModuleType, _dicom_dict)


def _masks(repeaters: Mapping[str, Row]) -> list[tuple[int, int, Row]]:
    """Return value, mask and row for each `60xx0010` of the table of repeating groups."""
    rows = []
    for pattern, row in repeaters.items():
        value = int(pattern.replace("x", "0"), 16)
        mask = int("".join("0" if digit == "x" else "F" for digit in pattern), 16)
        rows.append((value, mask, row))
    return rows


_loaded = _tables()
ROWS: Mapping[int, Row] = _loaded.DicomDictionary
"""The elements by tag."""
KEYWORDS: Mapping[str, int] = {row[4]: tag for tag, row in ROWS.items()}
"""The tags by keyword; retired elements share an empty one."""
_REPEATERS = _masks(_loaded.RepeatersDictionary)


def repeated(tag: int) -> Row | None:
    """Return the row of a tag in a group that repeats, such as an overlay's."""
    return next((row for value, mask, row in _REPEATERS if tag & mask == value), None)
