"""Methods on whole objects and on single elements by number: `GetVR SetVR ListItems Copy`...

Spec lua-api.md 4.6 and 4.7, without files, pixels and text forms, which have modules of their own.
"""

from __future__ import annotations

import struct
from typing import Final

from dgate.dicom import element
from dgate.dicom.element import keyword_of, vr_of
from dgate.dicom.table import PIXEL_DATA, ElementTable
from dgate.dicom.uids import transfer_syntax
from dgate.errors import RuleError
from dgate.rules.lua.api import Context, Function, Library, LuaTable, Method
from dgate.rules.lua.jsonform import read_json, read_json_items
from dgate.rules.lua.objects import ArrayHandle, ObjectHandle, new_table, tag_of_key

_SEPARATOR = "|"
_AS_NUMBERS: Final = {
    "US": "US", "SS": "SS", "UL": "UL", "SL": "SL", "FL": "FL", "FD": "FD", "OF": "OF",
    "OW": "SS", "OD": "OD", "OL": "UL", "UV": "UV", "SV": "SV",
}  # fmt: skip
"""The VR as which the values of a VR are read; all others are numbers of one byte."""
_FORMATS: Final = {
    "US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "OF": "f", "OD": "d",
    "UV": "Q", "SV": "q",
}  # fmt: skip
_BITS: Final = {"H": 16, "h": 16, "L": 32, "l": 32, "Q": 64, "q": 64}


def _tag(context: Context, group: object, number: object) -> int:
    high, low = context.integer(group, "the group"), context.integer(number, "the element")
    if not (0 <= high <= 0xFFFF and 0 <= low <= 0xFFFF):
        raise RuleError(f"{high}, {low} is not a tag: group and element go up to 65535")
    return high << 16 | low


def _get_vr(context: Context) -> Function:
    def get_vr(
        handle: ObjectHandle, group: object = None, number: object = None, as_string: object = None
    ) -> LuaTable | bytes | ArrayHandle | None:
        tag = _tag(context, group, number)
        table = handle.table
        if tag not in table:
            return None
        if table.is_sequence(tag):
            return handle.sequence(tag)
        raw = table.raw(tag) or b""
        if as_string:
            return raw
        vr = _AS_NUMBERS.get(vr_of(tag))
        if vr is None:
            return context.sequence(raw)
        numbers = element.numbers_of(vr, raw, little_endian=table.little_endian)
        return context.sequence(numbers)

    return get_vr


def _set_vr(context: Context) -> Function:
    def set_vr(
        handle: ObjectHandle, group: object = None, number: object = None, value: object = None
    ) -> None:
        tag = _tag(context, group, number)
        table = handle.table
        vr = _vr_to_set(table, tag)
        if isinstance(value, ArrayHandle):
            tables = context.tables(value)
            context.charge(sum([each.size for each in tables]))
            handle.set_items(tag, tables)
        elif context.is_table(value):
            numbers = context.values(value)
            handle.set_raw(tag, vr, _packed(vr_of(tag), numbers, table.little_endian))
        elif vr == "SQ":
            handle.set_items(tag, read_json_items(table, context.text(value, "the value")))
        else:
            handle.set_raw(tag, vr, context.raw(value, "the value"))

    return set_vr


def _vr_to_set(table: ElementTable, tag: int) -> str:
    if tag == PIXEL_DATA and transfer_syntax(table.syntax).encapsulated:
        raise RuleError(
            "the pixels are compressed, so SetVR cannot set them",
            remedy="decompress the object first: Data = Data:Compress('un')",
        )
    return table.reading_vr(tag)


def _packed(vr: str, numbers: list[object], little_endian: bool) -> bytes:
    """Return numbers as the VR holds them; what is too large for it loses its upper bits."""
    form = _FORMATS.get(_AS_NUMBERS.get(vr, ""), "B")
    whole: list[int | float] = []
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise RuleError("a table for SetVR holds numbers only")
        whole.append(number if form in "fd" else _wrapped(int(number), form))
    order = "<" if little_endian else ">"
    try:
        return struct.pack(f"{order}{len(whole)}{form}", *whole)
    except (struct.error, OverflowError) as exc:
        raise RuleError(f"the numbers do not fit into VR {vr}: {exc}") from exc


def _wrapped(number: int, form: str) -> int:
    bits = _BITS.get(form, 8)
    number &= (1 << bits) - 1
    return number - (1 << bits) if form.islower() and number >> (bits - 1) else number


def _list_items(context: Context) -> Function:
    def list_items(handle: ObjectHandle) -> tuple[str, str, str, str]:
        table = handle.table
        tags = table.tags()
        return (
            _SEPARATOR.join([keyword_of(tag) for tag in tags]),
            _SEPARATOR.join([table.reading_vr(tag) for tag in tags]),
            _SEPARATOR.join([str(tag >> 16) for tag in tags]),
            _SEPARATOR.join([str(tag & 0xFFFF) for tag in tags]),
        )

    return list_items


def _reset(context: Context) -> Function:
    def reset(handle: ObjectHandle) -> None:
        table = handle.table
        for tag in table.tags():
            table.delete(tag)
        handle.touch()

    return reset


def _copy(context: Context) -> Function:
    def copy(handle: ObjectHandle, json: object = None) -> ElementTable:
        table = handle.table
        made = ElementTable(table.tobytes(), table.syntax)
        if json is not None:
            read_json(made, context.text(json, "the JSON text"))
        return made

    return copy


def _new(context: Context) -> Function:
    def new(handle: ObjectHandle | None = None, json: object = None) -> ElementTable:
        table = new_table()
        if json is not None:
            read_json(table, context.text(json, "the JSON text"))
        return table

    return new


def _new_object(context: Context) -> Function:
    new = _new(context)
    return lambda json=None: new(None, json)


def _new_array(context: Context) -> Function:
    return lambda *ignored: ArrayHandle()


def _free(context: Context) -> Function:
    def free(handle: object = None) -> None:
        if isinstance(handle, ArrayHandle) and handle.owner is None:
            for item in handle.items:
                item.release()
        elif isinstance(handle, ObjectHandle) and handle.array is None and not handle.is_data:
            handle.release()

    return free


def _delete_from_sequence(context: Context) -> Function:
    def delete(handle: ObjectHandle, name: object = None, number: object = None) -> None:
        tag = tag_of_key(context.text(name, "the name of the sequence"))
        if tag is None or vr_of(tag) != "SQ":
            raise RuleError(f"{name} is not a sequence")
        handle.sequence(tag).remove(context.integer(number, "the number of the item"))

    return delete


def _add(context: Context) -> Function:
    def add(array: ArrayHandle, value: object = None) -> None:
        for table in context.tables(value, "what is added"):
            context.charge(table.size)
            array.add(table, context.holdings)

    return add


def _remove(context: Context) -> Function:
    def remove(array: ArrayHandle, number: object = None) -> None:
        array.remove(context.integer(number, "the number of the item"))

    return remove


LIBRARY: Final = Library(
    functions={
        "newdicomobject": _new_object,
        "newdicomarray": _new_array,
        "deletedicomobject": _free,
    },
    methods={
        "new": Method(_new),
        "newarray": Method(_new_array),
        "free": Method(_free),
        "Reset": Method(_reset, "resetdicom"),
        "Copy": Method(_copy, "copydicom"),
        "ListItems": Method(_list_items, "listitems"),
        "GetVR": Method(_get_vr, "getvr"),
        "SetVR": Method(_set_vr, "setvr"),
        "DeleteFromSequence": Method(_delete_from_sequence),
    },
    array_methods={
        "Add": Method(_add),
        "Delete": Method(_remove),
        "free": Method(_free),
    },
)
