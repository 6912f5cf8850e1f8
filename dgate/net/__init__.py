"""The DICOM upper layer: associations, negotiation and DIMSE messages, over blocking sockets.

What is done with an object is not known here. Each association belongs to one thread.
"""

from __future__ import annotations

from dgate.net.association import Association, Message, PayloadFactory
from dgate.net.dimse import Command, CommandField, Status, StatusCategory, category, describe
from dgate.net.listener import Listener, Terms
from dgate.net.negotiation import Policy, PresentationContext
from dgate.net.requestor import ContextProposal, connect
from dgate.net.router import STORAGE, Handler, Router
from dgate.net.scu import FindAnswer, echo, find, get, move, store
from dgate.net.stream import Timeouts

__all__ = [
    "STORAGE",
    "Association",
    "Command",
    "CommandField",
    "ContextProposal",
    "FindAnswer",
    "Handler",
    "Listener",
    "Message",
    "PayloadFactory",
    "Policy",
    "PresentationContext",
    "Router",
    "Status",
    "StatusCategory",
    "Terms",
    "Timeouts",
    "category",
    "connect",
    "describe",
    "echo",
    "find",
    "get",
    "move",
    "store",
]
