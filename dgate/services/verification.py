"""Verification service class: C-ECHO (PS3.4 annex A)."""

from __future__ import annotations

from dgate.net import Association, Message


def answer_echo(association: Association, message: Message) -> None:
    """Answer success. Commands inside a C-ECHO are never looked at."""
    association.respond(message)
