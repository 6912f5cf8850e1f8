"""The forms in which Lua calls functions of Python: they never raise, and hand over what fits.

A bridge belongs to one Lua state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from dgate.dicom.table import ElementTable
from dgate.errors import DgateError, RuleError
from dgate.rules.lua.api import Function
from dgate.rules.lua.objects import ArrayHandle, Holdings, ObjectHandle
from dgate.rules.lua.runtime import FAILURES, Failure, message_of, plain, size_of
from dgate.rules.lua.text import decoded, utf8

log = logging.getLogger("dgate.lua")

_SMALL_BYTES: Final = 16 << 10


class Bridge:
    """Makes functions of Python fit for Lua."""

    def __init__(self, require: Callable[[int], None], holdings: Holdings) -> None:
        """`require` raises RuleError unless Lua has room for so many bytes."""
        self._require = require
        self._holdings = holdings
        self.failure: DgateError | None = None
        """The last error that a function has raised, whether a script caught it or not."""

    def guarded(self, function: Function) -> Callable[..., tuple[Any, ...]]:
        """Return the form of a function that Lua calls: it never raises."""

        def call(*arguments: Any) -> tuple[Any, ...]:
            try:
                return self._handed(function(*arguments))
            except Exception as exc:
                return (0, self._failed(function, exc))

        return call

    def single(self, function: Function) -> Callable[..., Any]:
        """Return the form of a function that returns one value, a view, or a failure."""

        def call(*arguments: Any) -> Any:
            try:
                value = function(*arguments)
                if isinstance(value, bytes) and len(value) > _SMALL_BYTES:
                    self._require(len(value))
                return value
            except Exception as exc:
                return Failure(self._failed(function, exc))

        return call

    def _handed(self, value: object) -> tuple[Any, ...]:
        if value is None:
            return (1,)
        if isinstance(value, tuple):
            if any(isinstance(part, ObjectHandle | ArrayHandle) for part in value):
                raise TypeError("an object is returned alone")
            self._require(sum([size_of(part) for part in value]))
            return (1, *[plain(part) for part in value])
        if isinstance(value, ElementTable):
            value = ObjectHandle(value, holdings=self._holdings)
        elif isinstance(value, list):
            items = [ObjectHandle(table, holdings=self._holdings) for table in value]
            value = ArrayHandle(items=items)
        if isinstance(value, ObjectHandle | ArrayHandle):
            return (value.kind, value)
        if size_of(value) > _SMALL_BYTES:
            self._require(size_of(value))
        return (1, plain(value))

    def _failed(self, function: Function, exc: Exception) -> bytes:
        """Return the message of an error that a function has raised, and remember the error."""
        if isinstance(exc, DgateError):
            self.failure = exc
            message = exc.what
        elif isinstance(exc, FAILURES):
            message = decoded(message_of(exc))
        elif isinstance(exc, TypeError) and _is_call(exc):
            message = "wrong number of arguments"
        else:
            log.error("A function of Lua failed by an error of dgate itself.", exc_info=exc)
            message = "internal error, see the log"
        return utf8(message)


def on_handle(kind: type[ObjectHandle | ArrayHandle], name: str, method: Function) -> Function:
    """Return a method with a check that it is called on something that has it."""

    def call(*arguments: Any) -> Any:
        if not arguments or not isinstance(arguments[0], kind):
            raise RuleError(f"{name} is a method: write object:{name}(...)")
        return method(*arguments)

    return call


def _is_call(exc: TypeError) -> bool:
    """Tell whether a function was called with arguments that it does not take."""
    depth = 0
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
        depth += 1
    return depth > 0 and traceback is None
