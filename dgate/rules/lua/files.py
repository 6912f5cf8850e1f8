"""Lua functions for files and programs: `readdicom`, `writedicom`, `tempfile`, `system`...

File names mean what they mean to rules (rulings.md 11). The functions belong to the thread that
runs the Lua state.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from dgate.dicom.element import SOP_CLASS_UID, SOP_INSTANCE_UID
from dgate.dicom.listing import listing
from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import IMPLICIT_LE
from dgate.errors import RuleError, StoreError
from dgate.rules.lua.api import Context, Function, Library, Method

_SHELL: Final = frozenset("|&;<>`$*?()\n")
"""What only a shell would act on, outside quotation marks."""


def _make_folder(context: Context) -> Function:
    def mkdir(path: object) -> None:
        context.env.files.make_folder(context.text(path, "the folder"))

    return mkdir


def _temporary(context: Context) -> Function:
    def tempfile(extension: object = "") -> str:
        end = "" if extension is None else context.text(extension, "the extension")
        if "/" in end or "\0" in end:
            raise RuleError("the extension of a temporary file must not name a folder")
        return str(context.env.files.temporary(end))

    return tempfile


def split_command(text: str) -> list[str]:
    """Split a command line at blanks; quotation marks hold words together.

    Raises RuleError for what would need a shell, which there is none (rulings.md 11).
    """
    try:
        lexer = shlex.shlex(text, posix=True)
        lexer.whitespace_split = True
        lexer.commenters = ""
        lexer.escape = ""
        words = list(lexer)
    except ValueError as exc:
        raise RuleError(f"the command line cannot be split: {exc}") from exc
    bare = _outside_quotes(text)
    found = next((char for char in bare if char in _SHELL), "")
    if found:
        raise RuleError(
            f"programs run without a shell, which {found!r} would need",
            remedy="put it in a script file and start that, with the values as its arguments",
        )
    return words


def _outside_quotes(text: str) -> str:
    kept = []
    quote = ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        else:
            kept.append(char)
    return "".join(kept)


def run_program(context: Context) -> Function:
    """Return `system` and `os.execute`: a command line, or a table of program and arguments.

    Only the table keeps a value one argument, whatever blanks or quotes it holds.
    """

    def system(command: object) -> int:
        if context.is_table(command):
            values = context.values(command)
            arguments = [context.text(value, "an argument") for value in values]
            if not arguments or not arguments[0]:
                raise RuleError("the program is missing")
        else:
            arguments = split_command(context.text(command, "the command"))
        with context.waiting():
            return context.env.programs.run(arguments)

    return system


def _read(context: Context) -> Function:
    def read(given: object, name: object = None) -> int:
        handle = context.object(given)
        found = context.env.archive.load(context.text(name, "the name"))
        table = handle.table
        table.replace(found.buffer, found.syntax)
        handle.take_table(table)
        handle.touch()
        return 1

    return read


def _write(context: Context) -> Function:
    def write(given: object, name: object = None) -> None:
        table = context.object(given).table
        file = context.text(name, "the file")
        is_raw = file.lower().endswith(".v2")
        context.env.files.save(file, _raw(table) if is_raw else _part10(table))

    return write


def _part10(table: ElementTable) -> Iterator[bytes | memoryview]:
    yield file_meta(table.text(SOP_CLASS_UID), table.text(SOP_INSTANCE_UID), table.syntax)
    yield from table.parts()


def _raw(table: ElementTable) -> list[bytes | memoryview]:
    """Return the object as the old raw format has it: implicit VR, no head."""
    try:
        return [convert(table.tobytes(), table.syntax, IMPLICIT_LE)]
    except StoreError as exc:
        raise RuleError(f"the object cannot be written as .v2: {exc}") from exc


def _dump(context: Context) -> Function:
    def dump(given: object, name: object = None) -> None:
        text = listing(context.object(given).table)
        file = context.text(name, "the file")
        context.env.files.write(file, text.encode("utf-8", "surrogateescape"))

    return dump


def _add_image(context: Context) -> Function:
    def add_image(given: object, *_: object) -> None:
        context.env.archive.add(context.object(given).table)

    return add_image


LIBRARY: Final = Library(
    functions={"mkdir": _make_folder, "tempfile": _temporary, "system": run_program},
    methods={
        "Read": Method(_read, "readdicom"),
        "Write": Method(_write, "writedicom"),
        "Dump": Method(_dump, "writeheader"),
        "AddImage": Method(_add_image, "addimage"),
    },
)
