"""Lua functions for files and programs: `readdicom`, `writedicom`, `tempfile`, `system`...

File names mean what they mean to rules (rulings.md 11). The functions belong to the thread that
runs the Lua state.
"""

from __future__ import annotations

from typing import Final

from dgate.dicom.listing import listing
from dgate.errors import RuleError
from dgate.rules.lua.api import Context, Function, Library, Method
from dgate.rules.objectfiles import file_parts
from dgate.rules.statements.commands import split_command


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
        calling = context.run.captured.calling if table is context.run.table else ""
        context.env.files.save(file, file_parts(table, file, calling))

    return write


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
