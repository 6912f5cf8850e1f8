"""How much of a disk is kept free: a number, or a share of the whole.

Pure values; safe between threads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_AMOUNT = re.compile(r"([0-9]{1,9})")
_SHARE = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)[ \t]*%")
LARGEST_SHARE = 90.0


@dataclass(frozen=True, slots=True)
class Reserve:
    """A reserve as it is configured; one of the two numbers is 0."""

    amount: int = 0
    """In the unit of the setting: megabytes, or inodes."""
    percent: float = 0.0
    """Of what the file system has in all."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `500` or `5%`; None where it is neither."""
        text = text.strip()
        if amount := _AMOUNT.fullmatch(text):
            return cls(int(amount[1]))
        share = _SHARE.fullmatch(text)
        if share is not None and float(share[1]) <= LARGEST_SHARE:
            return cls(percent=float(share[1]))
        return None

    def of(self, total: int, unit: int = 1) -> int:
        """Return the reserve of a file system that has `total`, where `amount` counts in
        `unit`s."""
        return max(self.amount * unit, int(total * self.percent / 100))
