"""`dgate config set`, `export` and `import`: changes of the files that the server is steered by.

What would be wrong afterwards is found before anything is written, by the same look as that of
`dgate check`. Used by the one thread of a command.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from dgate.cli.check import print_problems
from dgate.cli.options import config_option
from dgate.config import toml
from dgate.config.edit import (
    entries_of,
    home_of,
    registered_in,
    with_value,
    with_values,
    without,
)
from dgate.config.ini import IniFile
from dgate.config.key_table import REGISTRY
from dgate.config.keys import MAIN, NODE, registered
from dgate.config.nodes import Node
from dgate.config.problem import Problem, Severity
from dgate.config.settings import Configuration, load
from dgate.config.store import write_files
from dgate.config.text import read_file
from dgate.errors import ConfigError
from dgate.inspection import inspect


@click.command("set")
@click.argument("key")
@click.argument("value", required=False)
@config_option
@click.option("--section", metavar="NAME", help="lua, scripts, a profile, or 'node NAME'.")
@click.option(
    "--unset", is_flag=True, help="Remove the setting instead, so that its default counts."
)
@click.option("--force", is_flag=True, help="Write in spite of warnings; errors always refuse.")
def set_command(
    key: str, value: str | None, config: Path, section: str | None, unset: bool, force: bool
) -> None:
    """Set KEY to VALUE in dicom.ini, and leave every other line as it is.

    The file before the change is kept beside it as dicom.ini.bak.N. What dgate check would complain
    about is not written. A VALUE that begins with - stands behind --.
    """
    if unset == (value is not None):
        raise click.UsageError("give a VALUE, or --unset and none")
    before = load(config)
    ini = _ini(before)
    known = REGISTRY.find(key, registered_in(section))
    if known is None and value is not None and _is_home_of_settings(section, before):
        near = REGISTRY.nearest(key, registered_in(section))
        advice = f"did you mean {near}?" if near else "dgate config explain lists all"
        raise ConfigError(f"{key} is not a known setting and has no effect", remedy=advice)
    old = ini.render()
    new = without(ini, section, key) if value is None else with_value(ini, section, key, value)
    if new == old:
        click.echo(f"{key} is set so already; nothing was written.")
        return
    path = before.settings.ini_path
    after = load(path, {path: new})
    _refuse(_added(before, after), _lines_of(after, section, key), force)
    [(_, backup)] = write_files(after.settings.base_folder, {path: new}, {path: old})
    name = key if known is None or known.name.startswith(("*", "<")) else known.name
    what = f"{name} was removed from" if value is None else f"{name} was set in"
    click.echo(f"{what} {path}; the file as it was is {backup}")
    if known is not None and known.key.effective and not known.key.live:
        click.echo(f"{name} takes effect when the server is started again.")


@click.command("export")
@config_option
@click.option("--toml", "as_toml", is_flag=True, required=True, help="Write TOML, the one form.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write into FILE, readable for its owner only, as passwords are in it.",
)
def export_command(config: Path, as_toml: bool, output: Path | None) -> None:
    """Write dicom.ini and acrnema.map as one TOML document, passwords included.

    Every section, key, value, double and their order is in it; comments are not.
    """
    assert as_toml, "click asks for it"
    configuration = load(config)
    document = toml.document_of(_ini(configuration), configuration.nodes)
    text = toml.to_toml(document)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        # A new file in the place of an older one: whoever may read that must not read passwords.
        fresh = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        fresh.replace(output)
    except OSError as exc:
        raise ConfigError(f"cannot be written: {exc.strerror}", where=str(output)) from exc


@click.command("import")
@config_option
@click.option(
    "--toml",
    "source",
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="The TOML document; - reads standard input.",
)
@click.option("--force", is_flag=True, help="Write in spite of new warnings; errors always refuse.")
def import_command(config: Path, source: Path, force: bool) -> None:
    """Make dicom.ini and acrnema.map hold what a TOML document says.

    Where only values differ, comments and layout stay; otherwise the file is written anew. The
    files as they were are kept beside them as .bak.N. What dgate check would refuse is not written.
    """
    document = toml.from_toml(_read_toml(source), str(source))
    before = load(config)
    ini_path, map_path = before.settings.ini_path, before.settings.acrnema_map
    now = toml.document_of(_ini(before), before.nodes)
    expected = {ini_path: _ini(before).render(), map_path: _content(map_path)}
    files: dict[Path, bytes] = {}
    if document.nodes is not None and _plain(document.nodes) != _plain(now.nodes or ()):
        files[map_path] = toml.map_text(document.nodes).encode("utf-8")
    if document.parts != now.parts:
        files[ini_path] = _new_ini(_ini(before), now, document)
    if not files:
        click.echo("The files say the same already; nothing was written.")
        return
    after = load(ini_path, files)
    if after.settings.acrnema_map != map_path and map_path in files:
        # The document moves the node table, too.
        files = {after.settings.acrnema_map: files.pop(map_path), **files}
        after = load(ini_path, files)
    _refuse(_added(before, after), None, force)
    expected |= {path: _content(path) for path in files if path not in expected}
    written = write_files(after.settings.base_folder, files, expected)
    for path, _ in written:
        click.echo(f"wrote {path}")
    for _, backup in written:
        if backup is not None:
            click.echo(f"the file as it was is {backup}")


def _ini(configuration: Configuration) -> IniFile:
    assert configuration.ini is not None, "it has been loaded from files"
    return configuration.ini


def _is_home_of_settings(section: str | None, configuration: Configuration) -> bool:
    """Tell whether the registry knows every key of a section."""
    names = {None, MAIN, configuration.settings.profile.lower(), "lua", NODE}
    return (registered(section) if section else None) in names


def _lines_of(after: Configuration, section: str | None, key: str) -> set[int]:
    ini = _ini(after)
    return {entry.line for entry in entries_of(home_of(ini, section, key), section, key)}


def _added(before: Configuration, after: Configuration) -> list[Problem]:
    """Return the problems that the change would bring, wherever the old ones have moved to."""
    known = Counter((one.severity, one.path, one.message) for one in inspect(before))
    added = []
    for problem in inspect(after):
        name = (problem.severity, problem.path, problem.message)
        if known[name] > 0:
            known[name] -= 1
        else:
            added.append(problem)
    return added


def _refuse(added: Sequence[Problem], lines: set[int] | None, force: bool) -> None:
    """Print the problems of a change; end the command when they forbid it.

    A warning does so when it is about one of `lines`, any when that is None.
    """
    errors = [one for one in added if one.severity is Severity.ERROR]
    warnings = [one for one in added if one.severity is Severity.WARNING]
    against = [one for one in warnings if lines is None or one.line in lines]
    print_problems([*errors, *warnings])
    if errors or (against and not force):
        hint = "" if errors else " (--force writes in spite of warnings)"
        click.echo(f"Nothing was written{hint}.", err=True)
        sys.exit(1)


def _read_toml(source: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(source) == "-" else read_file(source)
        return data.decode("utf-8-sig")
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", where=str(source)) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError("TOML has to be UTF-8 text", where=str(source)) from exc


def _plain(nodes: Sequence[Node]) -> list[tuple[object, ...]]:
    """Return what the document says about nodes, which is all but their lines."""
    return [(n.ae_title, n.host, n.port, n.compression, n.extra) for n in nodes]


def _new_ini(ini: IniFile, now: toml.Document, wanted: toml.Document) -> bytes:
    """Return the bytes of the new dicom.ini, with its comments where only values change."""
    if not toml.same_shape(now, wanted):
        return toml.ini_text(wanted).encode("utf-8")
    lines = [n for n in range(1, len(ini.written_lines) + 1) if ini.entry_at(n) is not None]
    old = [value for part in now.parts for _, value in part.entries]
    new = [value for part in wanted.parts for _, value in part.entries]
    changes = [
        (line, after or "")
        for line, before, after in zip(lines, old, new, strict=True)
        if before != after
    ]
    return with_values(ini, changes)


def _content(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", where=str(path)) from exc


COMMANDS: Mapping[str, click.Command] = {
    command.name or "": command for command in (set_command, export_command, import_command)
}
