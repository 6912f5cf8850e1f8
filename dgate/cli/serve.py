"""`dgate serve`: the server in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from types import FrameType

import click

from dgate.cli.options import config_option
from dgate.config.settings import Configuration, Severity, load
from dgate.errors import ConfigError
from dgate.gateway import Gateway
from dgate.ops.log import set_up_logging

log = logging.getLogger("dgate.serve")


@click.command("serve")
@config_option
@click.option("-v", "--verbose", is_flag=True, help="Also log what each association does.")
def serve_command(config: Path, verbose: bool) -> None:
    """Run the server in the foreground.

    It checks the four files first and does not start with an error in them. SIGTERM or Ctrl-C stop
    it: running associations may finish, nothing that was acknowledged is lost (not even by
    SIGKILL).

    Exit code 0: it was stopped; 1: it did not start.
    """
    configuration = load(config)
    set_up_logging(configuration.settings.trouble_log, verbose=verbose)
    _report_problems(configuration)
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        log.info("Signal %s: the server is stopping.", signal.Signals(number).name)
        stop.set()

    def on_hangup(_number: int, _frame: FrameType | None) -> None:
        log.warning("SIGHUP was ignored: restart the server to apply changed files.")

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGHUP, on_hangup)
    gateway = Gateway(configuration)
    gateway.start()
    try:
        stop.wait()
    finally:
        gateway.stop()
    log.info("The server has stopped.")


def _report_problems(configuration: Configuration) -> None:
    """Log every problem of the four files; an error among them stops the start."""
    levels = {
        Severity.ERROR: logging.ERROR,
        Severity.WARNING: logging.WARNING,
        Severity.INFO: logging.INFO,
    }
    errors = 0
    for problem in configuration.problems:
        log.log(levels[problem.severity], "%s", problem)
        errors += problem.severity is Severity.ERROR
    if errors:
        raise ConfigError(
            f"{errors} error(s) in the configuration, the server does not start",
            where=str(configuration.settings.ini_path),
            remedy="dgate check -c PATH shows them all",
        )
