"""`dgate deidentify` and `dgate reidentify`: the key, and who stands behind a pseudonym.

Every look-up is written down before anything is shown (`dgate/reidentification.log`).
"""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import click

from dgate.archive.database import Database
from dgate.archive.keyfile import create_key
from dgate.archive.reidentification import Found, Reidentification
from dgate.cli.options import config_option
from dgate.clock import SystemClock
from dgate.config.settings import load
from dgate.errors import DgateError

LOG_NAME = "reidentification.log"


@click.group("deidentify")
def deidentify_group() -> None:
    """De-identification: the key that pseudonyms are made with."""


@deidentify_group.command("key")
@config_option
def key_command(config: Path) -> None:
    """Create the key file that ReidentificationKey names.

    It is readable for its owner only, so run this as the server's user. Keep a copy in a safe
    place, away from the database: without it nobody can be identified again, and the same patients
    would get other pseudonyms.
    """
    path = load(config).settings.reidentification_key
    create_key(path)
    click.echo(f"{path}: created")


@click.command("reidentify")
@config_option
@click.argument("value")
@click.option("--why", default="", help="The reason, for the record of look-ups.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def reidentify_command(config: Path, value: str, why: str, as_json: bool) -> None:
    """Tell what a pseudonym or a new UID stands for, or what an original was replaced by.

    VALUE is a patient ID or any UID. Who asked is written to dgate/reidentification.log before the
    answer is shown. Exit code 1 when nothing is known of VALUE.
    """
    settings = load(config).settings
    database = Database(settings)
    if database.path is not None and not database.path.exists():
        raise DgateError("there is no database yet", where=str(database.path))
    database.open()
    try:
        table = Reidentification(database, None, SystemClock(), settings.reidentification_key)
        found = table.find(value.strip())
    finally:
        database.close()
    _write_down(settings.base_folder / "dgate" / LOG_NAME, value, why, found)
    if not found:
        raise DgateError(f"nothing is known of {value}")
    for each in found:
        click.echo(_as_json(each) if as_json else _as_text(each))


def _write_down(path: Path, value: str, why: str, found: Sequence[Found]) -> None:
    """Append to the record of look-ups, on disk when this returns; raises DgateError."""
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "who": _user(),
        "why": why,
        "value": value,
        "found": [{"stage": each.stage, "kind": each.kind, "new": each.new} for each in found],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.write(descriptor, json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise DgateError(
            f"the look-up cannot be written down, so it is not shown: {exc.strerror}",
            where=str(path),
        ) from exc


def _user() -> str:
    """Return who runs the command; behind sudo, who used it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} as {name}" if behind and behind != name else name


def _as_json(found: Found) -> str:
    return json.dumps(
        {
            "stage": found.stage,
            "kind": found.kind,
            "new": found.new,
            "old": found.old,
            "made": found.made,
            "patient": dict(found.patient),
            "shift_days": found.shift_days,
        },
        ensure_ascii=False,
    )


def _as_text(found: Found) -> str:
    lines = [
        f"stage            {found.stage or '(empty)'}",
        f"{found.kind:<16} {found.new}",
        f"was              {found.old or '(nothing)'}",
    ]
    lines += [f"{keyword:<16} {text}" for keyword, text in found.patient.items()]
    if found.shift_days:
        lines.append(f"dates            {found.shift_days} days earlier than they were")
    return "\n".join(lines)
