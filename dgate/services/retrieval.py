"""Fetching objects that rules asked for: C-MOVE to ourselves, and knowing what comes because of it.

`get` and `preretrieve` of the converter language. What arrives passes no import or export
converters (spec dimse.md 2.1): it is recognised by our AE title as originator together with the
message ID of a C-MOVE that is under way at this moment, sent to the node that now calls.
Thread-safe; what is under way sits behind `_lock`.
"""

from __future__ import annotations

import secrets
import threading

from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.destination import resolve
from dgate.delivery.inquiry import PATIENT_ROOT, STUDY_ROOT, UNCOMPRESSED
from dgate.delivery.opening import open_association
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, UTF_8, Content, encode_data_set
from dgate.errors import NoContext, PeerError, RuleError
from dgate.net import (
    Association,
    Command,
    ContextProposal,
    Status,
    StatusCategory,
    category,
    describe,
    move,
)

_MESSAGE_IDS = 0x10000


class Expected:
    """The C-MOVEs to ourselves that are under way. One per server process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: frozenset[tuple[str, int]] = frozenset()

    def begin(self, node: str) -> int:
        """Note a C-MOVE to a node; return the message ID that it is to have."""
        with self._lock:
            while True:
                # Nobody else shall guess it, as objects that come under it pass no rules.
                message_id = secrets.randbelow(_MESSAGE_IDS - 1) + 1
                if (node, message_id) not in self._under_way:
                    self._under_way |= {(node, message_id)}
                    return message_id

    def end(self, node: str, message_id: int) -> None:
        """Note that it is over."""
        with self._lock:
            self._under_way -= {(node, message_id)}

    def awaits(self, calling: str, own_title: str, command: Command) -> bool:
        """Tell whether an object comes because of a C-MOVE of ours."""
        # Nearly always there is none, and a C-STORE pays no more than this.
        if not self._under_way or command.originator_id is None:
            return False
        if command.originator.strip() != own_title:
            return False
        return (calling.strip(), command.originator_id) in self._under_way


class Retrieval:
    """Has other nodes send us objects."""

    def __init__(self, settings: Settings, nodes: NodeMap, expected: Expected) -> None:
        self._settings = settings
        self._nodes = nodes
        self._expected = expected

    def fetch(self, node: str, level: str, keys: dict[int, str]) -> int:
        """Fetch what the keys name and return how many objects came.

        Args:
            level: `PATIENT`, `STUDY`, `SERIES` or `IMAGE`.
            keys: elements of the identifier beside the level.

        Raises:
            ConfigError, RuleError: the node is not known, or refuses what was asked for.
            PeerError: it could not be reached, or some objects did not come.
        """
        settings = self._settings
        place = resolve(node, self._nodes, settings)
        root = PATIENT_ROOT if level == "PATIENT" else STUDY_ROOT
        sop_class = f"{root}.2"
        association = open_association(place, [ContextProposal(sop_class, UNCOMPRESSED)], settings)
        with association:
            return self._move(association, place.called, sop_class, level, keys)

    def _move(
        self,
        association: Association,
        called: str,
        sop_class: str,
        level: str,
        keys: dict[int, str],
    ) -> int:
        context = next(
            (each for each in association.contexts.values() if each.abstract_syntax == sop_class),
            None,
        )
        if context is None:
            raise NoContext(f"{called} does not offer C-MOVE", where=called)
        values: dict[int, Content] = {QUERY_RETRIEVE_LEVEL: level, **keys}
        charset = "" if all(text.isascii() for text in keys.values()) else UTF_8
        identifier = encode_data_set(values, context.transfer_syntax, charset)
        own = self._settings.ae_title
        message_id = self._expected.begin(called)
        try:
            final = Command()
            for response in move(association, context.id, own, identifier, message_id=message_id):
                final = response
        finally:
            self._expected.end(called, message_id)
        return _result(called, final)


def _result(called: str, final: Command) -> int:
    """Return how many objects came; raises the error that the final response stands for."""
    status = final.outcome
    came, failed = final.completed or 0, final.failed or 0
    if category(status) is StatusCategory.SUCCESS and not failed:
        return came
    text = f"{called} answered {describe(status)}: {came} object(s) came, {failed} did not"
    if status == Status.MOVE_DESTINATION_UNKNOWN:
        raise RuleError(text, remedy=f"{called} must know our AE title as a move destination")
    raise PeerError(text)
