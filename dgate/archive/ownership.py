"""Whose a temporary file is, where several gateways share a database and its storage folders.

Names of temporary files carry the mark of their gateway, so that a gateway that starts judges its
own and leaves alone what another one has in hand. Pure values and looks at files, for any thread.
"""

# Paths are text here: this runs for every object, and a Path costs microseconds.
# ruff: noqa: PTH116
from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

ABANDONED_S = 7 * 86400.0
"""A file of another gateway that nobody has written for so long is nobody's: no object takes a
hundredth of that from its first byte to its name."""

_MARKED = re.compile(r"(?:^|\.)[nrs]?g([0-9a-f]{8})-[0-9a-f]+-[0-9a-f]+(?:\.dcm)?(?:\.part)?$")


@dataclass(frozen=True, slots=True)
class Owner:
    """A gateway as the owner of temporary files."""

    mark: str = "00000000"
    """Eight hexadecimal digits, which stay the same from start to start."""
    shared: bool = False
    """Other gateways may use the same folders."""

    @classmethod
    def named(cls, home: str, *, shared: bool) -> Owner:
        """Return the gateway of this name, `Database.home`."""
        return cls(hashlib.sha256(os.fsencode(home)).hexdigest()[:8], shared)

    def prefix(self, session: str) -> str:
        """Return what the unique part of the names of this run begins with."""
        return f"g{self.mark}-{session}-"

    def owns(self, name: str) -> bool:
        """Tell whether a file is this gateway's by its name: every one where nobody else is."""
        if not self.shared:
            return True
        found = _MARKED.search(name)
        return found is not None and found[1] == self.mark


class Leftovers:
    """Tells which files of a folder the gateway may judge when it starts: its own, and those that
    are abandoned."""

    def __init__(self, owner: Owner, folder: str) -> None:
        self._owner = owner
        self._folder = folder
        self._now: float | None = None

    def has(self, name: str) -> bool:
        """Tell so of one file; False for one that is gone. Raises OSError."""
        return self._owner.owns(name) or self.is_abandoned(name)

    def is_abandoned(self, name: str) -> bool:
        """Tell whether nobody has written a file for ABANDONED_S."""
        try:
            # A claim is a link to no file (`dgate.archive.nameclaims`).
            written = os.lstat(f"{self._folder}/{name}").st_mtime
        except FileNotFoundError:
            return False
        return written + ABANDONED_S < self._time()

    def _time(self) -> float:
        """Return the time of the machine that dates the files, which may not be this one."""
        if self._now is None:
            os.utime(self._folder)
            self._now = os.stat(self._folder).st_mtime
        return self._now
