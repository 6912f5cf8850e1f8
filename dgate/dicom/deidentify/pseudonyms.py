"""What stands in place of identifiers: keyed hashes, so that they agree without a common table.

HMAC-SHA-256 under a secret of the site (spec anonymization.md 9, row 4). The same value gets the
same replacement in every object, on every server that has the secret, after every restart; another
stage gives another one. Without the secret nobody can tell what a replacement stands for, nor try
out guesses. Immutable, safe between threads.
"""

from __future__ import annotations

import base64
import hmac

LEAST_SECRET_BYTES = 16
LONGEST_SHIFT_DAYS = 3650
_UUID_ROOT = "2.25."
_IDENTIFIER_BYTES = 10


class Pseudonyms:
    """The replacements of one stage."""

    __slots__ = ("_keys", "stage")

    def __init__(self, secret: bytes, stage: str = "") -> None:
        """Derive the keys; raise ValueError for a secret that could be guessed."""
        if len(secret) < LEAST_SECRET_BYTES:
            raise ValueError(f"a secret needs at least {LEAST_SECRET_BYTES} bytes")
        self.stage = stage
        self._keys = {
            purpose: hmac.digest(secret, f"dgate {purpose}\0{stage}".encode(), "sha256")
            for purpose in ("uid", "identifier", "shift")
        }

    def uid(self, old: str) -> str:
        """Return the UID in place of another: a UUID of version 8 under 2.25 (PS3.5 B.2)."""
        digest = hmac.digest(self._keys["uid"], old.encode(), "sha256")
        number = int.from_bytes(digest[:16], "big")
        number = number & ~(0xF << 76) | 8 << 76
        number = number & ~(3 << 62) | 2 << 62
        return f"{_UUID_ROOT}{number}"

    def identifier(self, old: str) -> str:
        """Return 16 capitals and digits in place of a patient ID.

        They fit file names that are cut at 16 characters; 80 bits make a collision of two patients
        unlikely up to some hundred billion of them.
        """
        digest = hmac.digest(self._keys["identifier"], old.encode(), "sha256")
        return base64.b32encode(digest[:_IDENTIFIER_BYTES]).decode("ascii")

    def shift_days(self, patient: str) -> int:
        """Return by how many days the dates of a patient go back: 1 to LONGEST_SHIFT_DAYS."""
        digest = hmac.digest(self._keys["shift"], patient.encode(), "sha256")
        return int.from_bytes(digest[:8], "big") % LONGEST_SHIFT_DAYS + 1
