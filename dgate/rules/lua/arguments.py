"""Checks of what Lua code hands to functions of Python."""

from __future__ import annotations

from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.lua.api import Value
from dgate.rules.lua.objects import ArrayHandle, ObjectHandle
from dgate.rules.lua.runtime import name_of, type_of


class Arguments:
    """Checks of arguments; see `dgate.rules.lua.api.Context` for what each of them does."""

    def raw(self, value: Value, what: str = "the argument") -> bytes:
        if isinstance(value, str):
            return value.encode("latin-1")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"{value:.14g}".encode()
        raise RuleError(f"{what} must be a string, not {name_of(value)}")

    def text(self, value: Value, what: str = "the argument") -> str:
        return self.raw(value, what).decode("utf-8", "surrogateescape")

    def integer(self, value: Value, what: str = "the argument") -> int:
        try:
            number = float(value) if isinstance(value, str) else value
            if isinstance(number, int | float) and not isinstance(number, bool):
                return int(number)
        except (ValueError, OverflowError):
            pass  # What is no number is told below.
        raise RuleError(f"{what} must be a number, not {name_of(value)}")

    def object(self, value: Value, what: str = "the argument") -> ObjectHandle:
        if not isinstance(value, ObjectHandle):
            raise RuleError(f"{what} must be a DicomObject, not {name_of(value)}")
        _ = value.table
        return value

    def tables(self, value: Value, what: str = "the argument") -> list[ElementTable]:
        if isinstance(value, ArrayHandle):
            return [item.table for item in value.items]
        if isinstance(value, ObjectHandle):
            return [value.table]
        raise RuleError(f"{what} must be a DicomObject or DicomArray, not {name_of(value)}")

    def is_table(self, value: Value) -> bool:
        return type_of(value) == "table"
