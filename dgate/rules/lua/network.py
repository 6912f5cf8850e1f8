"""Lua functions for DICOM services: `dicomquery`, `dicommove`, `dicomstore`... (lua-api.md 5.5).

All wait for the other node. The functions belong to the thread that runs the Lua state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dgate.dicom.element import tag_of
from dgate.dicom.table import ElementTable
from dgate.rules.actions import MoveProgress, StoreAnswer
from dgate.rules.lua.api import Context, Factory, Function, Library, ObjectHandle
from dgate.rules.lua.objects import new_table

_STATUS: Final = 0x00000900
_SOP_INSTANCE: Final = 0x00001000
_KEYS: Final = tuple(
    tag
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    if (tag := tag_of(keyword)) is not None
)


def _query(context: Context) -> Function:
    def dicomquery(node: object, level: object, query: object) -> object:
        title, at = context.text(node, "the AE title"), context.text(level, "the level")
        table = context.object(query, "the query").table
        with context.waiting():
            return context.env.peers.find(title, at, table)

    return dicomquery


def _get(context: Context) -> Function:
    def dicomget(node: object, level: object, query: object) -> object:
        title, at = context.text(node, "the AE title"), context.text(level, "the level")
        table = context.object(query, "the query").table
        with context.waiting():
            return context.env.peers.get(title, at, table)

    return dicomget


def _move(context: Context) -> Function:
    def dicommove(
        source: object,
        destination: object,
        query: object,
        patient_root: object = 0,
        extra: object = None,
    ) -> str | None:
        with context.waiting():
            problem = context.env.peers.move(
                context.text(source, "the source"),
                context.text(destination, "the destination"),
                context.object(query, "the query").table,
                patient_root=_is_set(context, patient_root),
                extra=extra.table if isinstance(extra, ObjectHandle) else None,
                progress=_progress(context, extra),
            )
        return problem or None

    return dicommove


def _is_set(context: Context, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    return context.integer(value, "the root") != 0


def _progress(context: Context, extra: object) -> MoveProgress | None:
    """Return what follows a C-MOVE: it says how far it is, and runs the code that was given."""
    code = context.raw(extra) if isinstance(extra, str) else b""

    def tell(done: int, total: int) -> None:
        text = f"dicommove: {done} of {total} images transferred"
        context.env.server.change("StatusString", text)
        if code:
            context.execute(code, "dicommove")

    return tell


def _read(context: Context) -> Function:
    def dicomread(query: object, header_bytes: object = 0) -> list[ElementTable]:
        limit = 0 if header_bytes is None else context.integer(header_bytes, "the limit")
        table = context.object(query, "the query").table
        return list(context.env.archive.read(table, limit))

    return dicomread


def _store(context: Context) -> Function:
    def dicomstore(node: object, objects: object) -> object:
        title, tables = context.text(node, "the AE title"), context.tables(objects, "the objects")
        with context.waiting():
            answers = context.env.peers.store(title, tables)
        if isinstance(answers, str):
            return answers
        return [_response(answer) for answer in answers]

    return dicomstore


def _response(answer: StoreAnswer) -> ElementTable:
    """Return an answer as a command object; an empty one where nothing could be sent."""
    table = new_table()
    if answer.status is not None:
        table.set_raw(_STATUS, "US", answer.status.to_bytes(2, "little"))
        table.set_raw(_SOP_INSTANCE, "UI", answer.sop_instance.encode("ascii", "replace"))
    return table


def _echo(context: Context) -> Function:
    def dicomecho(node: object, extra: object = None) -> object:
        title = context.text(node, "the AE title")
        table = None if extra is None else context.object(extra, "the extra elements").table
        with context.waiting():
            return context.env.peers.echo(title, table)

    return dicomecho


def _print(context: Context) -> Function:
    def dicomprint(
        objects: object,
        node: object,
        annotation: object = "",
        options: object = "",
        callback: object = None,
    ) -> str | None:
        """Code in `callback` runs after each image; a function is accepted and never called."""
        images = context.tables(objects, "the images")
        code = context.raw(callback) if isinstance(callback, str) else b""
        with context.waiting():
            done = context.env.peers.print_films(
                context.text(node, "the AE title"),
                images,
                "" if annotation is None else context.text(annotation, "the annotation"),
                "" if options is None else context.text(options, "the options"),
                (lambda: _run(context, code)) if code else None,
            )
        return None if done else "Failed to print DICOM image(s)"

    return dicomprint


def _run(context: Context, code: bytes) -> None:
    context.execute(code, "dicomprint")


def _delete(context: Context) -> Function:
    def dicomdelete(query: object) -> bool:
        context.env.archive.delete(context.object(query, "the object").table)
        return True

    return dicomdelete


def _with_four_keys(work: Callable[[Context, ElementTable, str], object]) -> Factory:
    """Return the factory of an operation that needs all four keys, if empty, to be there."""

    def factory(context: Context) -> Function:
        def operate(query: object, script: object = "", *_: object) -> object:
            table = context.object(query, "the object").table
            if not all(tag in table for tag in _KEYS):
                return None
            text = "" if script is None else context.text(script, "the script")
            return work(context, table, text)

        return operate

    return factory


def _new_delete(context: Context, query: ElementTable, _: str) -> None:
    context.env.archive.delete(query)


def _new_modify(context: Context, query: ElementTable, script: str) -> None:
    context.env.archive.modify(query, script, copy=False)


def _new_copy(context: Context, query: ElementTable, script: str) -> None:
    context.env.archive.modify(query, script, copy=True)


LIBRARY: Final = Library(
    functions={
        "dicomquery": _query,
        "dicomquery2": _query,
        "dicomget": _get,
        "dicommove": _move,
        "dicomread": _read,
        "dicomstore": _store,
        "dicomecho": _echo,
        "dicomprint": _print,
        "dicomdelete": _delete,
        "newdicomdelete": _with_four_keys(_new_delete),
        "newdicommodify": _with_four_keys(_new_modify),
        "newdicomcopy": _with_four_keys(_new_copy),
    }
)
