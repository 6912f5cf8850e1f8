"""What rules act on while they are traced: it records, keeps a throw-away state, and succeeds.

Reads reach the real thing. One thread.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.actions import Files, MoveProgress, Peers, StoreAnswer

FindUid = Callable[[str, str], str | None]
"""Returns what the register has for a value in a stage."""


Note = Callable[[str], None]
"""Hears of each thing that a rule does, or would have done."""


class TracedUids:
    """A register of replaced values whose new entries live as long as the trace."""

    def __init__(
        self,
        find: FindUid,
        find_back: Callable[[str, str, str], str | None],
        make: Callable[[str, str], str],
        note: Note,
    ) -> None:
        """`find` and `find_back` ask the real register; `make` returns a replacement for a value
        in a stage, the one that hashing gives where the stage begins with `#`.
        """
        self._find = find
        self._find_back = find_back
        self._make = make
        self._note = note
        self._known: dict[tuple[str, str], str] = {}

    def forward(self, old: str, stage: str = "", kind: str = "", proposal: str = "") -> str:
        """Return the replacement of a value, made up where the register has none."""
        if not old:
            return ""
        key = (old, stage)
        found = self._known.get(key)
        if found is None:
            found = None if stage.startswith("#") else self._find(old, stage)
            if found is None:
                found = proposal or self._make(old, stage)
                self._note(f"map {old} to {found} in stage {stage or '(empty)'}")
            self._known[key] = found
        return found

    def back(self, new: str, stage: str = "", kind: str = "") -> str | None:
        """Return the value that a replacement stands for."""
        for (old, where), made in self._known.items():
            if made == new and where == stage:
                return old
        return self._find_back(new, stage, kind)


class TracedFiles:
    """Files on a layer of their own: what is written is seen by whoever reads it in this trace."""

    def __init__(self, real: Files, layer: Path, note: Note) -> None:
        """`layer` is an empty folder that is removed with the trace."""
        self._real = real
        self._layer = layer
        self._note = note
        self._written: dict[Path, Path] = {}
        self._removed: set[Path] = set()
        self._folders: set[Path] = set()
        self._counter = itertools.count()

    def place(self, name: str) -> Path:
        """Return the path that a name means; of a file that was written here, that of the copy."""
        place = self._real.place(name)
        return self._written.get(place, place)

    def read(self, name: str) -> bytes:
        """Return the content of a file as this trace has left it."""
        place = self._real.place(name)
        if place in self._written:
            return self._written[place].read_bytes()
        if place in self._removed:
            raise RuleError(f"{name} cannot be read: No such file or directory")
        return self._real.read(name)

    def stamp(self, name: str) -> tuple[int, ...] | None:
        """Return what changes when the file does, None when there is none."""
        place = self._real.place(name)
        if place in self._removed:
            return None
        if place in self._written:
            status = self._written[place].stat()
            return (status.st_ino, status.st_mtime_ns, status.st_size)
        return self._real.stamp(name)

    def write(self, name: str, content: bytes, *, append: bool = False) -> None:
        """Write or append on the layer."""
        place = self._real.place(name)
        if place.parent not in self._folders and not place.parent.is_dir():
            raise RuleError(f"{name} cannot be written: No such file or directory")
        before = self._content(place) if append else b""
        self._keep(place, before + content)
        self._note(f"{'append' if append else 'write'} {len(content)} bytes to {place}")

    def copy(self, source: str, target: str) -> None:
        """Copy on the layer."""
        content = self.read(source)
        place = self._real.place(target)
        if place.is_dir() or place in self._folders:
            place = place / Path(source).name
        self._keep(place, content)
        self._note(f"copy {self._real.place(source)} to {place}")

    def make_folder(self, name: str) -> None:
        """Remember a folder."""
        place = self._real.place(name)
        self._folders.update((place, *place.parents))
        self._note(f"make the folder {place}")

    def remove(self, name: str) -> None:
        """Let a file be gone for this trace."""
        place = self._real.place(name)
        self._written.pop(place, None)
        self._removed.add(place)
        self._note(f"remove {place}")

    def temporary(self, extension: str) -> Path:
        """Return an unused path on the layer."""
        return self._layer / f"temporary-{next(self._counter)}{extension}"

    def _content(self, place: Path) -> bytes:
        if place in self._written:
            return self._written[place].read_bytes()
        if place in self._removed:
            return b""
        try:
            return place.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as exc:
            raise RuleError(f"{place} cannot be read: {exc.strerror}") from exc

    def _keep(self, place: Path, content: bytes) -> None:
        copy = self._layer / f"file-{next(self._counter)}{place.suffix}"
        copy.write_bytes(content)
        self._written[place] = copy
        self._removed.discard(place)


class TracedPrograms:
    """Programs that are not run."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def run(self, arguments: Sequence[str]) -> int:
        """Write the call down and say that the program did well."""
        self._note(f"run {' '.join(repr(argument) for argument in arguments)}")
        return 0


@dataclass(frozen=True, slots=True)
class _Sent:
    """The answer to a C-STORE that was not made."""

    sop_instance: str
    status: int | None = 0


class TracedPeers:
    """Nodes that hear nothing; questions reach them only where the user allows it."""

    def __init__(self, real: Peers | None, note: Note) -> None:
        """`real` is None without `--network`."""
        self._real = real
        self._note = note

    def find(self, node: str, level: str, query: ElementTable) -> list[ElementTable] | None:
        """Ask, where that is allowed."""
        if self._real is not None:
            return self._real.find(node, level, query)
        self._note(f"query {node} at level {level} (not asked: --network is needed)")
        return None

    def move(
        self,
        source: str,
        destination: str,
        query: ElementTable,
        *,
        patient_root: bool = False,
        extra: ElementTable | None = None,
        progress: MoveProgress | None = None,
    ) -> str:
        """Write down that objects were to be moved."""
        self._note(f"have {source} send to {destination}")
        return ""

    def get(self, node: str, level: str, query: ElementTable) -> list[ElementTable] | None:
        """Fetch, where that is allowed."""
        if self._real is not None:
            return self._real.get(node, level, query)
        self._note(f"fetch from {node} at level {level} (not asked: --network is needed)")
        return None

    def store(self, node: str, objects: Sequence[ElementTable]) -> list[StoreAnswer] | str:
        """Write down that objects were to be sent."""
        self._note(f"send {len(objects)} object(s) to {node}")
        return [_Sent(table.text(0x00080018)) for table in objects]

    def echo(self, node: str, extra: ElementTable | None = None) -> ElementTable | None:
        """Ask whether the node answers, where that is allowed."""
        if self._real is not None:
            return self._real.echo(node, extra)
        self._note(f"echo {node} (not asked: --network is needed)")
        return None


def layer() -> tempfile.TemporaryDirectory[str]:
    """Return the folder that the files of a trace are written to."""
    return tempfile.TemporaryDirectory(prefix=f"dgate-trace-{os.getpid()}-")
