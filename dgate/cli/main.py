"""The `dgate` command: gathers the command groups and turns dgate's errors into exit codes.

Exit codes: 0 done, 1 failed, 2 wrong use of the command line (or, for `check`, warnings only).
"""

from __future__ import annotations

import gc
import importlib
import sys

import click

from dgate import __version__
from dgate.errors import DgateError

# Imported on use only: `dgate echo` must not pay for the archive, nor `dgate init` for the network.
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("dgate.cli.serve", "serve_command", "Run the server in the foreground."),
    "init": ("dgate.cli.init", "init_command", "Write a commented set of the four files."),
    "check": ("dgate.cli.check", "check_command", "Report every problem in the four files."),
    "config": ("dgate.cli.config", "config_group", "Show, explain and change settings."),
    "import": ("dgate.cli.load", "import_command", "Store files or folders in the archive."),
    "echo": ("dgate.cli.scu", "echo_command", "Ask a node whether it answers (C-ECHO)."),
    "find": ("dgate.cli.scu", "find_command", "Query a node (C-FIND)."),
    "move": ("dgate.cli.scu", "move_command", "Have a node send objects to a third (C-MOVE)."),
    "get": ("dgate.cli.scu", "get_command", "Fetch objects from a node into a folder (C-GET)."),
    "send": ("dgate.cli.scu", "send_command", "Send files or folders to a node (C-STORE)."),
    "trace": ("dgate.cli.trace", "trace_command", "Show what the rules would do to objects."),
    "test": ("dgate.cli.ruletest", "test_command", "Run unit tests for the rules."),
    "queue": ("dgate.cli.queue", "queue_group", "See and steer what is still to be delivered."),
    "reconcile": ("dgate.cli.reconcile", "reconcile_command", "Compare the archive with a node."),
    "ledger": ("dgate.cli.ledger", "ledger_group", "Find out what became of objects."),
    "worklist": ("dgate.cli.worklist", "worklist_group", "See and fill the modality worklist."),
    "steps": ("dgate.cli.steps", "steps_group", "See what modalities tell of their work (MPPS)."),
    "takeover": ("dgate.cli.takeover", "takeover_command", "Look at a Conquest installation."),
    "verify": ("dgate.cli.verify", "verify_command", "Compare files and index, both ways."),
    "regen": ("dgate.cli.regen", "regen_command", "Rebuild the index from the files."),
    "delete": ("dgate.cli.delete", "delete_command", "Delete a patient, study, series or image."),
    "clean": ("dgate.cli.clean", "clean_command", "Make space: delete the least recent patients."),
    "move-device": ("dgate.cli.move_device", "move_device_command", "Move objects to a device."),
    "merge": ("dgate.cli.merge", "merge_group", "Join two patients, or two studies."),
    "split": ("dgate.cli.merge", "split_group", "Give part of a study a study of its own."),
    "correct": ("dgate.cli.merge", "correct_group", "Change the identity of a patient."),
    "deidentify": (
        "dgate.cli.deidentify",
        "deidentify_group",
        "Create the key of de-identification.",
    ),
    "reidentify": (
        "dgate.cli.deidentify",
        "reidentify_command",
        "Tell who stands behind a pseudonym.",
    ),
    "aside": ("dgate.cli.aside", "aside_group", "Decide about objects of twofold content."),
    "restore": ("dgate.cli.restore", "restore_command", "Take back what rules changed."),
    "status": ("dgate.cli.status", "status_command", "Show the state of the running server."),
}


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, attribute, _ = entry
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: dgate init FOLDER; dgate check -c FOLDER; dgate serve -c FOLDER",
)
@click.version_option(__version__, prog_name="dgate")
def cli() -> None:
    """DICOM gateway, router and archive, driven by four text files.

    Every command that needs a configuration takes -c PATH: a dicom.ini, or the folder that holds
    it.

    Exit codes: 0 done, 1 failed, 2 wrong use of the command line. The help of a command says what
    counts as done.
    """


def main() -> None:
    """Run the command line; dgate's own errors become one line on stderr and exit code 1."""
    try:
        cli(prog_name="dgate")
    except DgateError as exc:
        click.echo(f"dgate: {exc}", err=True)
        sys.exit(1)
    finally:
        # The end of the process would look for garbage among all that the command has made.
        gc.freeze()
