"""The registry as a page of the manual, in Markdown. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable

from dgate.config.key_table import REGISTRY
from dgate.config.keys import ANY_KEY, MAIN, NODE, Key, Mark

_HEAD = """\
# Settings

Every key of `dicom.ini` that dgate knows. The page is made from the registry of the program by
`dgate config explain --markdown`; `dgate config explain KEY` tells the same and more about one key.
Keys and section names may be written in any letter case. N stands for a number from 0. A change of
a *live* key takes effect while the server runs, that of the others when it is started again. What
differs from the Conquest DICOM server is told in [compatibility](compatibility.md).
"""
_TITLES = "| Key | Value | Default | Change | Meaning |"
_RULE = "|---|---|---|---|---|"


def markdown() -> str:
    """Return the page."""
    keys = [key for key in REGISTRY if not key.reason]
    main = [key for key in keys if key.section == MAIN]
    parts = [
        _HEAD,
        _table("Settings with an effect", (key for key in main if key.effective)),
        _table(
            "Settings that are known, without effect in this version",
            (key for key in main if not key.effective),
        ),
        _table("Settings of single nodes", (key for key in keys if key.section == NODE)),
        _table("Other sections", (key for key in keys if key.section not in (MAIN, NODE))),
        _retired(),
    ]
    return "\n".join(parts)


def effect(key: Key) -> str:
    """Say in words whether this version acts on the key."""
    if key.effective:
        return "yes"
    if key.reason:
        return f"none: {key.reason}"
    return f"not yet: {key.missing}"


def kind_of(key: Key) -> str:
    """Say in words what a value is, with its unit."""
    kind = " or ".join(filter(None, key.choices)) or key.type.value
    return kind if key.unit in ("", kind) else f"{kind} ({key.unit})"


def written(key: Key) -> str:
    """Return the name with the section it stands in, unless that is the main one."""
    name = "NAME" if key.name == ANY_KEY else key.name
    section = f"{NODE} NAME" if key.section == NODE else key.section
    return name if key.section == MAIN else f"[{section}] {name}"


def _table(title: str, keys: Iterable[Key]) -> str:
    rows = [f"## {title}", "", _TITLES, _RULE]
    for key in keys:
        name = written(key).replace("<", "&lt;")
        kind = kind_of(key)
        change = "live" if key.live else "restart"
        default = f"`{key.default}`" if key.default and not key.secret else ""
        meaning = key.meaning
        if key.aliases:
            meaning += f" Also read: {', '.join(f'`{alias}`' for alias in key.aliases)}."
        if key.mark is Mark.OWN:
            meaning += " (dgate's own)"
        rows.append(f"| `{name}` | {kind} | {default} | {change} | {meaning} |")
    return "\n".join([*rows, ""])


def _retired() -> str:
    rows = ["## Settings that are accepted and do nothing", "", "| Key | Why |", "|---|---|"]
    groups: dict[str, list[str]] = {}
    for key in REGISTRY:
        if key.reason:
            groups.setdefault(key.reason, []).append(f"`{written(key)}`".replace("<", "&lt;"))
    rows += [f"| {' '.join(names)} | {reason} |" for reason, names in groups.items()]
    return "\n".join([*rows, ""])
