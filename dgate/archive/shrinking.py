"""The compression codes k1 to kc: objects made smaller where they are stored, moved or sent.

Not for how (`dgate.dicom.reshape`). Stateless, any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from dgate.dicom.codes import most_pixels
from dgate.dicom.recompress import smaller
from dgate.dicom.table import PIXEL_DATA, ElementTable
from dgate.errors import CannotTranscode, NotDicom

log = logging.getLogger(__name__)

Complain = Callable[[str, CannotTranscode | NotDicom], None]
"""Takes a message with one `%s`, and the reason."""


def shrinking(code: str, complain: Complain | None = None) -> Callable[[ElementTable], None] | None:
    """Return what a code from k1 to kc does to an object, None for all other codes.

    An object that cannot be made smaller stays as it is, and the reason is logged (spec
    acrnema-map.md 4.2).
    """
    most = most_pixels(code)
    if most is None:
        return None
    say: Complain = complain or log.warning

    def shrink(table: ElementTable) -> None:
        if PIXEL_DATA not in table:
            return
        try:
            smaller(table, most)
        except (CannotTranscode, NotDicom) as exc:
            say("An object was kept in the size that it has: %s", exc)

    return shrink
