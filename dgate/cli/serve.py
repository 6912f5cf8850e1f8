"""`dgate serve`: the server in the foreground, until SIGTERM or SIGINT; SIGHUP reloads."""

from __future__ import annotations

import logging
import queue
import signal
from pathlib import Path
from types import FrameType

import click

from dgate.cli.options import config_option
from dgate.config.history import History
from dgate.config.settings import Configuration, Severity, load
from dgate.errors import ConfigError
from dgate.gateway import Gateway
from dgate.inspection import blocking, inspect
from dgate.ops.log import Logs
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
    folder = config if config.is_dir() else config.parent
    History(folder.absolute()).finish()
    configuration = load(config)
    logs = Logs(log_settings(configuration.settings), verbose=verbose)
    logs.start()
    gateway = Gateway(configuration, beside=[LogPart(logs)])
    _report_problems(configuration, gateway.rules)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        # Handlers interrupt this thread anywhere: the work is done in the loop below.
        signals.put(number)

    for heeded in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(heeded, on_signal)
    gateway.start()
    try:
        while (number := signals.get()) == signal.SIGHUP:
            gateway.reload("SIGHUP")
        log.info("Signal %s: the server is stopping.", signal.Signals(number).name)
    finally:
        gateway.stop()
    log.info("The server has stopped.")
    logs.stop()


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
