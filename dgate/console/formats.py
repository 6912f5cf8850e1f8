"""The formats of server commands (`%s`, `%-20s`, `%d`), filled in without C's printf.

Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLACE = re.compile(r"%(?P<flags>[-0]?)(?P<width>[0-9]{0,4})(?:\.(?P<most>[0-9]{1,4}))?l?[sdiu]|%%")
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\"}
_ESCAPE = re.compile(r"\\[ntr\\]")


def formatted(form: str, values: Sequence[str]) -> str:
    r"""Return a format with its places filled in, one value for each; `\n` is a line end.

    Values that are missing are empty, places are never more than text.
    """
    rest = iter(values)

    def filled(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value = next(rest, "")
        if match["most"]:
            value = value[: int(match["most"])]
        width = int(match["width"] or 0)
        return value.ljust(width) if match["flags"] == "-" else value.rjust(width)

    text = _ESCAPE.sub(lambda match: _ESCAPES[match[0]], form)
    return _PLACE.sub(filled, text)
