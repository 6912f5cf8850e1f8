"""`Data:Deidentify(options)`, `deidentify(options)`: the statement `deidentify` for scripts.

The options are the words of the statement; without any, `profile basic`. Files that they name are
read as other files of scripts are (rulings.md 11).
"""

from __future__ import annotations

from typing import Final

from dgate.dicom.deidentify import Deidentifier
from dgate.errors import RuleError, Unsafe
from dgate.rules.lua.api import Context, Function, Library, Method
from dgate.rules.lua.objects import ObjectHandle
from dgate.rules.statements.deidentify import Request, deidentify, parse_request
from dgate.rules.syntax import ParseError, Text

_BASIC = "profile basic"
_KEPT_READY = 16
"""Profiles that a state keeps; to make one takes some milliseconds."""


class _ScriptFiles:
    """The text files of a request, by way of the files that scripts may use."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def text(self, name: str) -> str | None:
        """Return the text of a file; raises RuleError where it cannot be read."""
        content = self._context.env.files.read(name)
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return content.decode("latin-1")


def _deidentify(context: Context) -> Function:
    ready: dict[str, tuple[Request, Deidentifier]] = {}

    def prepared(options: str) -> tuple[Request, Deidentifier]:
        found = ready.get(options)
        if found is None:
            try:
                request = parse_request(Text.whole(options))
            except ParseError as exc:
                raise Unsafe(
                    f"deidentify: {exc.what}, at character {exc.column} of the options",
                    remedy=exc.remedy,
                ) from exc
            found = request, Deidentifier(request.profile(_ScriptFiles(context)))
            if len(ready) < _KEPT_READY:
                ready[options] = found
        return found

    def run(handle: ObjectHandle, options: object = None) -> None:
        text = _BASIC if options is None else context.text(options, "the options")
        try:
            request, deidentifier = prepared(text)
        except RuleError as exc:
            raise Unsafe(exc.what, where=exc.where, remedy=exc.remedy) from exc
        table = handle.table
        deidentify(deidentifier, request, table, context.env.deidentification)
        handle.touch()

    return run


LIBRARY: Final = Library(methods={"Deidentify": Method(_deidentify, "deidentify")})
