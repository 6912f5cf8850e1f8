"""The server as its own scripts see it: `Global`, `gpps`, `get_amap` and `servercommand`.

Part of the composition root, because the commands of the original reach into every room. None of
them is offered to the network: only scripts and programs of this machine get here.
"""

from __future__ import annotations

from dgate.console.opening import open_console
from dgate.console.server import Console

__all__ = ["Console", "open_console"]
