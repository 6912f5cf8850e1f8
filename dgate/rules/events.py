"""Event converters: the rules that run on requests, answers and refused objects (spec 3, 9).

All of them use the import statement set and may exist once (`CompressionConverter` ten times). What
their results lead to is decided by whoever runs them. Import and export converters are in
`dgate.rules.hooks`. An `Events` is immutable and may be used by any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.compile import CompiledLine
from dgate.rules.effects import Captured, Decision, Outcome
from dgate.rules.run import DESTROY, REJECT, Environment, Run, log
from dgate.rules.session import Session

OUTCOMES = {DESTROY: Outcome.DESTROY, REJECT: Outcome.REJECT}
"""Result codes of a line that end an object, a request or an answer."""

Test = Callable[[Captured], bool]


class Event(Enum):
    """When an event converter runs; the value is its key without `ConverterN`."""

    QUERY = "Query"
    WORKLIST_QUERY = "WorkListQuery"
    RETRIEVE = "Retrieve"
    RETRIEVE_RESULT = "RetrieveResult"
    QUERY_RESULT = "QueryResult"
    WORKLIST_RESULT = "ModalityWorkListQueryResult"
    VIRTUAL_QUERY = "VirtualServerQuery"
    VIRTUAL_RESULT = "VirtualServerQueryResult"
    REJECTED_IMAGE = "RejectedImage"
    REJECTED_WORKLIST = "RejectedImageWorkList"
    REGEN = "Regen"
    REGEN_FAIL = "RegenFail"
    MERGE_SERIES = "MergeSeries"
    MERGE_STUDIES = "MergeStudies"
    ARCHIVE = "Archive"
    MOVE_DEVICE = "MoveDevice"
    COMPRESSION = "Compression"


REQUESTS = frozenset((Event.QUERY, Event.WORKLIST_QUERY, Event.RETRIEVE, Event.VIRTUAL_QUERY))
"""Events that carry the identifier of a request: here the virtual servers can be chosen."""
FORWARD_FAULT = "forward works on objects that are stored, or refused, only"
FORWARDING = frozenset((Event.REJECTED_IMAGE, Event.REJECTED_WORKLIST))
"""Events that carry an object which somebody will owe: here `forward to` works."""

EventHook = Callable[[ElementTable, Captured, Session | None], Decision]
"""Runs the converter of one event; the table is changed in place.

The last argument is what the association keeps, None where there is none. Raises RuleError when
the converter fails, and StoreError when it asks the index, which does not answer.
"""


class EventHooks(Protocol):
    """Where services and ingest get their event converters."""

    def hook(self, event: Event, index: int = 0) -> EventHook | None:
        """Return what runs the converter of an event, None when there is none configured."""
        ...


class NoEvents:
    """No event converter at all."""

    def hook(self, event: Event, index: int = 0) -> EventHook | None:
        """Return None."""
        return None


@dataclass(frozen=True, slots=True)
class Converter:
    """One converter that runs, compiled."""

    name: str
    index: int
    where: str
    passes: Test
    line: CompiledLine
    condition: str = ""
    """`ExportFilterN`; empty = none."""
    condition_fault: str = ""
    """What is wrong with the condition; empty = nothing."""
    decidable: bool = False
    """An export line that can be worked out while the object is stored."""
    digest: str = ""
    """Tells this line with its filters from others, also after it was given another number."""


class Events:
    """The event converters of one configuration."""

    def __init__(
        self, converters: Mapping[tuple[Event, int], Converter], *, lenient: bool = False
    ) -> None:
        """`lenient`: ScriptErrors = ignore."""
        self._converters = dict(converters)
        self._lenient = lenient

    def has(self, event: Event, index: int = 0) -> bool:
        """Tell whether a converter is configured, so that `run` is worth its preparation."""
        return (event, index) in self._converters

    def run(
        self,
        event: Event,
        table: ElementTable,
        captured: Captured,
        env: Environment,
        *,
        index: int = 0,
        session: Session | None = None,
    ) -> Decision:
        """Run the converter of an event, if there is one and its filters match.

        Raises RuleError, NotExecutable among them, when it fails: what it was to change must then
        not be used.
        """
        converter = self._converters.get((event, index))
        if converter is None or not converter.passes(captured):
            return Decision()
        run = Run(table, captured, env, lenient=self._lenient, session=session)
        run.is_request = event in REQUESTS
        run.enter(converter.name, converter.where)
        code = converter.line.run(run)
        if run.forwards and event not in FORWARDING:
            self._refuse_forward(converter, run)
        outcome = OUTCOMES.get(code, Outcome.KEEP)
        return Decision(outcome, run.reason, run.retry, run.forwards, run.requests)

    def _refuse_forward(self, converter: Converter, run: Run) -> None:
        rule = run.forwards[0].forward.rule
        error = RuleError(FORWARD_FAULT, where=f"{converter.where} {rule}".strip())
        if not self._lenient:
            raise error
        run.forwards.clear()
        log.error("%s was not executed and the line went on: %s", rule, error)
