"""Verification service class: C-ECHO (PS3.4 annex A)."""

from __future__ import annotations

import logging

from dgate.net import Association, Message

log = logging.getLogger(__name__)


def answer_echo(association: Association, message: Message) -> None:
    """Answer success. Commands inside a C-ECHO are never looked at (rulings.md 15)."""
    if message.command.extra:
        log.warning(
            "%s at %s sent a server command in a C-ECHO: such commands are not offered, it was "
            "answered as a plain C-ECHO. Use `dgate` on this machine instead.",
            association.calling,
            association.peer[0],
        )
    association.respond(message)
