"""How many files the process may have open: as many as the system allows it.

Not for what happens when they are used up. Called once, by the thread that starts the server.
"""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

_BASE = 128
"""Libraries, log, database, control socket, deliveries."""
_PER_ASSOCIATION = 3
"""Connection, file of the object that arrives, and one more while it is stored."""
_ENOUGH = 65536
"""More than that is never asked for: `infinity` makes programs slow that close all of them."""


def allow_open_files(associations: int) -> int:
    """Raise the soft limit of this process, and warn where it may still not be enough.

    Returns the limit that counts now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _BASE + _PER_ASSOCIATION * associations
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, max(_ENOUGH, wanted))
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        except (OSError, ValueError) as exc:
            log.debug("The limit of open files stays at %d: %s", soft, exc)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        log.warning(
            "The process may have %d files open, but %d associations can need %d: raise the limit "
            "(LimitNOFILE in the service file, or ulimit -n), or lower MaxAssociations.",
            soft,
            associations,
            wanted,
        )
    return soft
