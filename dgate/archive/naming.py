"""File names of stored objects: `FileNameSyntax` compiled once, applied to each object.

Spec dimse.md section 8. Not for choosing the device (`dgate.archive.devices`) nor for finding out
whether a name is taken (`dgate.archive.ingest`). A `Naming` may be used by any thread.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from dgate.archive.levels import PATIENT_NAME
from dgate.archive.repair import NO_NAME
from dgate.archive.rows import Entry
from dgate.clock import Clock
from dgate.config.settings import Settings, V2Content
from dgate.dicom.element import tag_of, vr_of
from dgate.dicom.table import ElementTable
from dgate.errors import ConfigError, NotDicom
from dgate.rules.session import Session

_COMPONENT_BYTES = 240
"""Longest path component: file systems allow 255, a `_1` suffix must still fit."""
_NAME_CHARACTERS = 250
"""Longest name: column ObjectFile holds 255."""
_RESERVED_FOLDERS = frozenset({"dgate", "incoming", "printer_files", "bin"})
"""Folders that dgate uses itself or that a rebuild of the index skips (spec dicom-sql.md 5)."""

ABSENT = "empty"
"""What stands for an attribute that the object does not have."""

_FIXED = {
    0: "%name[0,7]_%id[0,7]/%seriesplain_%imageplain_%time.v2",
    1: "%name[0,7]_%id[0,7]/%series_%image_%time%counter.v2",
    2: "%name[0,7]_%id[0,7]/%seriesuid_%series_%image_%time%counter.v2",
    3: "%id[0,15]/%seriesuid_%series_%image_%time%counter.v2",
    4: "%id[0,15]/%seriesuid_%series_%image_%time%counter.dcm",
    5: "%name/%seriesuid_%series_%image_%time%counter.v2",
    6: "%id[0,31]/%studyuid/%seriesuid/%sopuid.v2",
    7: "%studyuid/%seriesuid/%sopuid.v2",
    8: "%id[0,31]/%studyuid/%seriesuid/%sopuid.dcm",
    9: "%studyuid/%seriesuid/%sopuid.dcm",
    10: "Images/%sopuid.dcm",
    11: "%name/%studyuid/%seriesuid/%sopuid.dcm",
    12: "%name_%id/%modality_%studyid/%seriesid/%sopuid.dcm",
}


class _Source(NamedTuple):
    table: ElementTable
    entry: Entry
    calling: str
    called: str
    now: float
    serial: int


_Token = Callable[[_Source], str]

EvaluateName = Callable[[ElementTable, str, str, Session | None], str | None]
"""Gives the name for an object (table, calling, called, session), None when the expression has no
result."""
_LUA = "lua:"
_DEFAULT_SYNTAX = "4"


class Naming:
    """Makes the relative file name of an object, by the `FileNameSyntax` it was built with."""

    def __init__(
        self, settings: Settings, clock: Clock, evaluate: EvaluateName | None = None
    ) -> None:
        """Compile the syntax.

        Args:
            evaluate: what a `lua:` expression gives for an object; None where there is no Lua, and
                names are made by syntax 4 then.

        Raises:
            ConfigError: the syntax is a template without an extension.
        """
        syntax = settings.file_name_syntax.strip()
        is_lua = syntax[: len(_LUA)].lower() == _LUA
        self._evaluate = evaluate if is_lua else None
        if is_lua:
            syntax = _DEFAULT_SYNTAX
        self._is_template = "%" in syntax
        self._parts = _compile(_checked(syntax), _TOKENS) if self._is_template else _fixed(syntax)
        self._longest_rest = settings.max_file_name_length
        self._raw_v2 = settings.v2_content is V2Content.RAW and not settings.no_dicom_check
        self._clock = clock
        self._counter = itertools.count()

    def name(
        self,
        table: ElementTable,
        entry: Entry,
        calling: str,
        called: str,
        *,
        encapsulated: bool,
        session: Session | None = None,
    ) -> str:
        """Return the name for a new object, relative to its device, with `/` between folders.

        Args:
            session: of the association that brings it; None where there is none.
            entry: the object's identity after repair, as the index has it.
            encapsulated: the pixel data is compressed, which only a `.dcm` file may hold when the
                name comes from a template or ends in `.v2` (spec dimse.md 8.4).

        Raises:
            NotDicom: the object's own values lead out of the device.
        """
        if self._evaluate is not None:
            found = self._evaluate(table, calling, called, session)
            name = "" if found is None else _as_name(found)
            if name:
                ending = extension(name)
                if ending[1:].isdecimal():
                    # The end of a UID.
                    ending = ""
                if not ending or (encapsulated and ending.lower() == ".v2"):
                    name = name[: len(name) - len(ending)] + ".dcm"
                return _confined(name, self._longest_rest)
        source = _Source(
            table, entry, calling, called, self._clock.now(), next(self._counter) & 0xFFFF
        )
        name = "".join([part if isinstance(part, str) else part(source) for part in self._parts])
        if encapsulated and (self._is_template or name.endswith(".v2")):
            name = name[: len(name) - len(extension(name))] + ".dcm"
        return _confined(name, self._longest_rest)

    def is_raw(self, name: str) -> bool:
        """Tell whether the file of this name holds a bare data set without Part 10 header."""
        return self._raw_v2 and name.lower().endswith(".v2")


def _as_name(text: str) -> str:
    """Return what an expression gave as a path; empty when it cannot be one."""
    name = _CONTROL.sub("_", text.strip().replace("\\", "/")).strip("/")
    return "" if any(part in (".", "..") for part in name.split("/")) else name


def is_confined(name: str) -> bool:
    """Tell whether a name from the index stays within its device."""
    return not name.startswith("/") and ".." not in name.split("/") and "\0" not in name


def extension(name: str) -> str:
    """Return the extension with its dot, or '' when the last part of the name has none."""
    stem, dot, ending = name.rpartition(".")
    return dot + ending if stem and "/" not in ending else ""


def numbered(name: str, number: int) -> str:
    """Return the name with `_number` before its extension, the way out of a name that is taken."""
    ending = extension(name)
    return f"{name[: len(name) - len(ending)]}_{number}{ending}"


def clean(text: str) -> str:
    """Return text from an object in the form that may stand in a file name (spec dimse.md 8.1)."""
    if _CLEAN_ALREADY.fullmatch(text):
        return text
    control = _CONTROL.search(text)
    if control is not None:
        text = text[: control.start()]
    return text.translate(_CLEANED)[:64].rstrip("_") or "unknown"


_CLEAN_ALREADY = re.compile(r"[0-9A-Za-z^=+()-]{1,64}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CLEANED = {ord(character): "_" for character in '/\\;><|,. :?*"'}
_NOT_IN_UNCLEANED = {ord("/"): "_", ord("\\"): "_"}
_SAFE_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


def _fixed(syntax: str) -> list[str | _Token]:
    number = int(syntax) if syntax.isdecimal() else 0
    return _compile(_FIXED.get(number, _FIXED[0]), {**_TOKENS, **_PLAIN_TOKENS})


def _checked(template: str) -> str:
    """Return a template with `/` between folders; refuse what could never name a file."""
    template = template.replace("\\", "/")
    *folders, last = template.split("/")
    if "." not in _RANGE.sub("", last):
        raise ConfigError(
            f"the template {template!r} has no extension",
            where="FileNameSyntax",
            remedy="let it end in .dcm",
        )
    if template.startswith("/") or ".." in folders or _CONTROL.search(template):
        raise ConfigError(
            f"the template {template!r} leads out of the device",
            where="FileNameSyntax",
            remedy="begin with a folder name and use no ..",
        )
    return template


def _element(tag: int) -> _Token:
    def read(source: _Source) -> str:
        text = source.table.text(tag)
        return clean(text) if text or tag in source.table else ABSENT

    return read


def _patient_name(source: _Source) -> str:
    text = source.table.text(PATIENT_NAME)
    return clean(text) if text or PATIENT_NAME in source.table else clean(NO_NAME)


def _number(tag: int, digits: int) -> _Token:
    return lambda source: f"{_leading_integer(source.table.text(tag)):0{digits}d}"


def _leading_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        match = _INTEGER.match(text)
        return int(match[0]) if match else 0


_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}")


def _uid(text: str, what: str) -> str:
    if not text:
        return ABSENT
    if _SAFE_UID.fullmatch(text) is None:
        raise NotDicom(f"the {what} {text[:80]!r} cannot be part of a file name")
    return text


def _uncleaned(text: str) -> str:
    return _CONTROL.sub("_", text.strip()).translate(_NOT_IN_UNCLEANED) or ABSENT


_TOKENS: dict[str, _Token] = {
    "name": _patient_name,
    "id": lambda source: clean(source.entry.patient_id or ABSENT),
    "modality": _element(0x00080060),
    "studyid": _element(0x00200010),
    "studydesc": _element(0x00081030),
    "studyuid": lambda source: _uid(source.entry.study, "Study Instance UID"),
    "seriesuid": lambda source: _uid(source.entry.series, "Series Instance UID"),
    "sopuid": lambda source: _uid(source.entry.sop_instance, "SOP Instance UID"),
    "seriesid": _element(0x00200011),
    "series": _number(0x00200011, 4),
    "imagenum": _element(0x00200013),
    "image": _number(0x00200013, 6),
    "imageid": _element(0x00540400),
    "studydate": lambda source: _uncleaned(source.table.text(0x00080020)),
    "time": lambda source: str(int(source.now)),
    "date": lambda source: time.strftime("%Y%m%d", time.localtime(source.now)),
    "counter": lambda source: f"{source.serial:04x}",
    "calledae": lambda source: _uncleaned(source.called),
    "callingae": lambda source: _uncleaned(source.calling),
}
_PLAIN_TOKENS: dict[str, _Token] = {
    "seriesplain": _number(0x00200011, 1),
    "imageplain": _number(0x00200013, 1),
}
_RANGE = re.compile(r"\[(\d+),(\d+)\]")


def _compile(template: str, tokens: dict[str, _Token]) -> list[str | _Token]:
    """Cut a template into literal texts and functions that give the text of one token."""
    names = "|".join(sorted(tokens, key=len, reverse=True))
    parts: list[str | _Token] = []
    position = 0
    # The letter v comes last, so that it cannot hide a token (spec dimse.md 8.3).
    for match in re.finditer(f"%(?:(?P<token>{names})|[vV])", template):
        literal, position = template[position : match.start()], match.end()
        parts.append(literal.replace("%", ""))
        token = tokens[match["token"]] if match["token"] else None
        if token is None:
            end = _descriptor_end(template, position)
            if end == position:
                parts.append(template[position - 1])
                continue
            token, position = _described(template[position:end]), end
        limits = _RANGE.match(template, position)
        if limits is not None:
            token, position = _cut(token, int(limits[1]), int(limits[2])), limits.end()
        parts.append(token)
    parts.append(template[position:].replace("%", ""))
    return [part for part in parts if part != ""]


def _described(descriptor: str) -> _Token:
    return lambda source: clean(source.table.element_path(descriptor) or ABSENT)


_SEGMENT = re.compile(r"[0-9A-Fa-f]{4},[0-9A-Fa-f]{4}|[A-Za-z][A-Za-z0-9]*")
_ITEM = re.compile(r"\.\d+")


def _descriptor_end(template: str, start: int) -> int:
    """Return where the element descriptor ends that begins at `start`; `start` when there is none.

    `/` separates folders as well as steps into a sequence, so a path goes on only while its last
    step is a sequence.
    """
    if template.startswith("/", start):
        end = start
        while template.startswith("/", end):
            segment = _SEGMENT.match(template, end + 1 + template.startswith("*", end + 1))
            if segment is None:
                return start
            end = segment.end()
            if not _is_sequence(segment[0]):
                return end
            item = _ITEM.match(template, end)
            end = item.end() if item else end
        return end
    segment = _SEGMENT.match(template, start + template.startswith("*", start))
    return segment.end() if segment else start


def _is_sequence(segment: str) -> bool:
    tag = int(segment[:4] + segment[5:], 16) if "," in segment else tag_of(segment)
    return tag is not None and vr_of(tag) == "SQ"


def _cut(token: _Token, first: int, last: int) -> _Token:
    """Return the token limited to the characters `first` to `last`, both included."""
    if last < first:
        return token
    return lambda source: token(source)[first : last + 1]


_ODD = re.compile(rf"(?:^|/)(?:[./]|(?:{'|'.join(_RESERVED_FOLDERS)})/)", re.IGNORECASE)
"""Marks names that need a closer look: empty or dotted parts, reserved folders."""


def _confined(name: str, longest_rest: int) -> str:
    """Return the name made fit for the file system; refuse one that leaves the device."""
    if (
        len(name) <= min(longest_rest, _COMPONENT_BYTES)
        and name.isascii()
        and not _ODD.search(name)
    ):
        return name
    name = "/".join([_capped(part) for part in name.split("/")])
    root, slash, rest = name.partition("/")
    room = min(longest_rest, _NAME_CHARACTERS - len(root) - 1)
    if slash and len(rest) > room:
        rest = rest[-room:].lstrip("/.")
    parts = [part for part in (root, *rest.split("/")) if part]
    if not parts or any(part in (".", "..") for part in parts):
        raise NotDicom(f"the object's values lead out of the storage device: {name[:80]!r}")
    for index, folder in enumerate(parts[:-1]):
        if folder.lower() in _RESERVED_FOLDERS:
            parts[index] = folder + "_"
    return "/".join(parts)


def _capped(part: str) -> str:
    """Return the path component cut to what the file system takes, its extension kept."""
    if len(part.encode()) <= _COMPONENT_BYTES:
        return part
    ending = extension(part)[:16]
    stem = part[: len(part) - len(extension(part))].encode()
    room = _COMPONENT_BYTES - len(ending.encode())
    return stem[:room].decode(errors="ignore") + ending
