"""From the name of a TCP service to its port, by the system's table. Pure look-up, no network."""

from __future__ import annotations

from pathlib import Path

SERVICES = Path("/etc/services")
# Systems without the table, and small containers, still know the services of DICOM.
_DICOM = {"acr-nema": 104, "dicom": 11112, "dicom-tls": 2762, "dicom-iscl": 2761}


def service_port(name: str, table: Path = SERVICES) -> int | None:
    """Return the TCP port of the service `name`; None when it is not known."""
    try:
        text = table.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Without the table only the names above are known, and the caller reports the others.
        return _DICOM.get(name)
    for line in text.splitlines():
        columns = line.partition("#")[0].split()
        if len(columns) < 2 or name not in (columns[0], *columns[2:]):
            continue
        number, _, protocol = columns[1].partition("/")
        if protocol == "tcp" and number.isdecimal():
            return int(number)
    return _DICOM.get(name)
