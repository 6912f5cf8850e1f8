"""WorkListMode: an arriving object takes over what its worklist entry says (spec dicom-sql.md 4.4).

Part of the way in (`dgate.archive.ingest`), before repair and import rules. Stateless, any thread.
"""

from __future__ import annotations

from dgate.archive.worklist import Worklist
from dgate.config.layout import ACCESSION_NUMBER
from dgate.dicom.table import ElementTable
from dgate.errors import Refused

DEMANDING = 2
"""The WorkListMode that refuses objects without entry."""


class Coercion:
    """Fills objects from the worklist."""

    def __init__(self, worklist: Worklist, *, demanding: bool) -> None:
        """`demanding`: WorkListMode = 2, an object without entry is refused."""
        self._worklist = worklist
        self.demanding = demanding

    def fill(self, table: ElementTable) -> bool:
        """Replace what the entry with the object's accession number knows; tell if there is one.

        Only top-level elements that the object has are replaced, whatever they held; an empty
        column replaces nothing. A crash here leaves nothing.

        Raises:
            DatabaseAway: the worklist cannot be asked.
            Refused: the entry has a value that its element cannot hold.
        """
        accession = table.text(ACCESSION_NUMBER).strip()
        entry = self._worklist.first(accession) if accession else None
        if entry is None:
            return False
        for column in self._worklist.columns.all:
            value = entry[column.name]
            if value and column.tag in table and table.text(column.tag) != value:
                try:
                    table.set_text(column.tag, value)
                except ValueError as exc:
                    raise Refused(
                        f"the worklist entry {accession[:16]} has a {column.full_name} that the "
                        f"object cannot hold: {exc}",
                        remedy="correct it: dgate worklist add",
                    ) from exc
        return True
