"""The events of section [lua] that are no rules: startup, association, nightly... (lua-api.md 3).

When they happen is the business of services and gateway. Immutable, used by any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import Enum
from typing import Final

from dgate.config.model import LuaEvent
from dgate.errors import Deferred, RuleError, StoreError
from dgate.rules.effects import Captured
from dgate.rules.lua.objects import new_table
from dgate.rules.lua.text import utf8
from dgate.rules.run import DESTROY, REJECT, Environment, Run
from dgate.rules.session import Session
from dgate.rules.statements.base import Library

log = logging.getLogger("dgate.lua")

_REFUSING: Final = frozenset((DESTROY, REJECT))


class Moment(Enum):
    """When an event happens; the value is its key."""

    STARTUP = "startup"
    ASSOCIATION = "association"
    COMMAND = "command"
    END_ASSOCIATION = "endassociation"
    CLIENT_ERROR = "clienterror"
    NIGHTLY = "nightly"
    BACKGROUND = "background"


_DECISIVE: Final = frozenset((Moment.STARTUP, Moment.ASSOCIATION, Moment.COMMAND))
"""Where destroy and reject have an effect, and so has a failure, unless ScriptErrors = ignore."""


class LuaEvents:
    """The events of one configuration."""

    def __init__(
        self, events: Iterable[LuaEvent], scripts: Library, *, lenient: bool = False
    ) -> None:
        """`scripts` is what the code calls; `lenient`: ScriptErrors = ignore."""
        known = {moment.value: moment for moment in Moment}
        self._events = {known[event.name]: event for event in events if event.name in known}
        self._scripts = scripts
        self._lenient = lenient

    def __contains__(self, moment: Moment) -> bool:
        """Tell whether something is to run, so that its surroundings are worth making."""
        return moment in self._events

    def run(self, moment: Moment, env: Environment, session: Session, captured: Captured) -> str:
        """Run the code of an event; say why it refuses to go on, empty when it does not.

        Code that fails refuses too, where refusing is possible, unless ScriptErrors = ignore.
        """
        event = self._events.get(moment)
        if event is None:
            return ""
        run = Run(new_table(), captured, env, lenient=self._lenient, session=session)
        run.enter(f"[lua] {moment.value}", event.where)
        code = utf8(event.code)
        try:
            outcome = self._scripts.lua.run(run, self._scripts, code, f"={run.name}")
        except (RuleError, StoreError, Deferred) as exc:
            log.error("%s %s failed: %s", event.where, run.name, exc)
            return "" if self._lenient or moment not in _DECISIVE else f"{run.name} failed"
        return run.reason if outcome in _REFUSING else ""
