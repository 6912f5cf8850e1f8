"""What `Global` counts: DIMSE requests served and objects stored since the start.

Any thread may count; a count is one step under a lock.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

from dgate.net import Association, CommandField, Handler, Message

_QUERY_RETRIEVE = "1.2.840.10008.5.1.4.1.2"
_NAMES: Mapping[tuple[CommandField, str], str] = {
    (CommandField.C_ECHO_RQ, "1.2.840.10008.1.1"): "EchoRequest",
    (CommandField.C_FIND_RQ, f"{_QUERY_RETRIEVE}.1.1"): "C_Find_PatientRoot",
    (CommandField.C_FIND_RQ, f"{_QUERY_RETRIEVE}.2.1"): "C_Find_StudyRoot",
    (CommandField.C_FIND_RQ, f"{_QUERY_RETRIEVE}.3.1"): "C_Find_PatientStudyOnly",
    (CommandField.C_FIND_RQ, "1.2.840.10008.5.1.4.31"): "C_Find_ModalityWorkList",
    (CommandField.C_MOVE_RQ, f"{_QUERY_RETRIEVE}.1.2"): "C_Move_PatientRoot",
    (CommandField.C_MOVE_RQ, f"{_QUERY_RETRIEVE}.2.2"): "C_Move_StudyRoot",
    (CommandField.C_MOVE_RQ, f"{_QUERY_RETRIEVE}.3.2"): "C_Move_PatientStudyOnly",
    (CommandField.C_GET_RQ, f"{_QUERY_RETRIEVE}.1.3"): "C_Get_PatientRoot",
    (CommandField.C_GET_RQ, f"{_QUERY_RETRIEVE}.2.3"): "C_Get_StudyRoot",
    (CommandField.C_GET_RQ, f"{_QUERY_RETRIEVE}.3.3"): "C_Get_PatientStudyOnly",
}
RECEIVED = "ImagesReceived"
UNKNOWN = "UnknownRequest"
"""A request that nobody serves."""
ASSOCIATIONS = "IncomingAssociations"
_THREADS, _OPEN = "ThreadCount", "OpenThreadCount"
"""Associations since the start, each of which has a thread, and those that are open."""
_VENDOR_MOVES = "1.2.826.0.1.3680043.2.135.1066.5.1.4.1.2"


class Counters:
    """Numbers by the names that `Global` has for them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._numbers: Counter[str] = Counter()

    def count(self, name: str) -> None:
        """Add one."""
        with self._guard:
            self._numbers[name] += 1

    def change(self, name: str, value: int) -> None:
        """Set a number, as scripts may."""
        with self._guard:
            self._numbers[name] = value

    def __getitem__(self, name: str) -> int:
        """Return a number, 0 for what has not been counted."""
        with self._guard:
            return self._numbers[name]

    def counting(
        self, handlers: Mapping[tuple[CommandField, str], Handler]
    ) -> dict[tuple[CommandField, str], Handler]:
        """Return the handlers of requests, each of which counts what it serves."""
        return {
            key: self._counting(name, handler) if (name := _name(*key)) else handler
            for key, handler in handlers.items()
        }

    def serving(self, serve: Callable[[Association], None]) -> Callable[[Association], None]:
        """Return what serves associations, each of which is counted, and how many are open."""

        def counted(association: Association) -> None:
            with self._guard:
                for name in (ASSOCIATIONS, _THREADS, _OPEN):
                    self._numbers[name] += 1
            try:
                serve(association)
            finally:
                with self._guard:
                    self._numbers[_OPEN] -= 1

        return counted

    def _counting(self, name: str, handler: Handler) -> Handler:
        count: Callable[[str], None] = self.count

        def counted(association: Association, message: Message) -> None:
            count(name)
            handler(association, message)

        return counted


def _name(field: CommandField, sop_class: str) -> str:
    """Return the name of the counter of a request that is served, empty when there is none."""
    if field is CommandField.C_STORE_RQ:
        return RECEIVED
    if sop_class.startswith(_VENDOR_MOVES):
        # The original's own C-MOVE classes have counters of their own.
        standard = sop_class.replace(_VENDOR_MOVES, _QUERY_RETRIEVE)
        found = _NAMES.get((field, standard), "")
        return f"{found}NKI" if found else ""
    return _NAMES.get((field, sop_class), "")
