"""C-FIND over a real association: what an answer holds, and how a search ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.archive.query import Page
from dgate.config.settings import default_settings
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from dgate.net import CommandField, Handler, Status, find
from dgate.services.identifier import STUDY_ROOT
from dgate.services.query import QueryService
from tests.dicom.samples import explicit, implicit, item
from tests.net.kit import STUDY_FIND
from tests.services.kit import CHARSET, LEVEL, TwinFinder, asking, decoded, identifier

pytestmark = pytest.mark.integration

PATIENT_NAME = 0x00100010
STUDY = 0x0020000D
RETRIEVE_AE = 0x00080054
AVAILABILITY = 0x00080056
REFERENCED_SERIES = 0x00081115
PROCEDURE_CODES = 0x00081032
CODE_VALUE = 0x00080100

SYNTAXES = pytest.mark.parametrize(
    "syntax", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE], ids=["explicit", "implicit", "big"]
)


def service(folder: Path, finder: TwinFinder) -> Handler:
    settings = default_settings(folder, ae_title="GATE")
    return QueryService(settings, finder).handler(STUDY_ROOT)  # type: ignore[arg-type]


def ask(handler: Handler, data: bytes, syntax: str = EXPLICIT_LE) -> list[tuple[int, bytes]]:
    with asking(CommandField.C_FIND_RQ, STUDY_FIND, handler, syntax) as association:
        return [(answer.status, answer.identifier) for answer in find(association, 1, data)]


@SYNTAXES
def test_answer_names_level_retrieve_ae_and_character_set(tmp_path: Path, syntax: str) -> None:
    finder = TwinFinder([{STUDY: "1.2", PATIENT_NAME: "Müller^Jürgen"}])
    wanted = {STUDY: None, PATIENT_NAME: "M*", RETRIEVE_AE: None, AVAILABILITY: None}
    data = identifier("STUDY", wanted, syntax, "ISO_IR 100")

    (status, answer), final = ask(service(tmp_path, finder), data, syntax)

    assert status == Status.PENDING
    assert final == (Status.SUCCESS, b"")
    assert decoded(answer, syntax) == {
        CHARSET: "ISO_IR 100",
        LEVEL: "STUDY",
        RETRIEVE_AE: "GATE",
        AVAILABILITY: "ONLINE",
        PATIENT_NAME: "Müller^Jürgen",
        STUDY: "1.2",
    }


@SYNTAXES
def test_sequence_keys_are_answered_empty(tmp_path: Path, syntax: str) -> None:
    finder = TwinFinder([{STUDY: "1.2"}])
    wanted = {STUDY: None, REFERENCED_SERIES: None, PROCEDURE_CODES: None}

    (_, answer), _ = ask(service(tmp_path, finder), identifier("STUDY", wanted, syntax), syntax)

    table = ElementTable(answer, syntax)
    assert table.tags() == [LEVEL, RETRIEVE_AE, PROCEDURE_CODES, REFERENCED_SERIES, STUDY]
    for tag in (PROCEDURE_CODES, REFERENCED_SERIES):
        assert table.raw(tag) == b""
        assert table.vr(tag) == "SQ"
    assert finder.asked[0][0].tag == STUDY
    assert len(finder.asked[0]) == 1


@pytest.mark.parametrize("vr", ["SQ", "UN", ""], ids=["sequence", "unknown VR", "implicit"])
def test_sequence_keys_with_items_are_answered_empty(tmp_path: Path, vr: str) -> None:
    syntax = EXPLICIT_LE if vr else IMPLICIT_LE
    head = identifier("STUDY", {}, syntax)
    if not vr:
        codes = implicit(PROCEDURE_CODES, item(implicit(CODE_VALUE, b"CT  ")))
        data = head + codes + implicit(STUDY, b"")
    else:
        inner = explicit(CODE_VALUE, "SH", b"CT  ")
        if vr == "UN":
            inner = implicit(CODE_VALUE, b"CT  ")
        data = head + explicit(PROCEDURE_CODES, vr, item(inner)) + explicit(STUDY, "UI", b"")
    finder = TwinFinder([{STUDY: "1.2"}])

    (status, answer), _ = ask(service(tmp_path, finder), data, syntax)

    # What the items ask for is not matched, and the requester is told.
    assert status == Status.PENDING_KEYS_UNSUPPORTED
    assert decoded(answer, syntax)[STUDY] == "1.2"
    assert ElementTable(answer, syntax).raw(PROCEDURE_CODES) == b""


def test_sequence_key_with_an_empty_item_asks_for_nothing(tmp_path: Path) -> None:
    head = identifier("STUDY", {}, EXPLICIT_LE)
    inner = explicit(CODE_VALUE, "SH", b"")
    data = head + explicit(PROCEDURE_CODES, "SQ", item(inner)) + explicit(STUDY, "UI", b"")

    (status, _), _ = ask(service(tmp_path, TwinFinder([{STUDY: "1.2"}])), data)

    assert status == Status.PENDING


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ({0x99990C00: "StudyDate"}, Page("StudyDate")),
        ({0x99990C01: "10 ", 0x99990C02: "20"}, Page("", 10, 20)),
        ({0x99990C01: "many", 0x99990C02: "-1"}, Page()),
    ],
    ids=["order", "limit and offset", "no numbers"],
)
def test_order_limit_and_offset_come_as_private_elements(
    tmp_path: Path, asked: dict[int, str], page: Page
) -> None:
    finder = TwinFinder([{STUDY: "1.2"}])
    ask(service(tmp_path, finder), identifier("STUDY", {STUDY: None, **asked}))
    assert finder.pages == [page]


@pytest.mark.parametrize(
    ("asked_in", "name", "answered_in"),
    [
        ("", "SMITH^JOHN", None),
        ("ISO_IR 192", "SMITH^JOHN", "ISO_IR 192"),
        ("", "Müller", "ISO_IR 100"),
        ("ISO_IR 100", "山田", "ISO_IR 192"),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", "Yamada=山田", "ISO 2022 IR 6\\ISO 2022 IR 87"),
        ("\\ISO 2022 IR 87", "Yamada=山田", "\\ISO 2022 IR 87"),
    ],
    ids=["ASCII", "asked in UTF-8", "Latin-1", "fits none but UTF-8", "extensions", "first empty"],
)
def test_answer_tells_a_character_set_that_holds_it(
    tmp_path: Path, asked_in: str, name: str, answered_in: str | None
) -> None:
    finder = TwinFinder([{PATIENT_NAME: name}])
    data = identifier("STUDY", {PATIENT_NAME: None}, charset=asked_in)

    (_, answer), _ = ask(service(tmp_path, finder), data)

    found = decoded(answer)
    assert found.get(CHARSET) == answered_in
    assert found[PATIENT_NAME] == name


def test_identifier_without_level_or_with_too_many_elements_is_refused(tmp_path: Path) -> None:
    handler = service(tmp_path, TwinFinder())
    many = {0x00091000 + number: None for number in range(1000)}

    assert ask(handler, identifier("", {STUDY: None}))[0][0] == Status.IDENTIFIER_MISMATCH
    assert ask(handler, identifier("STUDY", many))[0][0] == Status.UNABLE_TO_PROCESS


def test_cancel_ends_a_search_before_its_last_answer(tmp_path: Path) -> None:
    finder = TwinFinder([{STUDY: "1.2"}] * 1_000_000)
    handler = service(tmp_path, finder)
    with asking(CommandField.C_FIND_RQ, STUDY_FIND, handler) as association:
        answers = find(association, 1, identifier("STUDY", {STUDY: None}))
        assert next(answers).status == Status.PENDING
        answers.close()
        finder.answers = [{STUDY: "1.3"}]
        again = list(find(association, 1, identifier("STUDY", {STUDY: None})))
    assert [answer.status for answer in again] == [Status.PENDING, Status.SUCCESS]
    assert finder.produced < 1_000_000
