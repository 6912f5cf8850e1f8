"""Works off delayed operations: what a request means by now, and what is owed for it.

A request names a patient, study, series or image; which objects those are is found out when its
quiet time is over, so that what came meanwhile is part of it. Not for waiting (`archive.requests`,
`delivery.ledger`), nor for sending. Runs in the worker of the request's lane.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace

from dgate.archive.database import Database
from dgate.archive.debttable import SENT_CONTEXT
from dgate.archive.export import Exporter
from dgate.archive.levels import Level
from dgate.archive.query import Finder, QueryKey
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.repair import RepairSettings, indexed_patient_id
from dgate.archive.requests import REQUEST_IDENTITIES, request_of, resolved
from dgate.archive.writer import database_time
from dgate.clock import Clock, SystemClock
from dgate.config.layout import PATIENT_ID, SERIES_UID, SOP_UID, STUDY_UID
from dgate.config.nodes import NodeMap
from dgate.config.targets import owed_as
from dgate.delivery.records import Debt
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, UTF_8, encode_data_set
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import RuleError, StoreError
from dgate.rules.effects import ObjectScope, Outcome, Request
from dgate.rules.events import EventHook
from dgate.rules.hooks import capture

log = logging.getLogger(__name__)

COLLECTED = SENT_CONTEXT
"""Begins the context of a delivery that a request was replaced by; its identity follows."""
_COMMIT_S = 0.9
"""Longer than another gateway's transaction is under way between its time and its commit; where the
database is a file there is none."""

_TAGS = {
    "patient_id": PATIENT_ID,
    "study": STUDY_UID,
    "series": SERIES_UID,
    "sop_instance": SOP_UID,
    "date": 0x00080020,
    "modality": 0x00080060,
    "image_type": 0x00080008,
    "series_description": 0x0008103E,
}
_CONTROL_GROUP = 0x9999
_NOTHING = "no stored object has the IDs that the object had when the rule asked for this"
_NOTHING_REMEDY = "they were changed or deleted since; `dgate send` can send what is meant"
_ACCESS_STEP_S = 32.0
"""AccessTime is kept in steps of so many seconds (`dgate.archive.index`)."""
_DELIVERED = (
    # Its index holds only what has a context, and the planner has to be told that this has.
    "SELECT sop_instance, max(created) FROM dgate_debts WHERE kind = 'deliver' AND context = ? "
    "AND context <> '' "
    "AND state IN ('queued', 'leased', 'held', 'stuck', 'committing', 'done') GROUP BY sop_instance"
)
_SENT = "SELECT sop, max(owed) FROM dgate_sent WHERE context = ? GROUP BY sop"
_CAME = "SELECT max(received) FROM dgate_received WHERE sop = ?"


@dataclass(frozen=True, slots=True)
class Performed:
    """What came of a request."""

    drafts: tuple[DebtDraft, ...] = ()
    """What is owed in its place; the debt of the request is replaced by these."""
    text: str = ""
    """What was done, for the ledger; empty where drafts say it."""


Operation = Callable[[Request, Debt], Performed]
"""Works one kind of request off. Raises RuleError where a person has to act; StoreError and
PeerError where a later try may do better."""


class Performer:
    """Works requests off."""

    def __init__(
        self,
        database: Database,
        finder: Finder,
        exporter: Exporter,
        settings: RepairSettings,
        retrieve_hook: EventHook | None = None,
        clock: Clock | None = None,
        nodes: NodeMap | None = None,
    ) -> None:
        """`retrieve_hook` is RetrieveConverter0, which sees what is forwarded as it sees a C-MOVE
        (rulings.md 16). `clock` is that of the machine which writes the files.
        """
        self._clock = clock or SystemClock()
        self._nodes = nodes or NodeMap()
        self._database = database
        self._finder = finder
        self._exporter = exporter
        self._settings = settings
        self._retrieve_hook = retrieve_hook
        self.operations: dict[str, Operation] = {
            "forward": self._forward,
            "prefetch": self._prefetch,
        }
        """By the word of the statement; who builds a performer adds those that need more than the
        archive's index."""

    def perform(self, debt: Debt) -> Performed:
        """Do what a debt of kind `request` asks for.

        Raises:
            RuleError: it cannot be done before somebody corrects the rule.
            StoreError, PeerError: it could not be done now.
        """
        try:
            request = request_of(debt.context, debt.rule)
        except ValueError as exc:
            raise RuleError(f"the request cannot be read: {exc}") from exc
        operation = self.operations.get(request.operation)
        if operation is None:
            raise RuleError(f"there is no operation {request.operation}", where=debt.rule)
        return operation(request, debt)

    def select(self, scope: ObjectScope) -> list[InstanceRef]:
        """Return the stored objects that a request means; IDs and UIDs count letter by letter.

        Raises:
            RuleError: nothing limits it, or the index has no column for a filter.
        """
        patient_id = scope.patient_id and indexed_patient_id(scope.patient_id, self._settings)
        scope = replace(scope, patient_id=patient_id)
        keys = []
        for field in fields(scope):
            value = getattr(scope, field.name)
            if not value:
                continue
            tag = _TAGS[field.name]
            if not self._finder.knows(Level.IMAGE, tag):
                name = field.name.replace("_", " ")
                raise RuleError(
                    f"the index has no column for the {name}",
                    remedy=f"add ({tag >> 16:04x},{tag & 0xFFFF:04x}) to dicom.sql",
                )
            keys.append(QueryKey(tag, value))
        wanted = {name: getattr(scope, name) for name in REQUEST_IDENTITIES if getattr(scope, name)}
        if not wanted:
            raise RuleError("the request names no patient, study, series or image")
        # What looks like a pattern in an ID is none: it came from outside.
        return [
            ref
            for ref in self._finder.select(keys)
            if all(getattr(ref, name).rstrip(" ") == value for name, value in wanted.items())
        ]

    # forward

    def _forward(self, request: Request, debt: Debt) -> Performed:
        """Owe the delivery of every object that has not been delivered for the same request."""
        scope, refused = self._seen_by_retrieve_converter(request, debt)
        if refused:
            return Performed(text=f"not sent: {refused}")
        found = self.select(scope) or self._selected_by_asker(request, debt)
        if not found:
            # Never done in silence: somebody counts on it.
            raise RuleError(_NOTHING, where=request.rule, remedy=_NOTHING_REMEDY)
        refs = _part(found, request.split)
        context = f"{COLLECTED}{debt.ref.name}"
        known = self._delivered(context)
        ahead_s = self._ahead_s() if known else 0.0
        wanted = [ref for ref in refs if self._is_news(ref, known.get(ref.sop_instance), ahead_s)]
        if not wanted:
            return Performed(text=f"nothing new to send: {len(refs)} object(s) were sent before")
        destination, called = owed_as(request.peer, "", self._nodes)
        return Performed(
            tuple(
                DebtDraft(
                    DebtKind.DELIVER,
                    destination,
                    request.rule,
                    called=called,
                    compression=request.compression,
                    script=request.script,
                    context=context,
                    ref=ref,
                )
                for ref in wanted
            )
        )

    def _seen_by_retrieve_converter(self, request: Request, debt: Debt) -> tuple[ObjectScope, str]:
        """Show the request to RetrieveConverter0 as the identifier of a C-MOVE; return what it
        makes of it, and why it refuses it."""
        if self._retrieve_hook is None:
            return request.scope, ""
        values: dict[int, str | None] = {QUERY_RETRIEVE_LEVEL: request.level.upper()}
        values.update(keys_of(request.scope))
        charset = "" if all((text or "").isascii() for text in values.values()) else UTF_8
        table = ElementTable(encode_data_set(values, EXPLICIT_LE, charset), EXPLICIT_LE)
        captured = replace(capture(table, debt.calling, debt.called), station=request.peer)
        decision = self._retrieve_hook(table, captured, None)
        if decision.outcome is Outcome.DESTROY:
            return request.scope, decision.reason
        controls = [tag for tag in table.tags() if tag >> 16 == _CONTROL_GROUP]
        if controls:
            # What would have been taken out of the copies of a retrieval must not go out here.
            raise RuleError(
                f"RetrieveConverter0 set (9999,{controls[0] & 0xFFFF:04X}), which a forward of "
                "whole studies does not carry out",
                where=request.rule,
                remedy="use the clauses compressed, split and script of the statement",
            )
        return ObjectScope(**{name: table.text(tag) for name, tag in _TAGS.items()}), ""

    def _selected_by_asker(self, request: Request, debt: Debt) -> list[InstanceRef]:
        """Return what the request means for the object that asked for it, by the IDs that it has
        now: a correction may have been committed while the request was being worked on, or the
        index have been changed by other means."""
        now = self._finder.instance(debt.ref.sop_instance)
        if now is None:
            return []
        scope, before = request.scope, debt.ref
        own = tuple(
            name
            for name in REQUEST_IDENTITIES
            if getattr(scope, name) and getattr(scope, name) == getattr(before, name)
        )
        followed = resolved(replace(request, own=own), now)
        return [] if followed.scope == scope else self.select(followed.scope)

    def _delivered(self, context: str) -> dict[str, float]:
        """Return when the objects that this request was replaced by before were owed; what has left
        the ledger's history is known from `dgate_sent`."""
        found: dict[str, float] = {}
        for statement in (_SENT, _DELIVERED):
            rows = self._database.rows(self._database.sql(statement), (context,))
            found |= {str(row[0]): float(str(row[1])) for row in rows}
        return found

    def _ahead_s(self) -> float:
        """Return how far our clock, by which files are written, is ahead of the database's."""
        if self._database.clock_sql is None:
            return 0.0
        with self._database.reader() as connection:
            theirs = database_time(self._database, self._clock, connection)
        return self._clock.now() - theirs

    def _is_news(self, ref: InstanceRef, owed: float | None, ahead_s: float) -> bool:
        """Tell whether an object was never sent, or has been replaced since.

        What came with a request is noted in the transaction that stored it. Of what came without,
        both the file and its row are younger: the file alone is after it was moved, the row after
        the index was rebuilt.
        """
        if owed is None:
            return True
        slack_s = 0.0 if self._database.embedded else _COMMIT_S
        for row in self._database.rows(self._database.sql(_CAME), (ref.sop_instance,)):
            if row[0] is not None and float(str(row[0])) + slack_s >= owed:
                return True
        written = self._exporter.written(ref)
        if written is None or written - ahead_s <= owed:
            return False
        entered = self._finder.entered(ref.sop_instance)
        return entered is None or entered + _ACCESS_STEP_S - ahead_s > owed

    # prefetch

    def _prefetch(self, request: Request, debt: Debt) -> Performed:
        """Read all files, so that the operating system has them at hand."""
        read = missing = 0
        for ref in self.select(request.scope):
            try:
                with closing(self._exporter.open(ref)) as outgoing:
                    for _ in outgoing.chunks():
                        pass
                read += 1
            except StoreError as exc:
                log.info("A file could not be read ahead: %s", exc)
                missing += 1
        return Performed(text=f"read {read} file(s) ahead, {missing} could not be read")


def keys_of(scope: ObjectScope) -> dict[int, str]:
    """Return a scope as elements of a query's identifier; what is empty is left out."""
    return {tag: getattr(scope, name) for name, tag in _TAGS.items() if getattr(scope, name)}


def _part(refs: Sequence[InstanceRef], split: str) -> Sequence[InstanceRef]:
    """Return every M-th object from the Nth on, for `N/M`."""
    if not split:
        return refs
    first, _, step = split.partition("/")
    if int(step) <= 0:
        raise RuleError(f"split {split} asks for every {step}th object")
    return refs[int(first) :: int(step)]
