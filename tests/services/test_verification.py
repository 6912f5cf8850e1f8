"""C-ECHO: success, and nothing else whatever comes with it."""

from __future__ import annotations

import pytest

from dgate.dicom.uids import EXPLICIT_LE, VERIFICATION
from dgate.net import Command, CommandField
from dgate.services.verification import answer_echo
from tests.services.kit import asking

pytestmark = pytest.mark.integration


def test_echo_is_answered_with_success() -> None:
    with asking(CommandField.C_ECHO_RQ, VERIFICATION, answer_echo) as association:
        for message_id in (1, 65535):
            request = Command(
                command_field=CommandField.C_ECHO_RQ,
                message_id=message_id,
                sop_class=VERIFICATION,
            )
            association.send(1, request)
            message = association.receive()
            assert message is not None
            assert message.command.status == 0
            assert message.command.message_id_responded == message_id


def test_commands_inside_an_echo_are_not_looked_at() -> None:
    with asking(CommandField.C_ECHO_RQ, VERIFICATION, answer_echo, EXPLICIT_LE) as association:
        request = Command(
            command_field=CommandField.C_ECHO_RQ, message_id=1, sop_class=VERIFICATION
        )
        # The original's console sends such elements (spec operator-surface.md section 4).
        association.send(1, request, [b"\x99\x99\x00\x04LO\x08\x00quit:   "])
        message = association.receive()

    assert message is not None
    assert message.command.status == 0
