"""What `Global` counts."""

from __future__ import annotations

from typing import Any

import pytest

from dgate.net import STORAGE, CommandField
from dgate.services.counters import Counters

MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
VENDOR_MOVE = "1.2.826.0.1.3680043.2.135.1066.5.1.4.1.2.2.2"


@pytest.mark.parametrize(
    ("field", "sop_class", "name"),
    [
        (CommandField.C_STORE_RQ, STORAGE, "ImagesReceived"),
        (CommandField.C_ECHO_RQ, "1.2.840.10008.1.1", "EchoRequest"),
        (CommandField.C_MOVE_RQ, MOVE, "C_Move_StudyRoot"),
        (CommandField.C_MOVE_RQ, VENDOR_MOVE, "C_Move_StudyRootNKI"),
        (CommandField.C_FIND_RQ, "1.2.840.10008.5.1.4.31", "C_Find_ModalityWorkList"),
        (CommandField.C_FIND_RQ, "9.9", "UnknownRequest"),
    ],
)
def test_each_request_is_counted_and_served(field: CommandField, sop_class: str, name: str) -> None:
    counters = Counters()
    served: list[tuple[Any, Any]] = []

    def handler(association: Any, message: Any) -> None:
        served.append((association, message))

    counting = counters.counting({(field, sop_class): handler})
    association: Any = "association"
    message: Any = "message"
    counting[field, sop_class](association, message)
    counting[field, sop_class](association, message)

    assert counters[name] == 2
    assert served == [("association", "message")] * 2


def test_number_that_nobody_counted_is_none_of_them() -> None:
    counters = Counters()

    assert counters["EchoRequest"] == 0
    counters.change("EchoRequest", 5)
    counters.count("EchoRequest")
    assert counters["EchoRequest"] == 6
