"""Read-only volumes of older archives: `JUKEBOXn.m` and `CACHEn.m`, where their folders still are.

The original burned old patients to CD; an index that was taken over may still name such devices.
Nothing is ever written there. Pure, safe between threads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_NAME = re.compile(r"(JUKEBOX|CACHE)(\d{1,4})\.(\d{1,6})", re.IGNORECASE)
_FIELD = re.compile(r"%0?(\d{0,2})d")


class Volumes:
    """Finds the folder of a volume from the templates in dicom.ini."""

    def __init__(self, jukeboxes: Mapping[int, str], caches: Mapping[int, str]) -> None:
        self._jukeboxes = jukeboxes
        self._caches = caches

    def folder(self, device: str) -> Path | None:
        """Return where a volume's files should be; None when dicom.ini does not say.

        `JUKEBOXDeviceN` has one `%d` for the number of the volume, `CACHEDeviceN` (else
        `CACHEDevice0`) two, for jukebox and volume (spec dicom-ini.md section 6).
        """
        match = _NAME.fullmatch(device)
        if match is None:
            return None
        box, volume = int(match[2]), int(match[3])
        if match[1].upper() == "JUKEBOX":
            template, numbers = self._jukeboxes.get(box), [volume]
        else:
            template, numbers = self._caches.get(box, self._caches.get(0)), [box, volume]
        return None if template is None else Path(_filled(template, numbers))


def _filled(template: str, numbers: Sequence[int]) -> str:
    """Put the numbers into the `%d` fields; never by `%`, as the template is somebody's text."""
    left = iter(numbers)

    def fill(match: re.Match[str]) -> str:
        number = next(left, None)
        return match[0] if number is None else str(number).zfill(int(match[1] or 0))

    return _FIELD.sub(fill, template)
