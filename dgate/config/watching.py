"""The settings of watched folders and logs that take more than reading a value (spec dicom-ini.md
sections 3 and 6).

Owned by the thread that loads a configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dgate.config.problem import Report
from dgate.config.values import Values

_INCOMING = "incoming"
_ADVICE = "name a folder outside of the archive, or put files into incoming on MAGDevice0"


def watched(
    values: Values, devices: Sequence[Path], profile: str, report: Report
) -> dict[str, Any]:
    """Return the fields of `Settings` that this module reads."""
    name = values.get("PACSName")
    return {
        "pacs_name": profile if name.is_default else name.text.strip(),
        "watch_folder": _watch_folder(values, devices, report),
    }


def _watch_folder(values: Values, devices: Sequence[Path], report: Report) -> Path | None:
    value = values.get("WatchFolder")
    if not value.text.strip():
        return None
    folder = values.path(value.text.strip(), value)
    base = values.path(".", value)
    complaint = _conflict(folder.resolve(), base.resolve(), devices)
    if not complaint:
        return folder
    message = f"{value.name} = {value.text} {complaint}, and would be emptied"
    report.error(value.line, message, _ADVICE)
    return None


def _conflict(folder: Path, base: Path, devices: Sequence[Path]) -> str:
    """Say why a folder must not be watched: what it holds would be taken for new files."""
    if base == folder or folder in base.parents:
        return "holds dicom.ini and the index"
    for number, device in enumerate(devices):
        root = device.resolve()
        if root == folder or folder in root.parents:
            return f"holds the images of MAG{number}"
        if root in folder.parents and folder != root / _INCOMING:
            return f"lies among the images of MAG{number}"
    return ""
