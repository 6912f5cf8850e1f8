"""The libraries that every Lua state has; one line for each module (see `dgate.rules.lua.api`)."""

from __future__ import annotations

from typing import Final

from dgate.rules.lua import (
    binary,
    core,
    database,
    deidentify,
    elements,
    files,
    identity,
    network,
    pack,
    pixels,
    serial,
    servercommands,
    system,
)
from dgate.rules.lua.api import Library

LIBRARIES: Final[tuple[Library, ...]] = (
    core.LIBRARY,
    elements.LIBRARY,
    identity.LIBRARY,
    deidentify.LIBRARY,
    database.LIBRARY,
    files.LIBRARY,
    network.LIBRARY,
    servercommands.LIBRARY,
    serial.LIBRARY,
    pixels.LIBRARY,
    pack.LIBRARY,
    binary.LIBRARY,
    system.LIBRARY,
)
"""In the order in which they are put into a state."""
