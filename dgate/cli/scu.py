"""`dgate echo find move get send`: one service request to another node, as user (SCU)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dgate.cli.keys import KeyList, decode_answer, parse_keys
from dgate.cli.peer import find_peer, peer_options
from dgate.dicom.encode import UTF_8, encode_data_set
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, VERIFICATION
from dgate.errors import NoContext, PeerError
from dgate.net import (
    Association,
    Command,
    ContextProposal,
    StatusCategory,
    category,
    describe,
    echo,
    find,
    move,
)

UNCOMPRESSED = (EXPLICIT_LE, IMPLICIT_LE)
FIND_MODELS = {
    "patient": "1.2.840.10008.5.1.4.1.2.1.1",
    "study": "1.2.840.10008.5.1.4.1.2.2.1",
}
MOVE_MODELS = {
    "patient": "1.2.840.10008.5.1.4.1.2.1.2",
    "study": "1.2.840.10008.5.1.4.1.2.2.2",
}

_key_option = click.option(
    "-k",
    "--key",
    "keys",
    multiple=True,
    metavar="KEY[=VALUE]",
    help="Keyword or gggg,eeee with a value to match, or without one to be returned. Repeatable.",
)
_level_option = click.option(
    "-L",
    "--level",
    type=click.Choice(["PATIENT", "STUDY", "SERIES", "IMAGE"], case_sensitive=False),
    default="STUDY",
    show_default=True,
    help="Query/retrieve level.",
)
_model_option = click.option(
    "--model",
    type=click.Choice(["study", "patient"]),
    help="Information model. Default: patient at level PATIENT, else study.",
)


@click.command("echo")
@click.argument("target")
@peer_options
def echo_command(
    target: str, config: Path | None, calling: str | None, timeout_s: float | None
) -> None:
    """Ask TARGET whether it answers (C-ECHO).

    TARGET is an AE title of acrnema.map, or AE@host:port. Exit code 0: it does; 1: it does not.
    """
    peer = find_peer(target, config, calling, timeout_s)
    with peer.connect([ContextProposal(VERIFICATION, (IMPLICIT_LE,))]) as association:
        response = echo(association)
    _demand_success(response, str(peer.destination))
    click.echo(f"{peer.destination} answers.")


@click.command("find")
@click.argument("target")
@_level_option
@_key_option
@_model_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--limit", type=click.IntRange(min=1), help="Cancel after so many answers.")
@peer_options
def find_command(
    target: str,
    level: str,
    keys: tuple[str, ...],
    model: str | None,
    as_json: bool,
    limit: int | None,
    config: Path | None,
    calling: str | None,
    timeout_s: float | None,
) -> None:
    """Query TARGET (C-FIND) and print its answers.

    Example: dgate find PACS -k PatientName='SMITH*' -k StudyDate=20260101- -k StudyDescription

    Exit code 0: TARGET answered, though perhaps with nothing found; 1: it refused or failed.
    """
    level = level.upper()
    wanted = parse_keys(keys, level)
    peer = find_peer(target, config, calling, timeout_s)
    sop_class = FIND_MODELS[model or ("patient" if level == "PATIENT" else "study")]
    rows: list[dict[str, str]] = []
    with peer.connect([ContextProposal(sop_class, UNCOMPRESSED)]) as association:
        context_id, syntax = _context(association, sop_class)
        identifier = encode_data_set(
            wanted.values(level), syntax, UTF_8 if wanted.needs_utf8 else ""
        )
        answers = find(association, context_id, identifier)
        for answer in answers:
            if category(answer.status) is StatusCategory.PENDING:
                row = decode_answer(answer.identifier, syntax, wanted)
                if as_json:
                    click.echo(json.dumps(row, ensure_ascii=False))
                rows.append(row)
                if limit is not None and len(rows) >= limit:
                    answers.close()
                    break
            else:
                _demand_success(answer.command, str(peer.destination))
    if not as_json:
        _print_rows(rows, wanted)


@click.command("move")
@click.argument("target")
@click.option(
    "--to", "destination", required=True, metavar="AE", help="AE title that TARGET shall send to."
)
@_level_option
@_key_option
@_model_option
@peer_options
def move_command(
    target: str,
    destination: str,
    level: str,
    keys: tuple[str, ...],
    model: str | None,
    config: Path | None,
    calling: str | None,
    timeout_s: float | None,
) -> None:
    """Have TARGET send objects to a third node (C-MOVE).

    Example: dgate move PACS --to VIEWER -k StudyInstanceUID=1.2.3

    Exit code 0: TARGET sent everything; 1: it refused, or not every object arrived.
    """
    from dgate.cli.transfer import show_suboperations

    level = level.upper()
    wanted = parse_keys(keys, level)
    peer = find_peer(target, config, calling, timeout_s)
    sop_class = MOVE_MODELS[model or ("patient" if level == "PATIENT" else "study")]
    with peer.connect([ContextProposal(sop_class, UNCOMPRESSED)]) as association:
        context_id, syntax = _context(association, sop_class)
        identifier = encode_data_set(
            wanted.values(level, with_return_keys=False), syntax, UTF_8 if wanted.needs_utf8 else ""
        )
        final = show_suboperations(
            move(association, context_id, destination, identifier), f"{target} to {destination}"
        )
    _demand_success(final, str(peer.destination))


@click.command("get")
@click.argument("target")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default="this folder",
    metavar="FOLDER",
    help="Where the files go, as SOPInstanceUID.dcm.",
)
@_level_option
@_key_option
@_model_option
@peer_options
def get_command(
    target: str,
    output: Path,
    level: str,
    keys: tuple[str, ...],
    model: str | None,
    config: Path | None,
    calling: str | None,
    timeout_s: float | None,
) -> None:
    """Fetch objects from TARGET into a folder (C-GET).

    Example: dgate get PACS -o /tmp/study -k StudyInstanceUID=1.2.3

    Exit code 0: TARGET sent everything; 1: it refused, or not every object arrived.
    """
    from dgate.cli.transfer import fetch

    level = level.upper()
    peer = find_peer(target, config, calling, timeout_s)
    patient_root = (model or ("patient" if level == "PATIENT" else "study")) == "patient"
    final = fetch(peer, parse_keys(keys, level), level, output, patient_root=patient_root)
    _demand_success(final, str(peer.destination))


@click.command("send")
@click.argument("target")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@peer_options
def send_command(
    target: str,
    paths: tuple[Path, ...],
    config: Path | None,
    calling: str | None,
    timeout_s: float | None,
) -> None:
    """Send files, or all files below folders, to TARGET (C-STORE).

    Files that are not DICOM are named and skipped. Exit code 0: every file was an object and was
    accepted, as it is or with a warning; 1: one was not.
    """
    from dgate.cli.transfer import send_files

    peer = find_peer(target, config, calling, timeout_s)
    if not send_files(peer, paths):
        sys.exit(1)


def _context(association: Association, sop_class: str) -> tuple[int, str]:
    """Return id and transfer syntax of the accepted context."""
    for context in association.contexts_for(sop_class):
        return context.id, context.transfer_syntax
    raise NoContext(f"{association.called} does not offer the service {sop_class}")


def _demand_success(response: Command, peer: str) -> None:
    """Raise unless the operation succeeded completely."""
    kind = category(response.outcome)
    text = "no status" if response.status is None else describe(response.status)
    text = f"{text} {response.error_comment}".strip()
    if kind in (StatusCategory.FAILURE, StatusCategory.CANCEL):
        raise PeerError(f"the operation failed with status {text}", where=peer)
    if kind is StatusCategory.WARNING:
        raise PeerError(f"the operation ended incompletely with status {text}", where=peer)


def _print_rows(rows: list[dict[str, str]], wanted: KeyList) -> None:
    """Print the answers as a table on a terminal, as tab-separated text elsewhere."""
    columns = wanted.names()
    if not sys.stdout.isatty():
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(row.get(name, "") for name in columns))
        return
    table = Table(*columns, caption=f"{len(rows)} answer(s)")
    for row in rows:
        table.add_row(*(row.get(name, "") for name in columns))
    Console().print(table)
