"""The rules of one configuration, ready to run: converters and scripts (spec converters.md 3).

What becomes of their effects is decided by `archive.ingest` and `delivery`. Event converters are
compiled here and run in `dgate.rules.events`. A `Rules` is immutable and may be used by any number
of threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import reduce
from operator import attrgetter
from pathlib import Path

from dgate.config.settings import ConverterText, Settings
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import RuleError, StoreError
from dgate.rules.compile import CompiledLine, Library, Observer, compile_line
from dgate.rules.effects import Captured, Expansion, ExportPlan, ImportVerdict, Outcome
from dgate.rules.events import FORWARD_FAULT, FORWARDING, OUTCOMES, Converter, Event, Events, Test
from dgate.rules.grammar import Item, Line, is_executable
from dgate.rules.lua.state import Limits
from dgate.rules.lua.text import utf8
from dgate.rules.opaque import lift
from dgate.rules.patterns import FILTER_KEYS, Matcher, matcher
from dgate.rules.problems import Checker, Gravity, RuleProblem
from dgate.rules.run import Environment, Run, Step, log
from dgate.rules.session import Session
from dgate.rules.sqlfilter import check, is_no_filter
from dgate.rules.statements.base import Statement
from dgate.rules.statements.conditions import Condition
from dgate.rules.statements.flow import Nop, Return, Stop
from dgate.rules.statements.forwarding import DirectForward
from dgate.rules.statements.placement import Storage
from dgate.rules.statements.scripts import run_lua_file
from dgate.rules.syntax import Dialect, Family, ParseError
from dgate.rules.values import needs_file, reads_outside

_DECIDABLE = (Nop, Stop, Return, Condition, DirectForward)
"""What an export line may consist of to be decided while the object is stored (rulings.md 9)."""
_ALL_FILTER_KEYS = {**FILTER_KEYS, "sql": "Filter"}
_CAPTURED = (0x00080060, 0x00081010, 0x00080018, 0x00100020)


def _deferral(converter: Converter) -> ExportPlan:
    return ExportPlan(converter.index, deferred=True, digest=converter.digest)


def _digest(text: ConverterText) -> str:
    content = repr((text.lua, text.text, text.filters))
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def capture(table: ElementTable, calling: str, called: str) -> Captured:
    """Return the %-values that converters see as captured (spec converters.md 2)."""
    modality, station, sop_instance, patient_id = map(table.text, _CAPTURED)
    return Captured(modality, station, sop_instance, patient_id, calling, called)


NOBODY = Captured("", "", "", "", "", "")
"""The %-values where there is neither object nor association."""


class Rules:
    """All rules of a configuration, compiled once."""

    def __init__(
        self,
        imports: list[Converter],
        exports: list[Converter],
        events: Events,
        library: Library,
        problems: list[RuleProblem],
        *,
        lenient: bool,
    ) -> None:
        self._imports = tuple(imports)
        self._exports = tuple(exports)
        self._by_number = {converter.index: converter for converter in exports}
        self._by_digest = {converter.digest: converter for converter in exports}
        self._library = library
        self._lenient = lenient
        self.events = events
        """The converters that run on requests, answers and refused objects."""
        self.problems = tuple(problems)
        self.script_places = frozenset(library.places)
        """Where the script files of the rules are, or were looked for in vain."""
        self.is_empty_import = not imports
        """Whether `run_import` need not be called at all."""
        self.is_empty_export = not exports
        """Whether `plan_exports` need not be called at all."""

    @property
    def library(self) -> Library:
        """The scripts that the rules call, as they were read."""
        return self._library

    @classmethod
    def build(cls, settings: Settings, observer: Observer | None = None) -> Rules:
        """Compile the converters of a configuration; what is wrong ends up in `problems`.

        `observer` watches what the lines do.
        """
        return _Builder(settings, observer).build()

    def run_import(
        self,
        table: ElementTable,
        captured: Captured,
        env: Environment,
        session: Session | None = None,
    ) -> ImportVerdict:
        """Run the import converters over an object that has arrived; `table` is changed in place.

        `session` is what outlives the object (spec: the association). A
        failing script refuses the object unless `ScriptErrors = ignore`.
        """
        verdict = ImportVerdict()
        run = None
        for converter in self._imports:
            if not converter.passes(captured):
                continue
            if run is None:
                run = Run(table, captured, env, lenient=self._lenient, session=session)
                verdict.forwards, verdict.requests = run.forwards, run.requests
            run.enter(converter.name, converter.where)
            revision = table.revision
            try:
                code = converter.line.run(run)
            except RuleError as exc:
                log.error("An object was refused because a rule failed: %s", exc)
                return ImportVerdict(Outcome.REJECT, reason=str(exc))
            if table.revision != revision:
                verdict.changed_by.append(converter.name)
            if code in OUTCOMES:
                verdict.outcome = OUTCOMES[code]
                verdict.reason = run.reason
                break
        verdict.device = run.device if run is not None else None
        return verdict

    def plan_exports(
        self, table: ElementTable, captured: Captured, env: Environment
    ) -> list[ExportPlan]:
        """Return what the export converters owe for an object that is being stored.

        Lines that can be decided now are; the others are deferred to `expand`. Captured values
        are those after import.
        """
        plans = []
        for converter in self._exports:
            if not converter.passes(captured):
                continue
            if not converter.decidable:
                plans.append(_deferral(converter))
                continue
            try:
                forwards = self._export(converter, table, captured, env).forwards
            except RuleError:
                # The dispatcher meets the same error, where it can be kept with the debt.
                plans.append(_deferral(converter))
                continue
            if forwards:
                plans.append(ExportPlan(converter.index, forwards))
        return plans

    def expand(
        self,
        converter: int,
        table: ElementTable,
        captured: Captured,
        env: Environment,
        digest: str = "",
        session: Session | None = None,
    ) -> Expansion:
        """Return what one export converter wants for a stored object, filters applied.

        The line with the digest runs, whatever its number is by now; one that was edited meanwhile
        runs as it is now. `table` may be changed by scripts that the line calls. Raises RuleError,
        NotExecutable among them, when the debt cannot be worked off before somebody corrects the
        rule, and Deferred when the line is to be run again later; what it did before, files and
        programs, it then does again.
        """
        found = self._by_number.get(converter)
        if digest and (found is None or found.digest != digest):
            found = self._by_digest.get(digest, found)
        if found is None:
            raise RuleError(
                f"ExportConverter{converter} no longer runs, so nobody knows where this object "
                "was to go",
                remedy=f"put the line back (ExportConverters must be more than {converter}) "
                "and `dgate queue retry`; or send the object again and "
                "`dgate queue cancel`",
            )
        if not found.passes(captured):
            return Expansion()
        if found.condition_fault:
            raise RuleError(found.condition_fault, where=f"{found.where} ExportFilter{found.index}")
        if found.condition and not env.sql_filter(found.condition, captured):
            return Expansion()
        return self._export(found, table, captured, env, session)

    def lua_text(
        self,
        code: str,
        name: str,
        table: ElementTable,
        captured: Captured,
        env: Environment,
        session: Session,
    ) -> str | None:
        """Return what Lua code gives for an object; None, and a log line, when it gives nothing."""
        run = Run(table, captured, env, session=session)
        run.enter(name, "")
        try:
            library = self._library
            value = library.lua.evaluate(run, library, utf8(code), f"={name}")
        except (RuleError, StoreError) as exc:
            log.error("%s failed, so the default is taken: %s", name, exc)
            return None
        if value is None or isinstance(value, bool):
            log.warning("%s gave no text, so the default is taken.", name)
            return None
        return value if isinstance(value, str) else f"{value:.14g}"

    def run_lua_job(self, name: str, command_line: str, env: Environment, session: Session) -> None:
        """Run a Lua file without an object, as `process by` does; raises RuleError."""
        run = Run(ElementTable(b"", EXPLICIT_LE), NOBODY, env, session=session)
        run.enter("process", "")
        run_lua_file(run, self._library, name, command_line)

    def run_script(
        self, text: str, table: ElementTable, captured: Captured, env: Environment
    ) -> ImportVerdict:
        """Run the `script` of a `Forward` over the copy to be sent; `table` is changed in place.

        Raises RuleError when it fails: the copy must then not be sent.
        """
        skeleton, values = lift(text)
        run = Run(table, captured, env)
        run.enter("script", "")
        run.label = "Importconverter-1"
        run.outer = values
        code = self._library.inline(skeleton, len(values)).run(run)
        outcome = OUTCOMES.get(code, Outcome.KEEP)
        return ImportVerdict(outcome, run.device, run.forwards, run.reason)

    @staticmethod
    def _export(
        converter: Converter,
        table: ElementTable,
        captured: Captured,
        env: Environment,
        session: Session | None = None,
    ) -> Expansion:
        run = Run(table, captured, env, export=True, session=session)
        run.enter(converter.name, converter.where)
        converter.line.run(run)
        forwards = tuple([recorded.forward for recorded in run.forwards])
        return Expansion(forwards, tuple(run.requests))


class _Builder:
    """Builds `Rules` and collects what is wrong on the way."""

    def __init__(self, settings: Settings, observer: Observer | None) -> None:
        self._settings = settings
        self._library = Library(
            settings.scripts,
            (settings.base_folder, Path()),
            observer,
            programs=settings.allow_system_commands,
            limits=limits_of(settings),
        )
        self._checker = Checker(self._library)
        self._problems: list[RuleProblem] = []

    def build(self) -> Rules:
        """Compile everything."""
        imports: list[Converter] = []
        exports: list[Converter] = []
        events: dict[tuple[Event, int], Converter] = {}
        for text in self._settings.converters:
            converter = self._converter(text)
            if converter is None:
                continue
            if text.family == "Import":
                imports.append(converter)
            elif text.family == "Export":
                exports.append(converter)
            else:
                events[Event(text.family), text.index] = converter
        self._check_lua_settings()
        ini = self._settings.ini_path.name
        for name in self._settings.scripts:
            self._problems += self._checker.check_script(name, f"{ini} [scripts]")
        lenient = not self._settings.script_errors_reject
        return Rules(
            sorted(imports, key=attrgetter("index")),
            sorted(exports, key=attrgetter("index")),
            Events(events, lenient=lenient),
            self._library,
            self._problems,
            lenient=lenient,
        )

    def _converter(self, text: ConverterText) -> Converter | None:
        """Return the compiled converter, None when its filters never match."""
        name = f"{text.family}Converter{text.index}"
        if text.lua:
            return self._lua_converter(text, name)
        family = Family.EXPORT if text.family == "Export" else Family.IMPORT
        dialect = Dialect(family, text.family, self._settings.allow_system_commands)
        tree = self._library.parse(text.text, dialect)
        self._problems += self._checker.check(tree, text.where, name, text.text)
        if text.family not in ("Import", "Export"):
            self._check_event(text, name, tree)
        passes = self._filters(text)
        if passes is None:
            return None
        condition, fault = self._condition(text)
        compiled = compile_line(tree, self._library)
        if text.family == "Compression":
            self._library.keep_compression(text.index, compiled)
        decidable = not condition and not fault and _is_decidable(tree)
        return Converter(
            name,
            text.index,
            text.where,
            passes,
            compiled,
            condition,
            fault,
            decidable,
            _digest(text),
        )

    def _check_lua_settings(self) -> None:
        """Look at the Lua code of events and of file names."""
        check = self._checker.check_lua
        for event in self._settings.lua_events:
            self._problems += check(event.code, event.where, f"[lua] {event.name}", event.code)
        syntax = self._settings.file_name_syntax.strip()
        if syntax[:4].lower() == "lua:":
            ini = self._settings.ini_path.name
            self._problems += check(f"return {syntax[4:]}", ini, "FileNameSyntax", syntax)

    def _lua_converter(self, text: ConverterText, name: str) -> Converter:
        """Return the converter of section [lua]: code as it is, without tokens and filters."""
        self._problems += self._checker.check_lua(text.text, text.where, name, text.text)
        library, code = self._library, utf8(text.text)

        def step(run: Run) -> int:
            return library.lua.run(run, library, code, f"={name}")

        steps: list[Step] = [step]
        if library.observer is not None:
            # All of the code is one statement to whoever watches.
            item = Item(0, 1, "", Statement(1), 1, text.text)
            steps = library.observer.observe(Line((item,), ()), steps)
        line = CompiledLine(steps, [1])
        if text.family == "Compression":
            library.keep_compression(text.index, line)
        return Converter(name, text.index, text.where, _always, line, digest=_digest(text))

    def _check_event(self, text: ConverterText, name: str, tree: Line) -> None:
        """Report statements that have nothing to work on in an event converter."""
        for _, statement in tree.statements():
            if isinstance(statement, DirectForward) and Event(text.family) not in FORWARDING:
                self._problem(text, name, statement.column, FORWARD_FAULT, Gravity.ERROR)
            elif isinstance(statement, Storage):
                message = f"storage has no effect in {name}"
                advice = "write it in an import converter"
                self._problem(text, name, statement.column, message, Gravity.WARNING, advice)

    def _filters(self, text: ConverterText) -> Test | None:
        """Return the test for the filters other than SQL, None when one is empty (spec S5)."""
        tests: list[Test] = []
        for field, part in _ALL_FILTER_KEYS.items():
            pattern = getattr(text.filters, field)
            if not pattern.strip():
                key = f"{text.family}{part}{text.index}"
                message = f"the filter is empty, so {text.family}Converter{text.index} never runs"
                self._problem(
                    text, key, None, message, Gravity.WARNING, "write * to let everything pass"
                )
                return None
            if field != "sql" and pattern != "*":
                tests.append(_passing(attrgetter(field), matcher(pattern)))
        return reduce(_both, tests) if tests else _always

    def _condition(self, text: ConverterText) -> tuple[str, str]:
        """Return the SQL condition and what is wrong with it."""
        sql = text.filters.sql
        if text.family != "Export" or is_no_filter(sql):
            return "", ""
        try:
            check(sql)
        except ParseError as exc:
            key = f"ExportFilter{text.index}"
            self._problem(text, key, exc.column, exc.what, Gravity.ERROR, source=sql)
            return "", exc.what
        return sql, ""

    def _problem(
        self,
        text: ConverterText,
        key: str,
        column: int | None,
        message: str,
        gravity: Gravity,
        advice: str = "",
        source: str = "",
    ) -> None:
        source = source or text.text
        self._problems.append(
            RuleProblem(text.where, key, None, column, message, gravity, advice, source)
        )


def limits_of(settings: Settings) -> Limits:
    """Return what Lua code may use under a configuration."""
    return Limits(
        settings.lua_instructions * 1_000_000,
        settings.lua_memory_mb << 20,
        settings.lua_seconds,
        settings.lua_unrestricted,
        f"{settings.base_folder}/",
    )


def _is_decidable(tree: Line) -> bool:
    return all(
        isinstance(statement, _DECIDABLE)
        and is_executable(statement)
        and not needs_file(statement.templates())
        and not reads_outside(statement.templates())
        for _, statement in tree.statements()
    )


def _passing(value: Callable[[Captured], str], matches: Matcher) -> Test:
    return lambda captured: matches(value(captured))


def _both(first: Test, second: Test) -> Test:
    return lambda captured: first(captured) and second(captured)


def _always(captured: Captured) -> bool:
    return True
