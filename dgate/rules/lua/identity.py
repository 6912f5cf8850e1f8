"""Lua functions for identities and the dictionary: `changeuid`, `genuid`, `crc`, `md5`...

`crc` and `md5` are those of the original, which existing mappings are made of (spec L16); the
standard ones have names of their own. The functions belong to the thread that runs the Lua state.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Final

from dgate.dicom.digest import old_digest
from dgate.dicom.element import keyword_of, tag_of
from dgate.rules.lua.api import Context, Factory, Function, Library

_KIND: Final = "lua"
"""Type of a mapping that a script makes."""


def old_crc(data: bytes) -> str:
    """Return the CRC-32 of `%A`: without the final inversion, in decimal."""
    return str(zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF)


def _dictionary(context: Context) -> Function:
    def dictionary(first: object, second: object = None) -> object:
        if second is None:
            tag = tag_of(context.text(first, "the keyword"))
            return None if tag is None else (tag >> 16, tag & 0xFFFF)
        group = context.integer(first, "the group")
        number = context.integer(second, "the element")
        if not (0 <= group <= 0xFFFF and 0 <= number <= 0xFFFF):
            return None
        return keyword_of(group << 16 | number) or None

    return dictionary


def _new_uid(context: Context) -> Function:
    def genuid(*_: object) -> str:
        return context.env.new_uid()

    return genuid


def _change_uid(context: Context) -> Function:
    def changeuid(
        old: object, new: object = "", stage: object = "", kind: object = _KIND
    ) -> str | None:
        proposal = context.text(new, "the new value")
        name = _optional(context, stage, "", "the stage")
        if name.startswith("#") and proposal:
            # A hash cannot be chosen.
            return None
        value = context.text(old, "the value")
        return context.env.uids.forward(
            value, name, _optional(context, kind, _KIND, "the type"), proposal
        )

    return changeuid


def _change_uid_back(context: Context) -> Function:
    def changeuidback(new: object, stage: object = "", kind: object = "") -> str | None:
        return context.env.uids.back(
            context.text(new, "the value"),
            _optional(context, stage, "", "the stage"),
            _optional(context, kind, "", "the type"),
        )

    return changeuidback


def _optional(context: Context, value: object, default: str, what: str) -> str:
    return default if value is None else context.text(value, what)


def _of_bytes(made: Callable[[bytes], str]) -> Factory:
    """Return the factory of a function that makes a text of a string."""

    def factory(context: Context) -> Function:
        return lambda value: made(context.raw(value))

    return factory


LIBRARY: Final = Library(
    functions={
        "dictionary": _dictionary,
        "genuid": _new_uid,
        "changeuid": _change_uid,
        "changeuidback": _change_uid_back,
        "crc": _of_bytes(old_crc),
        "md5": _of_bytes(lambda data: old_digest(data).hex()),
        "crc32": _of_bytes(lambda data: str(zlib.crc32(data))),
        "md5sum": _of_bytes(lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest()),
        "sha256": _of_bytes(lambda data: hashlib.sha256(data).hexdigest()),
    }
)
