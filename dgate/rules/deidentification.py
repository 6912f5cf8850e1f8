"""What de-identification asks of the outside: the secret of the site, and a place for what it took.

The gateway gives the real one (`dgate.archive.reidentification`); `dgate trace` one whose table is
thrown away.
"""

from __future__ import annotations

from typing import Protocol

from dgate.dicom.deidentify import Pseudonyms, Replaced


class Deidentification(Protocol):
    """The seam to the key file and the table that leads back."""

    def pseudonyms(self, stage: str) -> Pseudonyms:
        """Return the replacements of a stage.

        Raises:
            RuleError: there is no key, or it cannot be used.
        """
        ...

    def keep(self, replaced: Replaced) -> None:
        """Write down, encrypted, what was taken out of an object; durable when this returns.

        Raises:
            RuleError: it cannot be encrypted.
            StoreError: the database does not answer.
        """
        ...
