"""Watches rules at work: which statements ran, what tests compared, what was changed by which one.

For `dgate trace` and `dgate test`. The compiled steps are the same that handle objects; a recorder
wraps them (`dgate.rules.compile.Observer`). One thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dgate.dicom.differences import Difference, differences
from dgate.errors import RuleError
from dgate.rules.grammar import Item, Line
from dgate.rules.opaque import MARK
from dgate.rules.run import CONTINUE, DESTROY, FAILED, REJECT, RETURN, STOP, Run, Step
from dgate.rules.statements.base import Statement
from dgate.rules.statements.conditions import Condition
from dgate.rules.statements.flow import Nop
from dgate.rules.tokens import Template
from dgate.rules.values import compile_template

_ENDINGS = {STOP: "stop", RETURN: "return", DESTROY: "destroy", REJECT: "reject"}


@dataclass(slots=True)
class Executed:
    """One statement that ran."""

    rule: str
    """The converter, with the scripts that led here: `ImportConverter0`,
    `ImportConverter0.1 script`."""
    number: int
    text: str
    """The statement as it is written."""
    result: str = "done"
    """`done`, `true`, `false`, `stop`, `return`, `destroy`, `reject` or `failed`."""
    error: str = ""
    values: tuple[str, ...] = ()
    """What a test compared, or `nop` would log, tokens replaced."""
    changes: list[Difference] = field(default_factory=list)
    """What the statement itself changed; nothing for one whose script has statements here."""
    skipped: list[str] = field(default_factory=list)
    """The statements after it that did not run because of its result."""
    actions: list[str] = field(default_factory=list)
    """What it did, or would have done, outside of the object."""


class Recorder:
    """Collects what the lines of one configuration do."""

    def __init__(self) -> None:
        self.events: list[Executed] = []
        self._running: list[Executed] = []
        """The statements that are being executed, the innermost last."""

    def take(self) -> list[Executed]:
        """Return what was recorded since the last call."""
        taken, self.events = self.events, []
        return taken

    def note(self, action: str) -> None:
        """Write down what the statement that is being executed does outside of the object."""
        if self._running:
            self._running[-1].actions.append(action)

    def observe(self, line: Line, steps: list[Step]) -> list[Step]:
        """Return the steps of a line, each of which reports here."""
        pairs = zip(line.items, steps, strict=True)
        return [
            step if item.statement is None else self._watched(line.items, item, step)
            for item, step in pairs
        ]

    def _watched(self, items: tuple[Item, ...], item: Item, step: Step) -> Step:
        statement = item.statement
        is_test = isinstance(statement, Condition)
        shown = [compile_template(template) for template in _telling(statement)]

        def watched(run: Run) -> int:
            event = Executed(run.name, item.number, MARK.sub("%...", item.text))
            self.events.append(event)
            self._running.append(event)
            place = len(self.events)
            before = run.table.snapshot()
            try:
                event.values = tuple([value(run) for value in shown])
                code = step(run)
            except RuleError as exc:
                event.result, event.error = "failed", str(exc)
                event.skipped = [] if run.lenient else _texts(items[item.number + 1 :])
                raise
            finally:
                self._running.pop()
            is_leaf = place == len(self.events)
            if is_leaf and run.table.revision != before.revision:
                event.changes = list(differences(before, run.table))
            _note_result(event, code, items, item, is_test=is_test)
            return code

        return watched


def _telling(statement: Statement | None) -> list[Template]:
    """Return the texts of a statement that say more with their tokens replaced."""
    if isinstance(statement, Condition):
        return [side for side in (statement.left, statement.right) if side is not None]
    return [statement.text] if isinstance(statement, Nop) else []


def _note_result(
    event: Executed, code: int, items: tuple[Item, ...], item: Item, *, is_test: bool
) -> None:
    """Write down how the statement ended, and which ones it kept from running."""
    following = item.number + 1
    if code == FAILED:
        event.result = "false" if is_test else "done"
        event.skipped = _texts(items[following : item.after_failure])
    elif code == CONTINUE:
        event.result = "true" if is_test else "done"
    else:
        event.result = _ENDINGS.get(code, "done")
        event.skipped = _texts(items[following:])


def _texts(items: tuple[Item, ...]) -> list[str]:
    return [MARK.sub("%...", item.text) for item in items if item.statement is not None]
