"""One run of a line over one object: what the steps read and what they leave behind.

The steps themselves: `dgate.rules.statements`. A `Run` belongs to the thread that carries one
object through a hook.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import PurePath
from typing import Final, Protocol

from dgate.clock import Clock
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError, Unsafe
from dgate.rules.actions import Archive, Files, Peers, Programs, Server, UidRegister
from dgate.rules.deidentification import Deidentification
from dgate.rules.effects import Captured, Forward, ImportForward, Request
from dgate.rules.session import Session

log = logging.getLogger("dgate.rules")

# Result codes of a step (spec converters.md 5). Plain integers: compared for every statement.
CONTINUE: Final = 1
DESTROY: Final = 2
STOP: Final = 3
FAILED: Final = 4
RETURN: Final = 5
REJECT: Final = 6


TEST_MODE: Final = "testmode"
"""The variable of a session that holds the suffix of `testmode`; lines can name x, y, z only."""


class Record(Enum):
    """The index row that a `%Q` token reads; the value is its letter."""

    PATIENT = "p"
    STUDY = "s"
    SERIES = "e"
    WORKLIST = "w"


class Environment(Protocol):
    """What lines learn from outside: the seam to archive and gateway."""

    @property
    def own_ae(self) -> str:
        """Return MyACRNema."""
        ...

    @property
    def clock(self) -> Clock:
        """Return the clock that `%d` and `between` read."""
        ...

    @property
    def uids(self) -> UidRegister:
        """Return the register of replaced values."""
        ...

    @property
    def deidentification(self) -> Deidentification:
        """Return the key of the site, and what keeps what was replaced."""
        ...

    @property
    def files(self) -> Files:
        """Return the files that rules may touch."""
        ...

    @property
    def programs(self) -> Programs:
        """Return what runs programs of the operating system."""
        ...

    @property
    def peers(self) -> Peers:
        """Return the other nodes, for Lua."""
        ...

    @property
    def archive(self) -> Archive:
        """Return the own archive, for Lua."""
        ...

    @property
    def server(self) -> Server:
        """Return the server's values and commands, for Lua."""
        ...

    def new_uid(self) -> str:
        """Return a new UID for `%g`."""
        ...

    def file_name(self, table: ElementTable) -> PurePath:
        """Return the path of the object's file, or the one that it would get now (`%f %b %p`)."""
        ...

    def sql_filter(self, condition: str, captured: Captured) -> bool:
        """Return whether the stored object passes an `ExportFilterN` condition."""
        ...

    def record(self, record: Record, table: ElementTable, tag: int) -> str:
        """Return a column of the index row that the object belongs to, empty when there is none.

        Raises StoreError when the index does not answer.
        """
        ...

    def stored(
        self, sop_instance: str, patient_id: str
    ) -> AbstractContextManager[ElementTable | None]:
        """Lend a stored object of the same patient, None when there is none.

        Raises RuleError when its file cannot be read, StoreError when the index does not answer.
        """
        ...


class Run:
    """The state of one line, or of a chain of lines, over one object."""

    __slots__ = (
        "callers",
        "captured",
        "device",
        "env",
        "export",
        "forwards",
        "is_request",
        "label",
        "lenient",
        "name",
        "outer",
        "path",
        "prelude",
        "reason",
        "requests",
        "retry",
        "session",
        "table",
        "variables",
        "where",
    )

    def __init__(
        self,
        table: ElementTable,
        captured: Captured,
        env: Environment,
        *,
        export: bool = False,
        lenient: bool = False,
        session: Session | None = None,
    ) -> None:
        self.table = table
        self.captured = captured
        self.env = env
        self.export = export
        self.lenient = lenient
        """`ScriptErrors = ignore`: a failing statement is logged and the line goes on."""
        self.session = session
        """What outlives the object; None where nothing does."""
        self.variables: dict[str, str] = {} if session is None else session.variables
        self.forwards: list[ImportForward] = []
        self.requests: list[Request] = []
        """Delayed operations that the lines ask for."""
        self.device: str | None = None
        self.reason = ""
        self.retry = False
        """Only in the hooks of refused objects: try once more."""
        self.is_request = False
        """The table is the identifier of a query or retrieval."""
        self.where = ""
        self.name = ""
        """`ImportConverter0`: how errors and forwards name the line."""
        self.label = ""
        """`Importconverter0`: how log lines name it (spec converters.md section 12)."""
        self.outer: Sequence[str] = ()
        self.path: PurePath | None = None
        self.callers: tuple[str, ...] = ()
        self.prelude: list[str] = []
        """Export: the `call` statements that changed the object, for the copy that is sent."""

    def enter(self, name: str, where: str) -> None:
        """Begin the line of converter `name`."""
        self.name = name
        self.where = where
        self.label = name.replace("Converter", "converter")
        self.path = None

    def file(self) -> PurePath:
        """Return the object's file name, asked for once per line."""
        if self.path is None:
            self.path = self.env.file_name(self.table)
        return self.path

    @property
    def name_suffix(self) -> str:
        """What `testmode` appends to the names of DICOM files that rules write and read."""
        return self.variables.get(TEST_MODE, "")

    def forward(self, forward: Forward) -> None:
        """Record a forward of the object as it is now."""
        self.forwards.append(
            ImportForward(forward, self.table if self.export else self.table.snapshot())
        )

    def failed(self, error: RuleError, statement: int) -> None:
        """Give an error its place; log it when the line goes on, else raise it."""
        if not error.where:
            error.where = f"{self.where} {self.name}.{statement}".strip()
        if not self.lenient or isinstance(error, Unsafe):
            raise error
        log.error("%s.%d was not executed and the line went on: %s", self.label, statement, error)


Step = Callable[[Run], int]
"""One statement, compiled."""

Value = Callable[[Run], str]
"""One template, compiled."""


def nothing(run: Run) -> int:
    """Execute an empty statement."""
    return CONTINUE
