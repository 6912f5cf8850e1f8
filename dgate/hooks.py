"""The rules of one configuration, with what they may learn from outside.

Part of the composition root, beside `dgate.generation`, which builds one for each configuration.
Used by all threads.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import PurePath

from dgate.archive.events import compression_hook
from dgate.archive.export import Exporter, Rewrite
from dgate.archive.naming import EvaluateName
from dgate.archive.obligations import DIGEST
from dgate.archive.records import InstanceRef
from dgate.archive.shrinking import shrinking
from dgate.config.settings import Settings
from dgate.delivery.performing import COLLECTED
from dgate.delivery.records import Debt
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.effects import Captured, Expansion, ExportPlan, ImportVerdict
from dgate.rules.effects import Outcome as RuleOutcome
from dgate.rules.events import Event
from dgate.rules.hooks import NOBODY, Rules, capture
from dgate.rules.lua.events import LuaEvents, Moment
from dgate.rules.session import Session, Sessions
from dgate.surroundings import RuleEvents, Surroundings, World


class Hooks:
    """The rules of one generation, with what they may learn from outside."""

    def __init__(
        self, rules: Rules, exporter: Exporter, sessions: Sessions, settings: Settings
    ) -> None:
        """`sessions` are those that outlive a generation."""
        lenient = not settings.script_errors_reject
        self.lua_events = LuaEvents(settings.lua_events, rules.library, lenient=lenient)
        """The events of section [lua] that are no rules."""
        self.rules = rules
        self.sessions = sessions
        self._exporter = exporter
        self.world: World | None = None
        """Set once while the generation is built, as it needs the intake that runs the rules."""
        self.events = RuleEvents(rules.events, self.surroundings)
        """The converters of requests, answers, refused objects and compression codes."""

    def surroundings(
        self, captured: Captured, ref: InstanceRef | None = None, path: PurePath | None = None
    ) -> Surroundings:
        """Return what one run may ask."""
        assert self.world is not None, "the generation is not complete"
        return Surroundings(self.world, captured, ref, path)

    def run_import(
        self, table: ElementTable, captured: Captured, session: Session | None
    ) -> ImportVerdict:
        """Run the import converters over an object that has arrived."""
        return self.rules.run_import(table, captured, self.surroundings(captured), session)

    def plan_exports(self, table: ElementTable, captured: Captured) -> list[ExportPlan]:
        """Return what the export converters owe for an object that is being stored."""
        return self.rules.plan_exports(table, captured, self.surroundings(captured))

    def compression_script(self, code: str) -> Rewrite | None:
        """Return what the compression codes s0 to s9 and k1 to kc do to a copy that is sent.

        What it returns raises RuleError when the converter fails.
        """
        hook = compression_hook(self.events, code)
        if hook is None:
            return shrinking(code)

        def rewrite(table: ElementTable) -> None:
            hook(table, capture(table, "", ""), None)

        return rewrite

    def expand(self, debt: Debt) -> Expansion:
        """Run the export converter that an EXPORT debt names over the stored object.

        Raises:
            RuleError: the converter failed; the debt has to wait for a person.
            StoreError: the object or the database cannot be read.
        """
        number = int(debt.destination.removeprefix("ExportConverter"))
        context = json.loads(debt.context)
        # Debts of earlier versions have none.
        digest = context.pop(DIGEST, "")
        captured = Captured(**context)
        surroundings = self.surroundings(captured, debt.ref, self._exporter.path(debt.ref))
        with self._exporter.table(debt.ref) as table:
            session = self.sessions.named(debt.destination)
            return self.rules.expand(number, table, captured, surroundings, digest, session)

    def name_by_lua(self, settings: Settings) -> EvaluateName | None:
        """Return what evaluates `FileNameSyntax = lua:...`, None for other syntaxes."""
        syntax = settings.file_name_syntax.strip()
        if syntax[:4].lower() != "lua:":
            return None
        code = f"return {syntax[4:]}"
        # Of what no association brings: files, and names that are asked for beforehand.
        general = self.sessions.named("FileNameSyntax")

        def evaluate(
            table: ElementTable, calling: str, called: str, session: Session | None
        ) -> str | None:
            captured = capture(table, calling, called)
            surroundings = self.surroundings(captured)
            return self.rules.lua_text(
                code, "FileNameSyntax", table.snapshot(), captured, surroundings, session or general
            )

        return evaluate

    def run_startup(self) -> None:
        """Run the Lua code of the start; raises RuleError when it says that nothing is to start."""
        session = self.sessions.named("global")
        surroundings = self.surroundings(NOBODY)
        refusal = self.lua_events.run(Moment.STARTUP, surroundings, session, NOBODY)
        if refusal:
            raise RuleError(f"the start was refused: {refusal}", where="[lua] startup")

    def run_lua_job(self, name: str, command_line: str) -> None:
        """Run a Lua file for `process by`, with the session of all such jobs; raises RuleError."""
        session = self.sessions.named("process")
        self.rules.run_lua_job(name, command_line, self.surroundings(NOBODY), session)

    def run_statements(
        self, text: str, table: ElementTable, captured: Captured | None = None
    ) -> ImportVerdict:
        """Run import statements over a stored object, as scripts ask for it; raises RuleError."""
        captured = captured or capture(table, "", "")
        return self.rules.run_script(text, table, captured, self.surroundings(captured))

    def run_script(self, debt: Debt, table: ElementTable) -> None:
        """Run the `script` clause of a forward over the copy that is sent.

        A copy that goes out for a whole patient, study or series is one of a retrieval, and passes
        RetrieveResultConverter0 first (rulings.md 16).

        Raises:
            RuleError: the script failed or refused the copy, which must then not be sent.
        """
        captured = capture(table, debt.calling, debt.called)
        if debt.context.startswith(COLLECTED):
            result = self.events.hook(Event.RETRIEVE_RESULT)
            if result is not None:
                # As RetrieveConverter0 saw it: what the rule says, not how the ledger spells it.
                station = debt.called or debt.destination
                result(table, dataclasses.replace(captured, station=station), None)
        if not debt.script:
            return
        verdict = self.rules.run_script(debt.script, table, captured, self.surroundings(captured))
        if verdict.outcome is not RuleOutcome.KEEP:
            raise RuleError(
                verdict.reason or "the script of the forward refused the object",
                where=debt.rule,
            )
