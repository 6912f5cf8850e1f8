"""What the tests of rebuilding share: an archive on real files, and a rebuild of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dgate.archive.levels import Schema
from dgate.archive.maintenance.regen import Regen, RegenOptions
from dgate.archive.schema import prepare
from dgate.config.layout import default_layout
from dgate.dicom.part10 import file_meta
from dgate.dicom.uids import EXPLICIT_LE
from tests.archive.intake_kit import CT, SOP, Station, data_set


def schema_of(station: Station) -> Schema:
    """Return the schema of a station's database."""
    settings = station.settings
    layout = default_layout(settings.truncate_field_names, settings.max_field_length)
    return prepare(station.database, layout, settings)


def regen_of(station: Station, **changes: Any) -> Regen:
    """Return a rebuild, without worker processes of its own unless asked."""
    return Regen(
        station.database,
        schema_of(station),
        station.index,
        station.writer,
        station.devices,
        station.settings,
        station.clock,
        **{"beside_server": True, **changes},
    )


def rebuild(station: Station, regen: Regen | None = None, **options: Any) -> dict[str, Any]:
    """Rebuild and return the summary."""
    answers = list((regen or regen_of(station)).run(RegenOptions(**{"workers": 0, **options})))
    return answers[-1]


def put(
    station: Station, name: str, sop_instance: str = SOP, device: int = 0, **elements: Any
) -> Path:
    """Put a file onto a device without telling the index."""
    path = station.settings.mag_devices[device] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = data_set(SOPInstanceUID=sop_instance, **elements)
    path.write_bytes(file_meta(CT, sop_instance, EXPLICIT_LE) + content)
    return path
