"""`dgate test`: runs the rule tests that a site keeps beside its dicom.ini."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import click

from dgate.cli.options import config_option, printable
from dgate.clock import SystemClock
from dgate.config.settings import load
from dgate.ops.lock import FolderLock
from dgate.tracing.expectations import Verdict, read_tests, run_test
from dgate.tracing.opening import open_trace


@click.command("test")
@config_option
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="RULES.toml...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path, resolve_path=True),
)
@click.option("--verbose", "-v", is_flag=True, help="Show what the rules did where a test fails.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per test.")
def test_command(config: Path, files: tuple[Path, ...], verbose: bool, as_json: bool) -> None:
    """Run unit tests for the rules: given this object and this association, expect that.

    Nothing is stored, sent or written. The format of the files is told in docs/trace.md. Run it
    before a reload: dgate test -c . rules.toml && dgate check -c .

    Exit code 0: all tests passed; 1: one failed, or a file is not written as tests are.
    """
    # What rules log stands in the report already.
    logging.getLogger("dgate").addHandler(logging.NullHandler())
    configuration = load(config)
    settings = configuration.settings
    tests = [test for path in files for test in read_tests(path)]
    in_use = FolderLock(settings.base_folder).is_held()
    failed = 0
    with open_trace(configuration, SystemClock(), in_use=in_use) as opened:
        for test in tests:
            verdict = run_test(opened.tracer, test, settings.ae_title)
            failed += bool(verdict.faults)
            _print(verdict, as_json=as_json, verbose=verbose)
    if not as_json:
        click.echo(f"{len(tests) - failed} of {len(tests)} test(s) passed.")
    if failed:
        sys.exit(1)


def _print(verdict: Verdict, *, as_json: bool, verbose: bool) -> None:
    if as_json:
        trace = None if verdict.trace is None else verdict.trace.as_json()
        found = {"name": verdict.name, "passed": not verdict.faults, "faults": verdict.faults}
        click.echo(json.dumps({**found, "trace": trace}, ensure_ascii=False))
        return
    if not verdict.faults:
        click.echo(printable(f"passed: {verdict.name}"))
        return
    click.echo(printable(f"FAILED: {verdict.name}"))
    for fault in verdict.faults:
        click.echo(printable(f"  {fault}"))
    if verbose and verdict.trace is not None:
        for line in verdict.trace.lines():
            click.echo(printable(f"    {line}"))
