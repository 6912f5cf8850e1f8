"""What rules and scripts can do and ask beyond the object itself: one seam for each kind.

The gateway gives the real ones (`dgate.surroundings`); `dgate trace` gives ones that record or work
on a throw-away overlay (rulings.md 14). Every method may raise RuleError, which is an error of the
statement or script that asked, and StoreError where an index or a file does not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dgate.dicom.table import ElementTable
from dgate.errors import RuleError

APART = "\x1f"
"""Begins each argument of a server command that comes by itself, not as part of one text."""

SqlValue = str | int | float | bytes | None
"""What can be bound to a `?`."""


def check_memory(size_bytes: int, limit_bytes: int, what: str) -> None:
    """Raise RuleError where what a script asked for takes more than it may."""
    if size_bytes > limit_bytes:
        raise RuleError(
            f"the {what} take more than {limit_bytes >> 20} MiB of memory",
            remedy="ask for less at a time",
        )


class UidRegister(Protocol):
    """The register of replaced values, table UIDMODS (spec anonymization.md 1)."""

    def forward(self, old: str, stage: str = "", kind: str = "", proposal: str = "") -> str:
        """Return the replacement of a value in a stage, made and kept when there is none.

        Args:
            old: any text; empty gives empty.
            stage: empty is the stage `(empty)`; one that begins with `#` hashes and keeps nothing.
            kind: where it comes from, for column MODType.
            proposal: what to keep unless there is a replacement already; empty makes one.

        Raises:
            RuleError: the text, the stage or the proposal is not one that the register can hold.
            StoreError: the register cannot be read or written.
        """
        ...

    def forward_all(self, olds: Mapping[str, str], stage: str = "") -> dict[str, str]:
        """Return the replacements of many values at once, all of them kept or none.

        Args:
            olds: the kind of each value.
        """
        ...

    def back(self, new: str, stage: str = "", kind: str = "") -> str | None:
        """Return the value that a replacement stands for, None when nobody knows.

        Args:
            kind: only a mapping of that kind; empty means any.
        """
        ...

    def forget(self) -> None:
        """Ask the table again from now on, after a script has changed it by itself."""
        ...


class Files(Protocol):
    """The files that rules may touch: those below the folders that rulings.md 11 names."""

    def place(self, name: str) -> Path:
        """Return the absolute path that a name means, below the base folder when it is relative.

        Raises:
            RuleError: it leads out of the allowed folders, also through a symbolic link.
        """
        ...

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        ...

    def write(self, name: str, content: bytes, *, append: bool = False) -> None:
        """Write or append to a file; the folder must be there."""
        ...

    def save(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file that may be large, whole or not at all; the folder must be there."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy a file byte for byte; the target may be a folder."""
        ...

    def make_folder(self, name: str) -> None:
        """Create a folder with all those above it; no error when it is there."""
        ...

    def remove(self, name: str) -> None:
        """Remove one file; no error when it is absent."""
        ...

    def to_write(self, name: str) -> Path:
        """Return the path at which a script opens a file itself, to write, change or append."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give a file or folder another name; a file of that name is replaced."""
        ...

    def temporary(self, extension: str) -> Path:
        """Return an unused path below TempDir, else below the first device's `printer_files`."""
        ...

    def alias(self, letter: str, value: str) -> str:
        """Return what `aliasfileq<letter>.txt` gives a value, the value itself when it does not."""
        ...


class Programs(Protocol):
    """Programs of the operating system (rulings.md 11)."""

    def run(self, arguments: Sequence[str]) -> int:
        """Run a program without a shell, wait for it, and return its exit status.

        Raises:
            RuleError: `AllowSystemCommands` is not 1, the program cannot be started, or it was
                killed because it did not end within `SystemTimeout`.
        """
        ...


class Peers(Protocol):
    """Other DICOM nodes, as Lua talks to them (spec lua-api.md 5.5); all calls wait.

    A node is an AE title of acrnema.map, `host:port`, or a host (port 5678).
    """

    def find(self, node: str, level: str, query: ElementTable) -> list[ElementTable] | None:
        """C-FIND; None when the node is unknown or no association comes about."""
        ...

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
        """C-MOVE; return an empty text on success, else what went wrong.

        Args:
            extra: elements that join the command set.
        """
        ...

    def get(self, node: str, level: str, query: ElementTable) -> list[ElementTable] | None:
        """C-GET into memory; None on failure."""
        ...

    def store(
        self, node: str, objects: Sequence[ElementTable], *, code: str | None = None
    ) -> Sequence[StoreAnswer] | str:
        """C-STORE on one association; an answer for each object, or why nobody was reached.

        Args:
            code: a compression code in place of that of the node.
        """
        ...

    def echo(self, node: str, extra: ElementTable | None = None) -> ElementTable | None:
        """C-ECHO; the command set of the response, None when nobody answers."""
        ...

    def print_films(
        self,
        node: str,
        images: Sequence[ElementTable],
        annotation: str,
        options: str,
        after_each: Callable[[], None] | None = None,
    ) -> bool:
        """Print the first frames of images on a DICOM printer; False when it does not work.

        Args:
            annotation: lines of text for the printer's annotation boxes.
            options: `Keyword=value;Keyword=value`.
            after_each: called when an image has reached the printer.
        """
        ...


class MoveProgress(Protocol):
    """Hears of each pending response of a C-MOVE."""

    def __call__(self, done: int, total: int) -> None:
        """Take the numbers of completed and of all sub-operations."""
        ...


class StoreAnswer(Protocol):
    """What a peer said to one C-STORE."""

    @property
    def sop_instance(self) -> str:
        """Return the SOP Instance UID that was sent."""
        ...

    @property
    def status(self) -> int | None:
        """Return the status, None when the object could not be sent at all."""
        ...


class Archive(Protocol):
    """The own archive, as scripts use it (spec lua-api.md 5.3, 5.5)."""

    def query(
        self,
        tables: str,
        fields: str,
        where: str = "",
        sort: str = "",
        parameters: Sequence[SqlValue] = (),
    ) -> list[list[str]] | None:
        """SELECT as `dbquery` asks for it; None when the database refuses the statement.

        Args:
            parameters: values for each `?` of the condition, never part of the statement.
        """
        ...

    def execute(self, statement: str, parameters: Sequence[SqlValue] = ()) -> bool:
        """Execute an SQL statement of the administrator; False when it fails."""
        ...

    def load(self, name: str) -> ElementTable:
        """Return a whole object by file name, `patient:SOP`, `:SOP` or study\\series\\sop.

        Raises:
            RuleError: there is no such object, or it cannot be read.
        """
        ...

    def read(self, query: ElementTable, header_bytes: int = 0) -> Iterator[ElementTable]:
        """Yield the stored objects that an IMAGE level query finds."""
        ...

    def add(self, table: ElementTable) -> None:
        """Store a copy without import and export converters."""
        ...

    def delete(self, query: ElementTable) -> int:
        """Delete what matches the identifiers, and return how many objects that was."""
        ...

    def modify(self, query: ElementTable, script: str, *, copy: bool) -> int:
        """Run an import script on all matching objects, in place or kept as new ones."""
        ...

    def oldest_patients(self, most: int, device: str, sort: str) -> list[str]:
        """Return patient IDs, least recently used first; a negative number, newest first."""
        ...

    def column(self, level: int, row: int) -> tuple[int, int, str, int, str, str] | None:
        """Return a row of dicom.sql: group, element, column, length, SQL type, DICOM type."""
        ...


class Server(Protocol):
    """The server itself: its settings and counters, and commands as Lua sends them."""

    def value(self, name: str) -> str | int | None:
        """Return what `Global.NAME` is, whatever the letter case."""
        ...

    def change(self, name: str, value: str) -> None:
        """Set `Global.NAME`: a key that dicom.ini has is rewritten there."""
        ...

    def setting(self, section: str, key: str, default: str) -> str:
        """Return what `gpps` reads from dicom.ini."""
        ...

    def node(self, number: int) -> tuple[str, str, str, str] | None:
        """Return a line of acrnema.map, counted from 0: AE, host, port, compression."""
        ...

    def command(self, text: str, upload: bytes = b"") -> bytes | None:
        """Run a server command (spec lua-api.md 8.2); None when it has no response.

        Args:
            text: the name, a colon, and the arguments as the command separates them; or, each
                argument with `APART` before it, whatever else is in them.
        """
        ...
