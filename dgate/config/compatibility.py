"""The registry as the page about what differs from the original program. Pure functions.

The sentences about single keys are in the registry; what is about a file as a whole is here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from dgate.config.key_table import REGISTRY
from dgate.config.keys import Key, Mark
from dgate.config.reference import written

_HEAD = """\
# Compatibility

What becomes of the files of a Conquest DICOM server. The page is made from the registry of the
program by `dgate config explain --compatibility`; `dgate config explain KEY` tells more about one
key, and `dgate check` reports each line of a file that has no effect or another than before.

Where the original has a defect that nobody can depend on, or that is unsafe, dgate does what was
meant, and the tables say so. N stands for a number from 0.
"""

_FILES = (
    (
        "all files",
        "bytes, no byte order mark",
        "UTF-8, else Latin-1; a byte order mark is understood, UTF-16 with a warning; "
        "line ends LF, CRLF or CR; NUL characters are left out. A file of more than 4 MB "
        "is refused",
    ),
    (
        "`dicom.ini`",
        "lines are cut after 2047 characters, values after 63 to 1023",
        "no such limit; an AE title has at most 16 characters",
    ),
    (
        "`dicom.ini`",
        "no comments, only keys that nobody asks for",
        "`#`, `;` and `//` in the first column; a line that begins with a blank is "
        "ignored as before, with a warning",
    ),
    (
        "`dicom.ini`",
        "section names count with their blanks",
        "without; a misspelt header is tolerated where only one section can be meant",
    ),
    (
        "`dicom.ini`",
        "unknown keys and sections are ignored in silence",
        "ignored, and reported with the name that was probably meant",
    ),
    (
        "`dicom.ini`",
        "of a key that stands there twice the first counts",
        "the same, and reported",
    ),
    (
        "`dicom.ini`",
        "`yes`, `true` and a value that is missing count as 0",
        "the same, and reported",
    ),
    (
        "paths",
        "some start at the folder of `dicom.ini`, some at the current folder",
        "all start at the folder of `dicom.ini`; what exists only at the current folder "
        "is taken from there, and reported. Both `/` and `\\` are understood",
    ),
    (
        "`acrnema.map`",
        "a comment behind an entry swallows the next line, one with `;` two of them",
        "comments end with their line",
    ),
    (
        "`acrnema.map`",
        "an entry without host or port fails when it is used",
        "it is left out, and reported",
    ),
    (
        "`acrnema.map`",
        "`as` sends uncompressed",
        "`as` sends objects as they are stored, where the peer takes them so",
    ),
    (
        "`dicom.sql`",
        "an unknown type or a level that is missing ends the program, a missing comma joins rows",
        "reported with the line; rows are read as they are meant",
    ),
    (
        "`dgatesop.lst`",
        "the last line is lost without a line end",
        "it counts",
    ),
    (
        "`dgatesop.lst`",
        "storage commitment is not listed; listed, it ends the association at the first use",
        "listed and served; a list from before needs the line "
        "`StorageCommitmentPushModel 1.2.840.10008.1.20.1 sop`",
    ),
    (
        "`dgatesop.lst`",
        "performed procedure steps (MPPS) are not listed, nor served",
        "listed and served; a list from before needs the line "
        "`ModalityPerformedProcedureStep 1.2.840.10008.3.1.2.3.3 sop`",
    ),
    (
        "rules",
        "a doubled quote inside a string vanishes",
        "the same, as rules in use depend on it",
    ),
    (
        "rules",
        "a script file that calls itself crashes",
        "it is an error",
    ),
    (
        "rules",
        "an unknown statement of an export line is run as a program",
        "only with AllowSystemCommands, without a shell",
    ),
    (
        "rules",
        "a statement that fails is skipped, and the object stored",
        "the object is refused (ScriptErrors = ignore stores it): an anonymiser that "
        "fails must not store the original",
    ),
    (
        "commands",
        "administration by C-ECHO from anywhere",
        "not offered; there is a local control socket",
    ),
)
"""What is read, how the original did it, how dgate does it and why."""


class Status(Enum):
    """What becomes of a key of the original."""

    WORKS = "works"
    DIFFERS = "works differently"
    IDLE = "accepted without effect"
    MISSING = "not yet"


def status_of(key: Key) -> Status:
    """Return what becomes of a key."""
    if key.effective:
        return Status.DIFFERS if key.differs else Status.WORKS
    return Status.IDLE if key.reason else Status.MISSING


def compatibility_page() -> str:
    """Return the page, in Markdown."""
    keys = [key for key in REGISTRY if key.mark is not Mark.OWN]
    own = [key for key in REGISTRY if key.mark is Mark.OWN]

    def having(status: Status) -> list[Key]:
        return [key for key in keys if status_of(key) is status]

    missing = having(Status.MISSING)
    parts = [
        _HEAD,
        _files(),
        _table("Works differently", "How, and why", _told(having(Status.DIFFERS))),
        _table(
            "Accepted without effect",
            "Why",
            _grouped((key, key.reason) for key in having(Status.IDLE)),
        ),
    ]
    if missing:
        rows = _grouped((key, key.missing) for key in missing)
        parts.append(_table("Without effect in this version", "Why", rows))
    works = ((_name(key), key.meaning) for key in having(Status.WORKS))
    parts.append(_table("Works", "What it does", works))
    added = ((_name(key), key.meaning) for key in own)
    parts.append(_table("Added by dgate", "What it does", added))
    return "\n".join(parts)


def _files() -> str:
    lines = ["## How the files are read", ""]
    lines += ["| In | The original | dgate, and why |", "|---|---|---|"]
    lines += [f"| {place} | {original} | {here} |" for place, original, here in _FILES]
    return "\n".join([*lines, ""])


def _name(key: Key) -> str:
    return f"`{written(key)}`".replace("<", "&lt;")


def _told(keys: Iterable[Key]) -> Iterable[tuple[str, str]]:
    """Yield keys with what is different; those with the same sentence share a row."""
    return _grouped((key, key.differs) for key in keys)


def _grouped(keys: Iterable[tuple[Key, str]]) -> Iterable[tuple[str, str]]:
    groups: dict[str, list[str]] = {}
    for key, text in keys:
        groups.setdefault(text, []).append(_name(key))
    return [(" ".join(names), _sentence(text)) for text, names in groups.items()]


def _sentence(text: str) -> str:
    """Return the text as a sentence with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _table(title: str, column: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"## {title}", "", f"| Key | {column} |", "|---|---|"]
    lines += [f"| {names} | {text} |" for names, text in rows]
    return "\n".join([*lines, ""])
