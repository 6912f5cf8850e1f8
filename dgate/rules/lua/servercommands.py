"""Lua functions that ask the server itself: `servercommand`, `get_amap`, `gpps`.

The functions belong to the thread that runs the Lua state.
"""

from __future__ import annotations

from typing import Final

from dgate.errors import RuleError
from dgate.rules.actions import APART
from dgate.rules.lua.api import Context, Factory, Function, Library

_WEB: Final = frozenset(("cgi", "cgibinary", "cgihtml"))


def _server_command(context: Context) -> Function:
    def servercommand(command: object, mode: object = None) -> bytes | None:
        text = _command_of(context, command)
        how = "" if mode is None else context.text(mode, "the mode").strip()
        if how in _WEB:
            raise RuleError(
                f"servercommand(..., '{how}') is not offered: there is no web page to write into",
                remedy="use the returned value",
            )
        files, server = context.env.files, context.env.server
        upload = files.read(how[1:]) if how.startswith("<") else b""
        response = server.command(text, upload)
        if response is None:
            return None
        if how.startswith(">"):
            files.write(how[1:], response)
            return None
        if how != "binary" and response[-1:] in (b" ", b"\0"):
            response = response[:-1]
        return response

    return servercommand


def _command_of(context: Context, command: object) -> str:
    """Return a command as the server takes it: a text, or a table of its name and its arguments.

    Only in the table a value stays one argument, whatever commas and colons it has.
    """
    if not context.is_table(command):
        text = context.text(command, "the command")
        if APART in text:
            raise RuleError("the command has a control character", remedy="give it as a table")
        return text
    name, *arguments = [context.text(each, "an argument") for each in context.values(command)] or [
        ""
    ]
    if any(APART in each for each in arguments):
        raise RuleError("an argument of the command has a control character")
    return f"{name}:" + "".join(f"{APART}{each}" for each in arguments)


def _node(context: Context) -> Function:
    def get_amap(number: object) -> object:
        return context.env.server.node(context.integer(number, "the number"))

    return get_amap


def _setting(context: Context) -> Function:
    def gpps(section: object, key: object, default: object = "") -> str:
        return context.env.server.setting(
            context.text(section, "the section"),
            context.text(key, "the key"),
            "" if default is None else context.text(default, "the default"),
        )

    return gpps


def _of_web_pages(name: str) -> Factory:
    def factory(context: Context) -> Function:
        def refuse(*_: object) -> None:
            raise RuleError(
                f"{name} works in web pages only, which dgate does not run",
                remedy="return the text from the script, or write a file with io.open",
            )

        return refuse

    return factory


LIBRARY: Final = Library(
    functions={
        "servercommand": _server_command,
        "get_amap": _node,
        "gpps": _setting,
        "HTML": _of_web_pages("HTML"),
        "CGI": _of_web_pages("CGI"),
    }
)
