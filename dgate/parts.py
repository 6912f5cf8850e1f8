"""What runs by itself beside the services, and what it adds to the control socket.

Part of the composition root: a list of the rooms' own background workers (nightly work, watched
folders), nothing of their work. The gateway starts them in this order when the listener runs, tells
each of a changed configuration, and stops them in reverse before anything that they use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from dgate.archive.asidecommands import aside_commands
from dgate.archive.diskwatch import DiskWatch
from dgate.archive.folding import Folding
from dgate.archive.housekeeping import Housekeeper
from dgate.archive.maintenance.caretaker import Caretaker
from dgate.archive.maintenance.commands import maintenance_commands
from dgate.archive.maintenance.regen import Regen, regen_commands
from dgate.archive.maintenance.regen_events import RegenHooks
from dgate.archive.maintenance.stored_rules import StoredRules
from dgate.archive.orders import load_orders
from dgate.archive.scheduling import worklist_commands
from dgate.archive.spoolsweep import SpoolSweep
from dgate.archive.stepcommands import step_commands
from dgate.archive.watcher import Watching
from dgate.committing import keeper
from dgate.config.settings import Settings
from dgate.foundation import Foundation
from dgate.generation import Generation
from dgate.ops.control import Command
from dgate.ops.log import Logs, LogSettings
from dgate.reconciling import expected_part, reconcile_part, reconciling_commands
from dgate.services.luaclock import Happening, LuaClock

Current = Callable[[], Generation]
"""Returns the generation that counts now. Ask for each piece of work, and keep what it returned
until that piece is done."""


class Part(Protocol):
    """A background worker of the gateway. All methods are called by one thread at a time."""

    def start(self) -> None:
        """Begin; raises DgateError when it cannot, and the server does not start then."""
        ...

    def apply(self, generation: Generation) -> None:
        """Go on by a configuration that has just been put into effect; must not raise.

        What would keep a configuration from being applied has to be found before, by
        `dgate.config.check` or while the `Generation` is built.
        """
        ...

    def stop(self) -> None:
        """End and join all threads; safe to call twice, or without `start`."""
        ...


def background_parts(foundation: Foundation, current: Current) -> list[Part]:
    """Return the parts in the order in which they start; one line for each room's own function."""
    return [
        Watching(
            lambda: current().settings,
            lambda: current().ingest,
            foundation.clock,
            lambda data: load_orders(data, current().worklist),
        ),
        SpoolSweep(foundation.first_devices.spool, foundation.index),
        housekeeper(foundation, current),
        DiskWatch(lambda: current().settings, lambda: current().devices, foundation.clock),
        lua_clock(foundation, current),
        Folding(foundation.database, foundation.schema, foundation.writer),
        keeper(foundation, lambda: current().configuration),
        reconcile_part(foundation, current),
        expected_part(foundation, current),
    ]


def lua_clock(foundation: Foundation, current: Current) -> Part:
    """Return what runs the Lua code of the night and of every second."""

    def happening() -> Happening:
        hooks = current().hooks
        return hooks.lua_events, hooks.surroundings

    return LuaClock(happening, foundation.sessions.named("global"), foundation.clock)


def control_commands(foundation: Foundation, current: Current) -> Mapping[str, Command]:
    """Return what the rooms add to the control socket; one line for each room's own function."""
    return {
        **regen_commands(
            lambda turn: make_regen(foundation, current(), beside_server=True, turn=turn)
        ),
        **maintenance_commands(lambda: caretaker(foundation, current())),
        **worklist_commands(lambda: current().worklist),
        **reconciling_commands(foundation, current),
        **step_commands(foundation.steps),
        **aside_commands(lambda: current().settings, lambda: current().ingest, foundation.clock),
    }


def make_regen(
    foundation: Foundation,
    generation: Generation,
    *,
    beside_server: bool,
    turn: threading.Lock | None = None,
) -> Regen:
    """Return a rebuild of the index under a configuration."""
    hooks = RegenHooks(generation.rules.events, generation.hooks.surroundings)
    return Regen(
        foundation.database,
        foundation.schema,
        generation.index,
        foundation.writer,
        generation.devices,
        generation.settings,
        foundation.clock,
        beside_server=beside_server,
        keep=hooks.keep,
        failed=hooks.failed,
        turn=turn,
    )


def caretaker(foundation: Foundation, generation: Generation) -> Caretaker:
    """Return the tools of maintenance under a configuration; raises DgateError without an index."""
    return Caretaker.build(
        generation.configuration,
        foundation.database,
        foundation.schema,
        generation.index,
        foundation.writer,
        generation.devices,
        generation.exporter,
        foundation.traffic,
        foundation.clock,
        foundation.wake,
        StoredRules(generation.rules.events, generation.hooks.surroundings),
        generation.hooks.name_by_lua(generation.settings),
    )


def housekeeper(foundation: Foundation, current: Current) -> Part:
    """Return what makes space in the background."""
    return Housekeeper(
        lambda: caretaker(foundation, current()), foundation.first_devices.alarm, foundation.clock
    )


def log_settings(settings: Settings) -> LogSettings:
    """Return the part of the settings that the logs of the process follow."""
    return LogSettings(
        settings.base_folder,
        settings.trouble_log,
        settings.user_log,
        settings.pacs_name,
        settings.debug_level,
        settings.operator_console,
        settings.zip_time,
    )


class LogPart:
    """Lets the logs of the process, which live longer than the gateway, follow its settings."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def start(self) -> None:
        """The logs have been started before, to tell of the start."""

    def apply(self, generation: Generation) -> None:
        """Go on by changed settings."""
        self._logs.apply(log_settings(generation.settings))

    def stop(self) -> None:
        """The logs are stopped last, to tell of the stop."""
