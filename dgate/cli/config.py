"""`dgate config`: the settings that count, with their origin, and what each key means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgate.cli import config_edit
from dgate.cli.history import history_command, reload_command, rollback_command
from dgate.cli.options import config_option
from dgate.config.compatibility import compatibility_page
from dgate.config.key_table import REGISTRY
from dgate.config.keys import ANY_KEY, MAIN, NODE, Key, KeyType, Mark
from dgate.config.reference import effect, kind_of, markdown, written
from dgate.config.settings import Configuration, Settings, Value, load
from dgate.errors import ConfigError

_HIDDEN = "(hidden)"
_TYPED = (KeyType.INT, KeyType.BOOL, KeyType.SECONDS, KeyType.PORT, KeyType.PATH, KeyType.AE)
_COMPOSED = ("engine", "mag_devices")
_CHANGES = {
    True: "take effect a second or two after the file was saved, or on SIGHUP",
    False: "take effect when the server is started again",
}


@click.group("config")
def config_group() -> None:
    """Show, explain and change settings."""


for _command in config_edit.COMMANDS.values():
    config_group.add_command(_command)


@config_group.command("show")
@config_option
@click.option("--all", "everything", is_flag=True, help="Also keys without effect.")
@click.option("--changed", is_flag=True, help="Only keys that dicom.ini names.")
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON.")
def show_command(config: Path, everything: bool, changed: bool, as_json: bool) -> None:
    """Show the settings that count, and the line of dicom.ini or the default they come from.

    Passwords are not shown. What is wrong with a setting is told by: dgate check
    """
    configuration = load(config)
    values = [
        value
        for value in configuration.values
        if (everything or value.key.effective) and not (changed and value.is_default)
        if not value.name.startswith("<")
    ]
    if as_json:
        rows = [_as_data(configuration, value) for value in values]
        click.echo(json.dumps(rows, indent=2))
        return
    console = Console()
    if console.is_terminal:
        console.print(value_table(configuration, values))
        return
    for value in values:
        click.echo(
            f"{value.name} = {_shown(configuration, value)}\t({_origin(configuration, value)})"
        )


@config_group.command("explain")
@click.argument("key", required=False)
@config_option
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the page of all settings.")
@click.option("--compatibility", is_flag=True, help="Print the page of what differs from Conquest.")
def explain_command(key: str | None, config: Path, as_markdown: bool, compatibility: bool) -> None:
    """Explain the setting KEY; without KEY, list all settings with one line each.

    KEY may be written in any letter case, with a number (MAGDevice0) or with N (MAGDeviceN).
    """
    if as_markdown:
        click.echo(markdown(), nl=False)
        return
    if compatibility:
        click.echo(compatibility_page(), nl=False)
        return
    if key is None:
        _list_keys()
        return
    keys = REGISTRY.search(key)
    if not keys:
        near = REGISTRY.nearest(key) or REGISTRY.nearest(key, NODE)
        advice = f"; did you mean {near}?" if near else "; dgate config explain lists all"
        raise click.ClickException(f"{key} is not a known setting{advice}")
    configuration = _load_if_there(config)
    for place, found in enumerate(keys):
        if place:
            click.echo()
        _explain(found, key, configuration)


config_group.add_command(history_command)
config_group.add_command(rollback_command)
config_group.add_command(reload_command)


def value_table(configuration: Configuration, values: Sequence[Value]) -> Table:
    """Return the settings as a table for a terminal."""
    table = Table(box=None, pad_edge=False)
    table.add_column("Key", no_wrap=True, style="bold")
    table.add_column("Value", overflow="fold")
    table.add_column("From", no_wrap=True)
    for value in values:
        style = "dim" if value.is_default else "green"
        origin = Text(_origin(configuration, value), style=style)
        table.add_row(value.name, Text(_shown(configuration, value)), origin)
    return table


def _shown(configuration: Configuration, value: Value) -> str:
    """Return the text of the file, and what it stands for where that is something else."""
    if value.key.secret:
        return _HIDDEN if value.text else ""
    counts = _counts(configuration.settings, value)
    if counts is None or counts == value.text:
        return value.text
    return f"{value.text} → {counts}" if value.text else counts


def _counts(settings: Settings, value: Value) -> str | None:
    """Return the value that the server works with, as text; None where the text says it all."""
    key = value.key
    if key.section != MAIN:
        return None
    if key.name == "MAGDeviceN":
        number = int(value.name.removeprefix("MAGDevice"))
        devices = settings.mag_devices
        return str(devices[number]) if number < len(devices) else None
    if key.name == "SQLServer":
        return settings.sql_server
    if key.type not in _TYPED or not key.feeds or key.is_family or key.feeds in _COMPOSED:
        return None
    typed = getattr(settings, key.feeds)
    if isinstance(typed, float):
        return f"{typed:g}"
    if isinstance(typed, bool):
        return str(int(typed))
    return None if typed is None else str(typed)


def _origin(configuration: Configuration, value: Value) -> str:
    if value.is_default:
        return "default"
    alias = f" as {value.alias}" if value.alias else ""
    return f"{configuration.settings.ini_path.name}:{value.line}{alias}"


def _as_data(configuration: Configuration, value: Value) -> dict[str, object]:
    return {
        "key": value.name,
        "value": _HIDDEN if value.key.secret and value.text else value.text,
        "counts": None if value.key.secret else _counts(configuration.settings, value),
        "line": value.line,
        "alias": value.alias or None,
        "effective": value.key.effective,
    }


def _load_if_there(config: Path) -> Configuration | None:
    """Return the configuration; None when there is none, as `explain` does not need it."""
    try:
        return load(config)
    except ConfigError:
        return None


def _explain(key: Key, asked: str, configuration: Configuration | None) -> None:
    click.secho(written(key), bold=True)
    click.echo(f"  {key.meaning}")
    default = _HIDDEN if key.secret else key.default or "(empty)"
    rows = [("Value", kind_of(key))]
    if key.least is not None or key.most is not None:
        rows.append(("Range", _range(key)))
    rows.append(("Default", default))
    rows += [("Now", text) for text in _current(key, asked, configuration)]
    rows.append(("Effect", effect(key)))
    if key.effective:
        rows.append(("Changes", _CHANGES[key.live]))
    if key.aliases:
        rows.append(("Also read", ", ".join(key.aliases)))
    rows.append(("From", "dgate's own" if key.mark is Mark.OWN else "Conquest"))
    if key.differs:
        rows.append(("Differs", key.differs))
    if key.effective and key.has_sample:
        rows.append(("Example", key.sample))
    for title, text in rows:
        click.echo(f"  {title:<10} {text}")
    for line in key.details.splitlines():
        click.echo(f"  {line}")


def _range(key: Key) -> str:
    if key.most is None:
        return f"{key.least} or more"
    return f"{key.least} to {key.most}"


def _current(key: Key, asked: str, configuration: Configuration | None) -> list[str]:
    """Return the value that counts now, with its origin; of a family those that are set."""
    if configuration is None or key.section not in (MAIN, NODE):
        return []
    if key.section == NODE:
        set_here = (value for value in configuration.values if value.key is key)
        return [f"{v.name} = {v.text} ({_origin(configuration, v)})" for v in set_here]
    match = REGISTRY.find(asked)
    number = match.name if match is not None and match.number is not None else None
    return [
        f"{prefix}{_shown(configuration, value)} ({_origin(configuration, value)})"
        for value in configuration.values
        if value.key is key and (number is None or value.name == number)
        for prefix in [f"{value.name} = " if key.is_family else ""]
    ]


def _list_keys() -> None:
    """Print one line for each setting that does something, or will."""
    for key in REGISTRY:
        if key.name != ANY_KEY and not key.reason:
            note = "" if key.effective else " (no effect yet)"
            click.echo(f"{written(key)}: {key.meaning}{note}")
