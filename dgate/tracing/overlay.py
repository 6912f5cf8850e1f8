"""What rules act on while they are traced: it records, keeps a throw-away state, and succeeds.

Reads reach the real thing. One thread.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dgate.config.nodes import NodeMap
from dgate.config.settings import Configuration
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.actions import Archive, Files, MoveProgress, Peers, SqlValue, StoreAnswer

MakeUid = Callable[[str, str], str]
"""Returns a replacement for a value in a stage."""


class KnownUids(Protocol):
    """The entries that the real register has."""

    def known(self, old: str, stage: str = "") -> str | None:
        """Return the replacement of a value, None when there is none yet."""
        ...

    def back(self, new: str, stage: str = "", kind: str = "") -> str | None:
        """Return the value that a replacement stands for, None when nobody knows."""
        ...


Note = Callable[[str], None]
"""Hears of each thing that a rule does, or would have done."""


class TracedUids:
    """A register of replaced values whose new entries live as long as the trace."""

    def __init__(self, real: KnownUids, make: MakeUid, note: Note) -> None:
        """`make` returns a replacement for a value in a stage."""
        self._real = real
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
            is_hashed = stage.startswith("#")
            found = None if is_hashed else self._real.known(old, stage)
            if found is None:
                found = proposal if proposal and not is_hashed else self._make(old, stage)
                self._note(f"map {old} to {found} in stage {stage or '(empty)'}")
            self._known[key] = found
        return found

    def forward_all(self, olds: Mapping[str, str], stage: str = "") -> dict[str, str]:
        """Return the replacements of many values."""
        return {old: self.forward(old, stage, kind) for old, kind in olds.items()}

    def back(self, new: str, stage: str = "", kind: str = "") -> str | None:
        """Return the value that a replacement stands for."""
        for (old, where), made in self._known.items():
            if made == new and where == stage:
                return old
        return self._real.back(new, stage, kind)

    def forget(self) -> None:
        """Nothing is changed behind its back while rules are traced."""


class TracedFiles:
    """Files on a layer of their own: what is written is seen by whoever reads it in this trace."""

    def __init__(self, real: Files, layer: Path, note: Note) -> None:
        """`layer` is an empty folder that `real` may use, and that is removed with the trace."""
        self._real = real
        self._layer = layer
        self._note = note
        self._written: dict[Path, Path] = {}
        self._own: set[Path] = set()
        """Files of the layer that hold the content of one name only."""
        self._removed: set[Path] = set()
        self._folders: set[Path] = set()
        self._counter = itertools.count()

    def place(self, name: str) -> Path:
        """Return the path that a name means; of a file that was written here, that of the copy."""
        place = self._real.place(name)
        if place in self._removed:
            return self._layer / "removed"
        return self._written.get(place, place)

    def read(self, name: str) -> bytes:
        """Return the content of a file as this trace has left it."""
        if self._real.place(name) in self._removed:
            raise RuleError(f"{name} cannot be read: No such file or directory")
        return self._real.read(str(self.place(name)))

    def write(self, name: str, content: bytes, *, append: bool = False) -> None:
        """Write or append on the layer."""
        own = self._written.get(self._real.place(name))
        if append and own is not None and own in self._own:
            with own.open("ab") as file:
                file.write(content)
        else:
            before = self.read(name) if append and self._exists(name) else b""
            self._keep(name, (before, content))
        word = "append" if append else "write"
        self._note(f"{word} {len(content)} bytes to {self._real.place(name)}")

    def save(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write on the layer."""
        self._keep(name, parts)
        self._note(f"write {self._real.place(name)}")

    def copy(self, source: str, target: str) -> None:
        """Let the file be there under another name as well, without a copy of what may be long."""
        place = self._real.place(target)
        if place.is_dir() or place in self._folders:
            place = self._real.place(str(place / Path(source).name))
        self._check_folder(target, place)
        self._written[place] = self._shared(source)
        self._removed.discard(place)
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

    def to_write(self, name: str) -> Path:
        """Return the path of a copy on the layer."""
        place = self._real.place(name)
        if self._written.get(place) not in self._own:
            before = (self.read(name),) if self._exists(name) else ()
            self._keep(name, before)
        self._note(f"open {place} to write")
        return self._written.get(place, place)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name on the layer."""
        place, renamed = self._real.place(source), self._real.place(target)
        self._check_folder(target, renamed)
        self._written[renamed] = self._shared(source)
        self._removed.discard(renamed)
        self._written.pop(place, None)
        self._removed.add(place)
        self._note(f"rename {place} to {renamed}")

    def temporary(self, extension: str) -> Path:
        """Return an unused path on the layer."""
        return self._layer / f"temporary-{next(self._counter)}{extension}"

    def alias(self, letter: str, value: str) -> str:
        """Return what an alias file gives a value."""
        return self._real.alias(letter, value)

    def _exists(self, name: str) -> bool:
        place = self._real.place(name)
        return place not in self._removed and self._written.get(place, place).exists()

    def _shared(self, name: str) -> Path:
        """Return where the content of a file is, which is not written to any more."""
        path = self.place(name)
        if not path.is_file():
            what = "it is not an ordinary file" if path.exists() else "No such file or directory"
            raise RuleError(f"{name[:200]!r} cannot be copied: {what}")
        self._own.discard(path)
        return path

    def _check_folder(self, name: str, place: Path) -> None:
        if place.parent not in self._folders and not place.parent.is_dir():
            raise RuleError(f"{name} cannot be written: No such file or directory")

    def _keep(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        place = self._real.place(name)
        self._check_folder(name, place)
        copy = place
        if not place.is_relative_to(self._layer.resolve()):
            copy = self._layer / f"file-{next(self._counter)}{place.suffix}"
            self._written[place] = copy
            self._own.add(copy)
        with copy.open("wb") as file:
            file.writelines(parts)
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

    def store(
        self, node: str, objects: Sequence[ElementTable], *, code: str | None = None
    ) -> Sequence[StoreAnswer] | str:
        """Write down that objects were to be sent."""
        self._note(f"send {len(objects)} object(s) to {node}")
        return [_Sent(table.text(0x00080018)) for table in objects]

    def echo(self, node: str, extra: ElementTable | None = None) -> ElementTable | None:
        """Ask whether the node answers, where that is allowed."""
        if self._real is not None:
            return self._real.echo(node, extra)
        self._note(f"echo {node} (not asked: --network is needed)")
        return None

    def print_films(
        self,
        node: str,
        images: Sequence[ElementTable],
        annotation: str,
        options: str,
        after_each: Callable[[], None] | None = None,
    ) -> bool:
        """Write down that images were to be printed."""
        self._note(f"print {len(images)} image(s) on {node}")
        return True


class TracedArchive:
    """The own archive, of which everything can be read and nothing changed."""

    def __init__(self, real: Archive, note: Note) -> None:
        self._real = real
        self._note = note

    def query(
        self,
        tables: str,
        fields: str,
        where: str = "",
        sort: str = "",
        parameters: Sequence[SqlValue] = (),
    ) -> list[list[str]] | None:
        """Ask the index."""
        return self._real.query(tables, fields, where, sort, parameters)

    def execute(self, statement: str, parameters: Sequence[SqlValue] = ()) -> bool:
        """Write the statement down."""
        self._note(f"execute {statement}")
        return True

    def load(self, name: str) -> ElementTable:
        """Return a whole object."""
        return self._real.load(name)

    def read(self, query: ElementTable, header_bytes: int = 0) -> Iterator[ElementTable]:
        """Yield the stored objects that a query finds."""
        return self._real.read(query, header_bytes)

    def add(self, table: ElementTable) -> None:
        """Write down that an object was to be stored."""
        self._note(f"store the object {table.text(0x00080018)}")

    def delete(self, query: ElementTable) -> int:
        """Write down that objects were to be deleted."""
        self._note("delete objects of the archive")
        return 0

    def modify(self, query: ElementTable, script: str, *, copy: bool) -> int:
        """Write down that objects were to be changed."""
        self._note(f"run over objects of the archive{' copies of' if copy else ''}: {script}")
        return 0

    def oldest_patients(self, most: int, device: str, sort: str) -> list[str]:
        """Ask the index."""
        return self._real.oldest_patients(most, device, sort)

    def column(self, level: int, row: int) -> tuple[int, int, str, int, str, str] | None:
        """Return a row of dicom.sql."""
        return self._real.column(level, row)


class TracedServer:
    """The configuration in the place of a server: settings can be read, commands are not run."""

    def __init__(self, configuration: Configuration, note: Note) -> None:
        self._ini = configuration.ini
        self._nodes: NodeMap = configuration.nodes
        self._values = {
            value.name.lower(): value.text
            for value in configuration.values
            if not value.is_default and not value.key.secret
        }
        settings = configuration.settings
        self._values["basedir"] = f"{settings.base_folder}{os.sep}"
        self._values["configfile"] = str(settings.ini_path)
        self._changed: dict[str, str] = {}
        self._note = note

    def value(self, name: str) -> str | int | None:
        """Return a setting of dicom.ini; counters have no value, as no server is asked."""
        return self._changed.get(name.lower(), self._values.get(name.lower())) or None

    def change(self, name: str, value: str) -> None:
        """Keep a changed setting for this trace."""
        self._changed[name.lower()] = value
        self._note(f"set {name} to {value!r}")

    def setting(self, section: str, key: str, default: str) -> str:
        """Return an entry of dicom.ini."""
        found = None if self._ini is None else self._ini.section(section)
        entry = None if found is None else found.get(key)
        return default if entry is None else entry.value

    def node(self, number: int) -> tuple[str, str, str, str] | None:
        """Return a line of acrnema.map."""
        for at, node in enumerate(self._nodes):
            if at == number:
                return node.ae_title, node.host, node.port, node.compression
        return None

    def command(self, text: str, upload: bytes = b"") -> bytes | None:
        """Write the command down."""
        self._note(f"run the server command {text}")
        return None


def layer() -> tempfile.TemporaryDirectory[str]:
    """Return the folder that the files of a trace are written to."""
    return tempfile.TemporaryDirectory(prefix=f"dgate-trace-{os.getpid()}-")
