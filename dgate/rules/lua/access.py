"""What the indexing of objects, arrays, `Global` and `Association` in Lua comes down to.

Called by `prelude.lua` only, in two forms: SINGLE returns one value, so that reading an element is
cheap, GUARDED several.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final

from dgate.errors import RuleError
from dgate.rules.lua.api import Context, Factory, Function, decoded, encoded
from dgate.rules.lua.objects import (
    ArrayHandle,
    ObjectHandle,
    is_other_object,
    read_path,
    tag_of_key,
    write_path,
)
from dgate.rules.tokens import Descriptor
from dgate.rules.values import compile_descriptor

log = logging.getLogger("dgate.lua")

_DEVICE = re.compile(r"MAG[0-9]{1,4}")
_STORAGE: Final = "Storage"


def _get(context: Context) -> Function:
    def get(handle: object, key: object) -> object:
        if not isinstance(handle, ObjectHandle) or handle.is_freed:
            return None
        if not isinstance(key, str):
            return None
        tag = tag_of_key(key)
        if tag is not None:
            return handle.value(tag)
        if key == _STORAGE:
            return context.run.device if handle is context.data else None
        if "/" in key or key.startswith("*"):
            return read_path(handle, key)
        if is_other_object(key) and handle is context.data:
            _ = handle.table
            return encoded(compile_descriptor(Descriptor(decoded(key)))(context.run)) or None
        return None

    return get


def _set(context: Context) -> Function:
    def set_element(
        handle: object, key: object, value: str | None, is_table: bool = False
    ) -> object:
        if not isinstance(handle, ObjectHandle):
            raise RuleError("the object was freed")
        if not isinstance(key, str):
            raise RuleError("an element is named by a string")
        if key == _STORAGE and handle is context.data and not is_table:
            _choose_device(context, value)
            return None
        tag = tag_of_key(key)
        if value is not None:
            text = decoded(value)
            if tag is not None:
                handle.set_text(tag, text)
            elif "/" in key:
                write_path(handle, key, text)
        elif tag is not None and is_table:
            handle.begin_sequence(tag)
        elif tag is not None:
            handle.delete(tag)
        return None

    return set_element


def _choose_device(context: Context, value: str | None) -> None:
    name = (value or "").strip().upper()
    if value is not None and not _DEVICE.fullmatch(name):
        raise RuleError(f"{name[:40]!r} is not a device", remedy="write MAG0")
    context.run.device = name or None


def _at(context: Context) -> Function:
    def at(handle: object, number: int) -> ObjectHandle | None:
        return handle.at(number) if isinstance(handle, ArrayHandle) else None

    return at


def _size(context: Context) -> Function:
    def size(handle: object) -> int:
        return len(handle.items) if isinstance(handle, ArrayHandle) else 0

    return size


def _begin(context: Context) -> Function:
    def begin(handle: object) -> None:
        if isinstance(handle, ArrayHandle) and not handle.items:
            handle.add_empty()

    return begin


def _association(context: Context) -> Function:
    def association(name: object) -> str | int | None:
        session, captured = context.session, context.run.captured
        if name == "Calling":
            return session.calling or captured.calling
        if name == "Called":
            return session.called or captured.called
        if name == "Thread":
            return session.number
        if name == "ConnectedIP":
            return session.peer or "0.0.0.0"
        return None

    return association


def _setting(context: Context) -> Function:
    def setting(name: object) -> str | int | float | None:
        return context.env.server.value(context.text(name, "the name"))

    return setting


def _change(context: Context) -> Function:
    def change(name: object, value: object) -> None:
        text = "" if value is None else context.text(value, "the value of a setting")
        context.env.server.change(context.text(name, "the name"), text)

    return change


def _say(context: Context) -> Function:
    return lambda text: log.info("%s", decoded(text))


def _say_debug(context: Context) -> Function:
    return lambda text: log.debug("%s", decoded(text))


SINGLE: Final[Mapping[str, Factory]] = {
    "get": _get,
    "set": _set,
    "at": _at,
    "size": _size,
    "begin": _begin,
}
GUARDED: Final[Mapping[str, Factory]] = {
    "association": _association,
    "setting": _setting,
    "change": _change,
    "say": _say,
    "say_debug": _say_debug,
}
