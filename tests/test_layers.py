"""Reads every import of dgate/ and fails on one that points upward or sideways.

The order is that at the end of the project's rulings. `cli` stands above `gateway`, because `serve`
builds one, but not above the rooms beside it: it reaches those through the gateway only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "dgate"

# Top down: a package may import from rows below its own, never from its own row or above.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("gateway",),
    ("console",),
    ("parts", "reloading"),
    ("reconciling",),
    ("generation",),
    ("committing",),
    ("foundation", "tracing"),
    ("operations", "hooks"),
    ("surroundings", "inspection"),
    ("web", "services", "hl7"),
    ("delivery",),
    ("archive",),
    ("rules",),
    ("net",),
    ("dicom", "config"),
    ("ops",),
    ("errors", "clock", "disk", "printable"),
)
NEVER = {("cli", "web"), ("cli", "services"), ("cli", "hl7")}

# What a room must never know, by the modules of the standard library and others that would tell it.
FORBIDDEN_MODULES = {
    "config": {"socket", "socketserver", "peewee", "sqlite3", "pynetdicom"},
    "dicom": {"socket", "socketserver", "peewee", "sqlite3", "pynetdicom"},
    "net": {"peewee", "sqlite3"},
    "rules": {"socket", "socketserver", "peewee", "sqlite3", "starlette"},
    "archive": {"socket", "socketserver", "pynetdicom"},
    "services": {"peewee", "sqlite3"},
    "web": {"socket", "socketserver", "peewee", "sqlite3"},
}


def modules() -> list[Path]:
    """Return every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """Return the first name below dgate that a module belongs to, '' for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imported_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute dotted name of every import, those inside functions too."""
    package = ["dgate", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_bytes(), path.name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def rank(room: str) -> int:
    """Return the row of a room, counted from the top."""
    return next(place for place, row in enumerate(LAYERS) if room in row)


def trespasses(room: str, target: str) -> bool:
    """Tell whether a module of one room may not import the other."""
    if not room or target == room:
        return False
    return (room, target) in NEVER or rank(target) <= rank(room)


def test_every_module_belongs_to_a_known_layer() -> None:
    known = {room for row in LAYERS for room in row} | {""}

    assert {room_of(path) for path in modules()} <= known


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_downward(path: Path) -> None:
    room = room_of(path)
    wrong = []
    for line, name in imported_names(path):
        parts = name.split(".")
        if parts[0] == "dgate" and len(parts) > 1 and parts[1] not in ("__version__",):
            if trespasses(room, parts[1]):
                wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line} imports {name}")
        elif parts[0] in FORBIDDEN_MODULES.get(room, ()):
            wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line} must not know {parts[0]}")

    assert wrong == []


def test_an_upward_import_would_be_noticed() -> None:
    assert trespasses("archive", "delivery")
    assert trespasses("services", "web")
    assert trespasses("cli", "services")
    assert not trespasses("cli", "gateway")
    assert not trespasses("services", "archive")
