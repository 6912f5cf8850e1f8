"""A Lua state over fakes of everything that scripts can reach, for tests of the libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import RuleError
from dgate.rules.actions import MoveProgress
from dgate.rules.hooks import Rules, capture
from dgate.rules.lua.objects import ObjectHandle
from dgate.rules.lua.state import Frame, Limits, LuaState
from dgate.rules.run import Run
from dgate.rules.session import Session
from tests.archive.intake_kit import data_set
from tests.rules.kit import FakeEnvironment, rules


@dataclass(frozen=True)
class Answer:
    """What a peer says to one C-STORE."""

    sop_instance: str
    status: int | None


@dataclass
class FakePeers:
    """The in-memory twin of `rules.actions.Peers`."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    found: list[ElementTable] | None = field(default_factory=list)
    problem: str = ""
    answers: Sequence[Answer] | str = ()
    echoed: ElementTable | None = None
    prints: bool = True

    def find(self, node: str, level: str, query: ElementTable) -> list[ElementTable] | None:
        self.calls.append(("find", node, level, texts(query)))
        return self.found

    def get(self, node: str, level: str, query: ElementTable) -> list[ElementTable] | None:
        self.calls.append(("get", node, level, texts(query)))
        return self.found

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
        added = None if extra is None else texts(extra)
        self.calls.append(("move", source, destination, texts(query), patient_root, added))
        if progress is not None:
            for done in (1, 2):
                progress(done, 2)
        return self.problem

    def store(
        self, node: str, objects: Sequence[ElementTable], *, code: str | None = None
    ) -> Sequence[Answer] | str:
        self.calls.append(("store", node, [table.text(0x00080018) for table in objects]))
        return self.answers

    def echo(self, node: str, extra: ElementTable | None = None) -> ElementTable | None:
        self.calls.append(("echo", node, None if extra is None else texts(extra)))
        return self.echoed

    def print_films(
        self,
        node: str,
        images: Sequence[ElementTable],
        annotation: str,
        options: str,
        after_each: Callable[[], None] | None = None,
    ) -> bool:
        self.calls.append(("print", node, len(images), annotation, options))
        for _ in images:
            if after_each is not None:
                after_each()
        return self.prints


@dataclass
class FakeArchive:
    """The in-memory twin of `rules.actions.Archive`."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    rows: list[list[str]] | None = field(default_factory=list)
    succeeds: bool = True
    objects: dict[str, ElementTable] = field(default_factory=dict)
    patients: list[str] = field(default_factory=list)

    def query(
        self,
        tables: str,
        fields: str,
        where: str = "",
        sort: str = "",
        parameters: Sequence[Any] = (),
    ) -> list[list[str]] | None:
        self.calls.append(("query", tables, fields, where, sort, list(parameters)))
        return self.rows

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> bool:
        self.calls.append(("execute", statement, list(parameters)))
        return self.succeeds

    def load(self, name: str) -> ElementTable:
        if name not in self.objects:
            raise RuleError("Failed to read dicom file: there is no such object", where=name)
        return self.objects[name].snapshot()

    def read(self, query: ElementTable, header_bytes: int = 0) -> Iterator[ElementTable]:
        self.calls.append(("read", texts(query), header_bytes))
        yield from self.objects.values()

    def add(self, table: ElementTable) -> None:
        self.calls.append(("add", table.text(0x00080018)))

    def delete(self, query: ElementTable) -> int:
        self.calls.append(("delete", texts(query)))
        return 1

    def modify(self, query: ElementTable, script: str, *, copy: bool) -> int:
        self.calls.append(("modify", texts(query), script, copy))
        return 1

    def oldest_patients(self, most: int, device: str, sort: str) -> list[str]:
        self.calls.append(("oldest", most, device, sort))
        return self.patients

    def column(self, level: int, row: int) -> tuple[int, int, str, int, str, str] | None:
        if (level, row) != (0, 0):
            return None
        return 16, 32, "PatientID", 64, "SQL_C_CHAR", "DT_STR"


@dataclass
class FakeServer:
    """The in-memory twin of `rules.actions.Server`."""

    values: dict[str, str] = field(default_factory=dict)
    commands: list[tuple[str, bytes]] = field(default_factory=list)
    response: bytes | None = b"0"

    def value(self, name: str) -> str | int | None:
        return self.values.get(name)

    def change(self, name: str, value: str) -> None:
        self.values[name] = value

    def setting(self, section: str, key: str, default: str) -> str:
        return f"{section}.{key}" if key == "MyACRNema" else default

    def node(self, number: int) -> tuple[str, str, str, str] | None:
        return ("PACS", "10.0.0.1", "104", "un") if number == 0 else None

    def command(self, text: str, upload: bytes = b"") -> bytes | None:
        self.commands.append((text, upload))
        return self.response


def texts(table: ElementTable) -> dict[str, str]:
    """Return the elements of a small object by tag in hex."""
    return {f"{tag:08x}": table.text(tag) for tag in table.tags()}


class Bench:
    """A Lua state with an object as `Data`."""

    def __init__(self, table: ElementTable | None = None, limits: Limits | None = None) -> None:
        self.table = table or ElementTable(data_set(), EXPLICIT_LE)
        self.env: Any = FakeEnvironment()
        self.peers = self.env.peers = FakePeers()
        self.archive = self.env.archive = FakeArchive()
        self.server = self.env.server = FakeServer()
        self.session = Session("SCANNER", "DGATE")
        # No wall time: a busy machine is not what is tested.
        self.state = LuaState(self.session, limits or Limits(seconds=0))
        self._rules: Rules = rules()

    def run(self, code: str | bytes, *, on: ElementTable | None = None) -> Any:
        """Run code over Data and return the value that it returns; raises RuleError."""
        table = self.table if on is None else on
        made = Run(table, capture(table, "SCANNER", "DGATE"), self.env, session=self.session)
        made.enter("ImportConverter0", "dicom.ini:1")
        data = ObjectHandle(table, is_data=True)
        frame = Frame(made, self._rules.library, data)
        source = code.encode() if isinstance(code, str) else code
        return self.state.run_chunk(frame, source, "=test")

    def close(self) -> None:
        """Give the state's memory back."""
        self.state.close()
