"""A service on a loopback port, and what it is made over: a finder that knows its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dgate.archive.levels import Level
from dgate.archive.query import EVERYTHING, Page, QueryKey
from dgate.archive.records import InstanceRef
from dgate.dicom.encode import encode_data_set
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.net import Association, CommandField, ContextProposal, Handler, connect
from tests.net.kit import FAST, serving

Answer = dict[int, str | None]

LEVEL = 0x00080052
CHARSET = 0x00080005


@dataclass
class TwinFinder:
    """Answers every question with what it was given."""

    answers: list[Answer] = field(default_factory=list)
    refs: list[InstanceRef] = field(default_factory=list)
    asked: list[Sequence[QueryKey]] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    produced: int = 0
    """How many answers have been asked for."""

    def find(
        self, level: Level, keys: Sequence[QueryKey], page: Page = EVERYTHING
    ) -> Iterator[Answer]:
        """Yield the answers, with every key that was asked for."""
        self.asked.append(keys)
        self.pages.append(page)
        unknown: Answer = {key.tag: None for key in keys}
        for answer in self.answers:
            self.produced += 1
            yield unknown | answer

    def select(self, keys: Sequence[QueryKey], level: Level) -> list[InstanceRef]:
        """Return the objects."""
        self.asked.append(keys)
        return self.refs

    def knows(self, level: Level, tag: int) -> bool:
        """Tell that everything is in the index."""
        return True


@contextmanager
def asking(
    field_: CommandField, sop_class: str, handler: Handler, syntax: str = EXPLICIT_LE
) -> Iterator[Association]:
    """Serve one command and yield an association with the service."""
    with serving(handlers={(field_, sop_class): handler}) as server:
        proposal = ContextProposal(sop_class, (syntax,))
        with connect(
            "127.0.0.1", server.port, "VIEWER", "GATE", (proposal,), timeouts=FAST
        ) as association:
            yield association


def identifier(level: str, values: Answer, syntax: str = EXPLICIT_LE, charset: str = "") -> bytes:
    """Return an encoded identifier."""
    return encode_data_set({LEVEL: level} | values, syntax, charset)


def decoded(data: bytes, syntax: str = EXPLICIT_LE) -> Answer:
    """Return the elements of an answer as text."""
    table = ElementTable(data, syntax)
    return {tag: table.text(tag) for tag in table.tags()}
