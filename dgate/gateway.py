"""The composition root: starts and stops one archive with its services, and changes its
configuration while it runs.

The parts are in four modules, by how long they live:

- `dgate.foundation`: what stays until the gateway stops (database, writer, index, ledger, spool).
- `dgate.generation`: what one configuration shapes (rules, nodes, intake, services, delivery's
  tools). A reload builds another one completely and puts it in its place by one assignment, to
  `Gateway._generation`; nothing of it is changed afterwards.
- `dgate.parts`: what works in the background beside the services. **To add one**, write a class
  with `start`, `apply(generation)` and `stop` (`dgate.parts.Part`) and name it in
  `background_parts`; commands for the control socket go into `control_commands` there. Both get
  the foundation and a function that returns the generation that counts now.
- this module: the listener, the dispatcher, the control socket, and their order.

Owned by the thread that calls `start` and `stop`; the commands of the control socket run in threads
of their own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dgate.archive.database import Database
from dgate.archive.diskwatch import disk_report
from dgate.clock import Clock, SystemClock
from dgate.config.reload import Watcher
from dgate.config.settings import Configuration, Settings
from dgate.console import Console, open_console
from dgate.delivery.commands import queue_commands
from dgate.delivery.dispatcher import Dispatcher
from dgate.delivery.sites import site_commands
from dgate.delivery.worker import Toolbox
from dgate.errors import RuleError
from dgate.foundation import Foundation
from dgate.generation import Generation
from dgate.net import Listener, Terms
from dgate.ops import health
from dgate.ops.control import Answer, Command, ControlServer, socket_path
from dgate.ops.lock import FolderLock, take
from dgate.ops.log import UserLog
from dgate.parts import Part, background_parts, control_commands
from dgate.reconciling import is_known
from dgate.reloading import Reloaded, Reloader
from dgate.rules.hooks import Rules

log = logging.getLogger(__name__)

DRAIN_S = 5.0
"""How long running operations may go on after a stop was asked for."""

_OWN_FOLDERS = frozenset({"dgate", "dbase", "incoming", "printer_files", "bin", "lost+found"})


class Gateway:
    """One archive with its services, on one base folder.

    `start` serves; `offline` opens the archive for a command while no server runs.
    """

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock | None = None,
        *,
        beside: Sequence[Part] = (),
        lock: FolderLock | None = None,
    ) -> None:
        """Prepare; opens nothing. `beside` are parts that live longer than the gateway and are to
        hear of changed configurations; `lock` is that of the base folder where the caller has
        taken it already, with `socket_path` in it.

        Raises:
            ConfigError: a setting cannot be used.
        """
        settings = configuration.settings
        self._configuration = configuration
        self._clock = clock or SystemClock()
        self._started_at = 0.0
        self._lock = lock or FolderLock(settings.base_folder)
        self._socket = socket_path(settings.base_folder)
        self.rules = Rules.build(settings)
        """The rules of the configuration that it starts with."""
        self._database = Database(settings)
        self._foundation: Foundation | None = None
        self._generation: Generation | None = None
        self._beside = tuple(beside)
        self._parts: list[Part] = []
        self._old_logs: list[UserLog] = []
        """User logs of earlier settings, which associations of that time may still write."""
        self._reloader: Reloader | None = None
        self._watcher: Watcher | None = None
        self._listener: Listener | None = None
        self._dispatcher: Dispatcher | None = None
        self._control: ControlServer | None = None
        self._console = open_console(
            lambda: self.foundation, self._current, self.reload, self._status, self._clock
        )

    @property
    def port(self) -> int:
        """The DICOM port that is listened on."""
        assert self._listener is not None, "the gateway has not been started"
        return self._listener.port

    @property
    def foundation(self) -> Foundation:
        """What stays as long as the archive is open."""
        assert self._foundation is not None, "the archive is not open"
        return self._foundation

    @property
    def generation(self) -> Generation:
        """What the configuration that counts now has made."""
        assert self._generation is not None, "the archive is not open"
        return self._generation

    @property
    def settings(self) -> Settings:
        """The settings that count now."""
        return self.generation.settings

    def start(self) -> None:
        """Take the folder, recover what a crash left, and serve.

        Raises:
            DgateError: the folder is taken, the database cannot be opened, or a port is in use;
            nothing runs then.
        """
        self._take_folder(self._socket)
        try:
            foundation = self._open()
            self._dispatcher = Dispatcher(self._toolbox)
            self._listener = Listener("", self.settings.tcp_port, self._terms)
            self._reloader = reloader = Reloader(
                self._configuration, self.rules, self._put_into_effect, self._clock
            )
            self._watcher = Watcher(reloader.seen, reloader.check_files)
            commands = self._commands(self._dispatcher, reloader)
            self._control = ControlServer(self._socket, commands)
            self.generation.hooks.run_startup()
            # The port first: when it is taken, no delivery may have begun.
            self._listener.start()
            self._dispatcher.start()
            for part in (*self._beside, *background_parts(foundation, self._current)):
                self._parts.append(part)
                part.start()
            self._watcher.start()
            self._control.start()
            reloader.note_start()
            counts = foundation.index.counts()
        except BaseException:
            self.stop()
            raise
        self._started_at = self._clock.monotonic()
        log.info(
            "%s is listening on port %d for %s; %d objects in the archive.",
            self.settings.ae_title,
            self._listener.port,
            self.settings.base_folder,
            counts.instances,
        )
        if self._database.has_index and not counts.instances:
            self._warn_of_files_without_index()

    def stop(self) -> None:
        """Stop everything in the order in which work flows; safe to call twice, or after a failed
        start.
        """
        if self._control is not None:
            self._control.stop()
            self._control = None
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        self._console.stop()
        while self._parts:
            self._parts.pop().stop()
        if self._listener is not None:
            self._listener.stop(DRAIN_S)
            self._listener = None
        if self._dispatcher is not None:
            self._dispatcher.stop(DRAIN_S)
            self._dispatcher = None
        self._close()
        self._lock.release()

    def reload(self, why: str) -> Reloaded:
        """Read the files anew and put them into effect, or keep what runs and say why; any thread.

        Associations and deliveries that have begun end under the configuration they began with.
        """
        assert self._reloader is not None, "the gateway has not been started"
        return self._reloader.reload(why)

    @contextmanager
    def offline(self) -> Iterator[Gateway]:
        """Open the archive without serving, for a command; the folder is locked meanwhile.

        Raises:
            DgateError: a server has the folder, or the database cannot be opened.
        """
        self._take_folder(None)
        try:
            self._open()
            yield self
        finally:
            self._close()
            self._lock.release()

    def import_files(self, paths: Iterable[Path]) -> Iterator[Answer]:
        """Store files; yields path and error (empty when stored) of each."""
        for result in self.generation.import_files(paths):
            yield {"path": str(result.path), "error": result.error}

    # building

    def _take_folder(self, socket: Path | None) -> None:
        if not self._lock.is_taken:
            take(self._lock, socket)

    def _open(self) -> Foundation:
        foundation = self._foundation = Foundation.open(
            self._configuration, self._database, self._clock, self._wake, self._server
        )
        self._generation = Generation.build(foundation, self._configuration, self.rules)
        return foundation

    def _close(self) -> None:
        if self._generation is not None:
            for user_log in (*self._old_logs, self._generation.user_log):
                user_log.close()
            self._old_logs.clear()
            self._generation = None
        if self._foundation is not None:
            self._foundation.close()
            self._foundation = None
        self._database.close()

    def _put_into_effect(self, configuration: Configuration, rules: Rules) -> None:
        """Build another generation and let it count; raises DgateError before anything changed."""
        former = self.generation
        new_login = _login(configuration.settings) != _login(former.settings)
        if new_login:
            # Connections that are open would hide for a while that it does not work.
            Database(configuration.settings).open()
        generation = Generation.build(self.foundation, configuration, rules, former)
        self._generation = generation
        if new_login:
            self._database.log_in(generation.settings)
        if generation.user_log is not former.user_log:
            former.user_log.close()
            self._old_logs.append(former.user_log)
        for part in self._parts:
            try:
                part.apply(generation)
            except Exception:
                # The new configuration counts already: one part must not keep it from the others.
                log.exception("A part of the server did not take up the changed configuration.")
        self._wake()

    def _wake(self) -> None:
        """Tell the dispatcher of new debts; without one they wait for the next server."""
        if self._dispatcher is not None:
            self._dispatcher.wake()
        if self._foundation is not None:
            self._foundation.bell.ring()

    def _current(self) -> Generation:
        return self.generation

    def _terms(self) -> Terms:
        return self.generation.terms

    def _toolbox(self) -> Toolbox:
        return self.generation.toolbox

    def _server(self) -> Console:
        if self._listener is None:
            raise RuleError("no server runs", remedy="`dgate serve`")
        return self._console

    def _warn_of_files_without_index(self) -> None:
        """Say so when a device is full of files that an empty index does not know."""
        for device in self.settings.mag_devices:
            found = {entry.name for entry in device.iterdir() if entry.is_dir()} - _OWN_FOLDERS
            if found:
                log.warning(
                    "The index is empty, but %s holds folders (%s, ...): if they are images of "
                    "this archive, restore the index, or see docs/back-up.md.",
                    device,
                    min(found),
                )

    # the control socket

    def _commands(self, dispatcher: Dispatcher, reloader: Reloader) -> dict[str, Command]:
        def import_command(arguments: Answer) -> Iterator[Answer]:
            return self.import_files(Path(path) for path in arguments["paths"])

        return {
            "import": import_command,
            "status": lambda arguments: self._status() | {"configuration": reloader.state()},
            **reloader.commands(),
            **queue_commands(self.foundation.desk, dispatcher.retry_now),
            **site_commands(dispatcher.sites, self.foundation.refusals),
            **control_commands(self.foundation, self._current),
        }

    def _status(self) -> Answer:
        listener, generation, foundation = self._listener, self.generation, self.foundation
        settings = generation.settings
        disks = disk_report(settings, generation.devices, self._clock.now())
        return {
            "ae_title": settings.ae_title,
            "port": listener.port if listener else None,
            "pid": os.getpid(),
            "up_s": self._clock.monotonic() - self._started_at,
            "associations": listener.active if listener else 0,
            "max_associations": settings.max_associations,
            "disks": disks.places,
            "reconciled": foundation.comparisons.report(is_known(generation.configuration.nodes)),
            "destinations": [
                site.as_dict() for site in (self._dispatcher.sites() if self._dispatcher else ())
            ],
            **health.report(
                counts=lambda: foundation.index.counts()._asdict(),
                queue=lambda: [count.as_dict() for count in foundation.desk.counts()],
                devices=disks.devices,
                full_mb=None
                if settings.ignore_mag_device_threshold
                else settings.mag_device_full_threshold_mb,
                beside=[*disks.problems, *foundation.traffic.troubles.problems()],
            ),
        }


def _login(settings: Settings) -> tuple[str, str]:
    return settings.username, settings.password
