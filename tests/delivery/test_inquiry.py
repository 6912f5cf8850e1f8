"""Questions to a peer: level by level, and what its faults lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dgate.archive.levels import Level
from dgate.delivery.inquiry import (
    PATIENT_ID,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    STUDY_ROOT,
    Inquiry,
    Listed,
    find_proposals,
    list_objects,
)
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, encode_data_set
from dgate.dicom.table import ElementTable
from dgate.errors import NoContext, PeerError
from dgate.net import Association, CommandField, Handler, Message, Status, connect
from tests.net.kit import CT, FAST, answer_without_status, serving

pytestmark = pytest.mark.integration

Handlers = dict[tuple[CommandField, str], Handler]
Rows = Callable[[dict[int, str]], list[dict[int, str | None]]]


class Archive:
    """Answers queries by a function, and notes what it was asked."""

    def __init__(self, rows: Rows, final: int = Status.SUCCESS) -> None:
        self.rows = rows
        self.final = final
        self.asked: list[dict[int, str]] = []

    def handle(self, association: Association, message: Message) -> None:
        assert message.payload is not None
        syntax = message.context.transfer_syntax
        table = ElementTable(message.payload.view(), syntax)
        keys = {tag: table.text(tag) for tag in table.tags()}
        self.asked.append(keys)
        for row in self.rows(keys):
            association.respond(message, Status.PENDING, data=[encode_data_set(row, syntax, "")])
        association.respond(message, self.final, comment="" if not self.final else "no")


@contextmanager
def inquiry(archive: Archive, model: str = STUDY_ROOT) -> Iterator[Inquiry]:
    with serving(handlers={(CommandField.C_FIND_RQ, f"{model}.1"): archive.handle}) as server:
        proposals = [each for each in find_proposals() if each.abstract == f"{model}.1"]
        with connect(
            "127.0.0.1", server.port, "US", "PEER", proposals, timeouts=FAST
        ) as association:
            yield Inquiry(association)


def two_series(keys: dict[int, str]) -> list[dict[int, str | None]]:
    """One patient with one study of two series of two images each."""
    level = keys[QUERY_RETRIEVE_LEVEL]
    if level == "STUDY":
        return [{STUDY: "1"}]
    if level == "SERIES":
        return [{SERIES: "1.1"}, {SERIES: "1.2"}]
    series = keys[SERIES]
    found = [f"{series}.1", f"{series}.2"]
    wanted = [uid for uid in keys.get(SOP_INSTANCE, "").split("\\") if uid]
    return [{SOP_CLASS: CT, SOP_INSTANCE: uid} for uid in found if not wanted or uid in wanted]


def test_a_patient_is_listed_level_by_level_with_all_upper_keys() -> None:
    archive = Archive(two_series)
    with inquiry(archive) as asking:
        found = list_objects(asking, {PATIENT_ID: "ID"})

    assert [each.sop_instance for each in found] == ["1.1.1", "1.1.2", "1.2.1", "1.2.2"]
    assert found[0] == Listed(CT, "1.1.1", "ID", "1", "1.1")
    levels = [keys[QUERY_RETRIEVE_LEVEL] for keys in archive.asked]
    assert levels == ["STUDY", "SERIES", "IMAGE", "IMAGE"]
    assert (archive.asked[2][STUDY], archive.asked[2][SERIES]) == ("1", "1.1")


def test_images_are_asked_for_by_their_uids() -> None:
    archive = Archive(two_series)
    with inquiry(archive) as asking:
        keys = {STUDY: "1", SERIES: "1.1", SOP_INSTANCE: "1.1.2\\9.9"}
        found = list_objects(asking, keys)

    assert [each.sop_instance for each in found] == ["1.1.2"]
    assert [keys[QUERY_RETRIEVE_LEVEL] for keys in archive.asked] == ["IMAGE"]


def test_a_request_without_upper_keys_is_put_as_it_stands() -> None:
    archive = Archive(two_series)
    with inquiry(archive) as asking:
        found = list_objects(asking, {SERIES: "1.2"})

    assert found == [Listed(CT, "1.2.1", "", "", "1.2"), Listed(CT, "1.2.2", "", "", "1.2")]
    assert len(archive.asked) == 1


def test_objects_the_peer_adds_are_left_out() -> None:
    archive = Archive(lambda keys: [{SOP_CLASS: CT, SOP_INSTANCE: uid} for uid in ("1", "2")])
    with inquiry(archive) as asking:
        found = list_objects(asking, {STUDY: "1", SERIES: "2", SOP_INSTANCE: "2"})

    assert [each.sop_instance for each in found] == ["2"]


def test_a_refusal_names_status_and_comment() -> None:
    archive = Archive(lambda keys: [], Status.UNABLE_TO_PROCESS)
    with inquiry(archive) as asking, pytest.raises(PeerError, match=r"C001 .* no"):
        list(asking.find(Level.STUDY, {STUDY: None}))


def test_a_level_that_the_peer_does_not_offer_is_named() -> None:
    with inquiry(Archive(two_series)) as asking, pytest.raises(NoContext, match="PATIENT"):
        list(asking.find(Level.PATIENT, {PATIENT_ID: "ID"}))


def test_identifier_and_answers_can_be_changed() -> None:
    archive = Archive(lambda keys: [{PATIENT_ID: "00042"}])

    def amend(table: ElementTable) -> None:
        table.set_text(PATIENT_ID, "042")

    def receive(table: ElementTable) -> None:
        table.set_text(PATIENT_ID, "42")

    with inquiry(archive) as asking:
        changing = Inquiry(asking._association, amend, receive)
        (answer,) = changing.find(Level.STUDY, {PATIENT_ID: "42"})

    assert archive.asked[0][PATIENT_ID] == "042"
    assert answer[PATIENT_ID] == "42"


def test_text_beyond_ascii_is_asked_in_utf8() -> None:
    archive = Archive(lambda keys: [])
    with inquiry(archive) as asking:
        list(asking.find(Level.STUDY, {0x00100010: "Müller"}))

    assert archive.asked[0][0x00100010] == "Müller"
    assert archive.asked[0][0x00080005] == "ISO_IR 192"


def test_answer_without_a_status_is_no_empty_list() -> None:
    handlers: Handlers = {(CommandField.C_FIND_RQ, f"{STUDY_ROOT}.1"): answer_without_status}
    with (
        serving(handlers=handlers) as server,
        connect(
            "127.0.0.1", server.port, "US", "PEER", find_proposals(), timeouts=FAST
        ) as association,
        pytest.raises(PeerError, match="0110"),
    ):
        list_objects(Inquiry(association), {STUDY: "1"})
