"""Functions for the course of a rule: `destroy reject retry script sleep`...

Spec lua-api.md 5.1; `print` is in `prelude.lua`.
"""

from __future__ import annotations

import time
from typing import Final

from dgate.rules.lua.api import Context, Function, Library, Method
from dgate.rules.lua.objects import ObjectHandle
from dgate.rules.run import DESTROY, REJECT


def _destroy(context: Context) -> Function:
    return lambda *ignored: context.decide(DESTROY, "destroy")


def _reject(context: Context) -> Function:
    return lambda *ignored: context.decide(REJECT, "reject")


def _retry(context: Context) -> Function:
    def retry(*ignored: object) -> None:
        context.run.retry = True

    return retry


def _script(context: Context) -> Function:
    def script(handle: ObjectHandle, code: object = None) -> None:
        context.script(context.text(code, "the script"), handle)

    return script


def _sleep(context: Context) -> Function:
    def sleep(milliseconds: object = 0) -> None:
        context.sleep(max(0, context.integer(milliseconds)) / 1000)

    return sleep


def _tickcount(context: Context) -> Function:
    return lambda *ignored: int(time.monotonic() * 1000)


def _heapinfo(context: Context) -> Function:
    return lambda *ignored: f"Lua memory: {context.used_bytes() // 1024} kB"


LIBRARY: Final = Library(
    functions={
        "destroy": _destroy,
        "reject": _reject,
        "retry": _retry,
        "sleep": _sleep,
        "tickcount": _tickcount,
        "heapinfo": _heapinfo,
    },
    methods={"Script": Method(_script, "script")},
)
