"""Runs the rules of a configuration over objects without storing, sending or writing anything.

Beside a running server or without one. Import rules run over the object as it would arrive, export
rules over what they leave, the scripts of forwards over a copy of that. One thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

from dgate.config.nodes import NodeMap
from dgate.config.settings import Configuration, ConverterText, Settings
from dgate.delivery.destination import resolve
from dgate.dicom.differences import differences
from dgate.dicom.table import ElementTable
from dgate.errors import ConfigError, Deferred, PeerError, RuleError, StoreError
from dgate.rules.effects import Captured, Expansion, Forward, ImportVerdict, Outcome, Request
from dgate.rules.hooks import Rules, capture
from dgate.rules.patterns import FILTER_KEYS, matcher
from dgate.rules.recorder import Executed, Recorder
from dgate.rules.run import Environment
from dgate.rules.session import Session
from dgate.rules.sqlfilter import is_no_filter
from dgate.tracing.report import DestinationTrace, FilterTest, ObjectTrace, RequestTrace, RuleTrace

SOP_CLASS = 0x00080016
SOP_INSTANCE = 0x00080018
PATIENT_ID = 0x00100020
MODALITY = 0x00080060


Surround = Callable[[Captured, ElementTable, PurePath | None], Environment]
"""Gives the rules of one run what they may ask; the table is the object as it is then, and the path
that of its file, None while it is only arriving."""


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """One object to trace."""

    source: str
    table: ElementTable
    calling: str
    called: str
    path: Path | None = None
    """Of its file, where it is stored already."""


class Tracer:
    """Traces one object after the other."""

    def __init__(
        self,
        configuration: Configuration,
        recorder: Recorder,
        rules: Rules,
        surround: Surround,
    ) -> None:
        """`rules` were built with `recorder` as their observer; what `surround` gives notes there
        what is done.
        """
        self._settings: Settings = configuration.settings
        self._nodes: NodeMap = configuration.nodes
        self._recorder = recorder
        self._rules = rules
        self._surround = surround
        self._association = Session()

    def trace(self, subject: Subject) -> ObjectTrace:
        """Return what the rules would do to an object; it is left as it was."""
        return self.trace_with_result(subject)[0]

    def trace_with_result(self, subject: Subject) -> tuple[ObjectTrace, ElementTable]:
        """Return the trace, and the object as the import rules leave it."""
        table = subject.table.snapshot()
        captured = capture(table, subject.calling, subject.called)
        trace = ObjectTrace(
            subject.source,
            table.text(SOP_INSTANCE),
            table.text(SOP_CLASS),
            table.text(PATIENT_ID),
            captured.modality,
            subject.calling,
            subject.called,
        )
        self._note_reencoding(trace)
        verdict = self._import(trace, table, captured, subject)
        trace.outcome, trace.reason = verdict.outcome.value, verdict.reason
        trace.device = verdict.device or ""
        trace.changes = list(differences(subject.table, table))
        for forward in verdict.forwards:
            trace.destinations.append(self._destination(forward.forward, forward.snapshot, subject))
        trace.requests = [self._request(request) for request in verdict.requests]
        self._export(trace, table, subject)
        return trace, table

    def _note_reencoding(self, trace: ObjectTrace) -> None:
        settings = self._settings
        code = settings.incoming_compression
        if code and code.lower() not in ("as", "is"):
            trace.notes.append(
                f"IncomingCompression = {code} re-encodes the object before the rules"
            )
        if settings.worklist_mode:
            trace.notes.append("WorkListMode fills the object from the worklist before the rules")

    # import

    def _import(
        self, trace: ObjectTrace, table: ElementTable, captured: Captured, subject: Subject
    ) -> ImportVerdict:
        self._recorder.take()
        env = self._surround(captured, table, None)
        verdict = self._rules.run_import(table, captured, env, self._association)
        events = self._recorder.take()
        ended = ""
        for text in self._texts("Import"):
            name = f"ImportConverter{text.index}"
            rule = self._rule(text, name, captured, [e for e in events if _is_of(e, name)])
            if rule.fires and ended:
                rule.fires, rule.reason = False, f"{ended} ended the rules for this object"
            if rule.fires and verdict.outcome is not Outcome.KEEP and _ends_here(rule, events):
                ended = name
            trace.imports.append(rule)
        return verdict

    # export

    def _export(self, trace: ObjectTrace, table: ElementTable, subject: Subject) -> None:
        captured = capture(table, subject.calling, subject.called)
        for text in self._texts("Export"):
            name = f"ExportConverter{text.index}"
            rule = self._rule(text, name, captured, [])
            trace.exports.append(rule)
            if rule.fires and trace.outcome != Outcome.KEEP.value:
                rule.fires, rule.reason = False, "the object is not stored"
            if not rule.fires:
                continue
            copy = table.snapshot()
            env = self._surround(captured, copy, subject.path)
            try:
                if not self._passes_sql(text, rule, env, captured):
                    continue
                wanted = self._rules.expand(text.index, copy, captured, env)
            except Deferred as exc:
                rule.reason = str(exc)
                wanted = Expansion()
            except (RuleError, StoreError) as exc:
                rule.reason = f"fails: {exc}"
                wanted = Expansion()
            rule.statements = self._recorder.take()
            trace.requests += map(self._request, wanted.requests)
            for forward in wanted.forwards:
                trace.destinations.append(self._destination(forward, table, subject))

    @staticmethod
    def _passes_sql(
        text: ConverterText, rule: RuleTrace, env: Environment, captured: Captured
    ) -> bool:
        """Try ExportFilterN; a condition that cannot be run raises RuleError."""
        condition = text.filters.sql
        if is_no_filter(condition):
            return True
        passes = env.sql_filter(condition, captured)
        key = f"ExportFilter{text.index}"
        rule.filters.append(FilterTest(key, condition, "the object's index rows", passes))
        if not passes:
            rule.fires, rule.reason = False, f"{key} does not hold: {condition}"
        return passes

    def _destination(
        self, forward: Forward, table: ElementTable, subject: Subject
    ) -> DestinationTrace:
        found = DestinationTrace(
            forward.rule, forward.target, compression=forward.compression or ""
        )
        try:
            place = resolve(
                forward.target, self._nodes, self._settings, forward.calling, forward.called
            )
        except (ConfigError, PeerError) as exc:
            found.problem = str(exc)
        else:
            found.host, found.port = place.host, place.port
            found.calling, found.called = place.calling, place.called
            found.compression = found.compression or place.code
        if forward.script:
            self._run_script(forward.script, found, table, subject)
        return found

    def _request(self, request: Request) -> RequestTrace:
        scope = {
            field.name: getattr(request.scope, field.name)
            for field in dataclasses.fields(request.scope)
            if getattr(request.scope, field.name)
        }
        delay = request.delay_s
        return RequestTrace(
            request.rule,
            request.operation,
            request.level,
            scope,
            self._settings.forward_collect_delay_s if delay is None else delay,
            request.peer,
            request.compression,
            request.script,
            [request.lua_file, *request.arguments] if request.lua_file else list(request.arguments),
        )

    def _run_script(
        self, script: str, found: DestinationTrace, table: ElementTable, subject: Subject
    ) -> None:
        copy = table.snapshot()
        captured = capture(copy, subject.calling, subject.called)
        env = self._surround(captured, copy, subject.path)
        self._recorder.take()
        try:
            verdict = self._rules.run_script(script, copy, captured, env)
            if verdict.outcome is not Outcome.KEEP:
                found.problem = verdict.reason or "the script refuses the copy"
        except (RuleError, StoreError) as exc:
            found.problem = f"the script fails: {exc}"
        found.script = self._recorder.take()

    # what both have in common

    def _texts(self, family: str) -> list[ConverterText]:
        texts = [text for text in self._settings.converters if text.family == family]
        return sorted(texts, key=lambda text: text.index)

    def _rule(
        self, text: ConverterText, name: str, captured: Captured, events: list[Executed]
    ) -> RuleTrace:
        """Return the trace of a converter, with its filters tried."""
        rule = RuleTrace(name, text.where, fires=True, statements=events)
        if text.lua:
            # Filters do not count for rules of section [lua] (spec S22).
            return rule
        family = text.family
        for field, part in FILTER_KEYS.items():
            pattern = getattr(text.filters, field)
            if pattern == "*":
                continue
            value = getattr(captured, field)
            matches = bool(pattern.strip()) and matcher(pattern)(value)
            rule.filters.append(FilterTest(f"{family}{part}{text.index}", pattern, value, matches))
        failed = next((one for one in rule.filters if not one.matches), None)
        if failed is not None:
            rule.fires = False
            rule.reason = f"{failed.key} = {failed.pattern} does not match {failed.value!r}"
            if not failed.pattern.strip():
                rule.reason = f"{failed.key} is empty, which never matches"
        return rule


def _is_of(event: Executed, rule: str) -> bool:
    return event.rule == rule or event.rule.startswith(f"{rule}.")


def _ends_here(rule: RuleTrace, events: Sequence[Executed]) -> bool:
    """Tell whether the last thing that happened at all happened in this rule."""
    return bool(events) and bool(rule.statements) and rule.statements[-1] is events[-1]
