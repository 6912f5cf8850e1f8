"""`dgate serve`: the server in the foreground, until SIGTERM or SIGINT; SIGHUP reloads."""

from __future__ import annotations

import logging
import signal
import socket
from pathlib import Path

import click

from dgate.cli.options import config_option
from dgate.config.settings import INI_NAME, Configuration, Severity, load
from dgate.config.store import settle
from dgate.errors import ConfigError
from dgate.gateway import Gateway
from dgate.inspection import blocking, inspect
from dgate.ops.control import socket_path
from dgate.ops.lock import FolderLock, take
from dgate.ops.log import Logs
from dgate.ops.openfiles import allow_open_files
from dgate.parts import LogPart, log_settings
from dgate.rules.hooks import Rules

log = logging.getLogger("dgate.serve")

_LEVELS = {
    Severity.ERROR: logging.ERROR,
    Severity.WARNING: logging.WARNING,
    Severity.INFO: logging.INFO,
}


@click.command("serve")
@config_option
@click.option("-v", "--verbose", is_flag=True, help="Also log what each association does.")
def serve_command(config: Path, verbose: bool) -> None:
    """Run the server in the foreground.

    It checks the four files first and does not start with an error in them. SIGTERM or Ctrl-C stop
    it: running associations may finish, nothing that was acknowledged is lost (not even by
    SIGKILL).

    Changed files take effect within seconds of being saved, or at once on SIGHUP; with an error in
    them the server goes on as before and says why.

    Exit code 0: it was stopped; 1: it did not start.
    """
    ini_path = (config / INI_NAME if config.is_dir() else config).absolute()
    if not ini_path.exists():
        # Says so, and leaves no lock file in a folder that is not dgate's.
        load(config)
    lock = FolderLock(ini_path.parent)
    take(lock, socket_path(ini_path.parent))
    try:
        # Under the lock: no server is at work on the files, nor a rollback.
        settle(ini_path.parent)
        _serve(load(config), lock, verbose=verbose)
    finally:
        lock.release()


def _serve(configuration: Configuration, lock: FolderLock, *, verbose: bool) -> None:
    """Serve until a signal ends it; `lock` is that of the base folder."""
    logs = Logs(log_settings(configuration.settings), verbose=verbose)
    logs.start()
    allow_open_files(configuration.settings.max_associations)
    gateway = Gateway(configuration, beside=[LogPart(logs)], lock=lock)
    _report_problems(configuration, gateway.rules)
    signals = _signals()
    gateway.start()
    try:
        while (number := signals.recv(1)[0]) == signal.SIGHUP:
            gateway.reload("SIGHUP")
        log.info("Signal %s: the server is stopping.", signal.Signals(number).name)
    finally:
        gateway.stop()
    log.info("The server has stopped.")
    logs.stop()


def _signals() -> socket.socket:
    """Return a socket that gives the number of each signal that the server heeds, as one byte.

    The interpreter writes it in whichever thread the kernel chose for the signal. A handler of
    Python would run in the main thread only, which is not woken when that was another one: after a
    process stood still (SIGSTOP, a frozen container), or with two signals at once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    # The interpreter has it for as long as the process lives.
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for heeded in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(heeded, lambda number, frame: None)
    return reader


def _report_problems(configuration: Configuration, rules: Rules) -> None:
    """Log every problem of the configuration; an error among them stops the start."""
    problems = inspect(configuration, rules)
    for problem in problems:
        log.log(_LEVELS[problem.severity], "%s", problem)
    errors = blocking(problems, rules)
    if errors:
        raise ConfigError(
            f"{len(errors)} error(s) in the configuration, the server does not start",
            where=str(configuration.settings.ini_path),
            remedy="dgate check -c PATH shows them all",
        )
