"""`dicomquery`, `dicommove`, `dicomget`, `dicomread`, `dicomstore`, `dicomecho` and the like."""

from __future__ import annotations

import pytest

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from tests.archive.intake_kit import data_set
from tests.rules.lua.library_kit import Answer, Bench

QUERY = "local q = DicomObject:new(); q.PatientID = 'P1'; q.StudyInstanceUID = ''; "


def answer(**elements: object) -> ElementTable:
    return ElementTable(data_set(**elements), EXPLICIT_LE)


@pytest.mark.parametrize("name", ["dicomquery", "dicomquery2"])
def test_query_gives_an_array_of_objects(bench: Bench, name: str) -> None:
    bench.peers.found = [answer(PatientName="A"), answer(PatientName="B")]

    code = f"local r = {name}('PACS', 'STUDY', q) return #r .. r[1].PatientName"
    result = bench.run(QUERY + code)

    assert result == "2B"
    assert bench.peers.calls == [
        ("find", "PACS", "STUDY", {"00100020": "P1", "0020000d": ""}),
    ]


def test_query_that_fails_gives_nothing_and_one_without_matches_an_array(bench: Bench) -> None:
    assert bench.run(QUERY + "return #dicomquery('PACS', 'STUDY', q)") == 0
    bench.peers.found = None
    assert bench.run(QUERY + "return dicomquery('PACS', 'STUDY', q)") is None
    assert bench.run(QUERY + "return dicomget('PACS', 'STUDY', q)") is None


def test_get_gives_whole_objects(bench: Bench) -> None:
    bench.peers.found = [answer()]

    assert bench.run(QUERY + "return dicomget('PACS', 'STUDY', q)[0].Rows") == "4"
    assert bench.peers.calls[0][0] == "get"


def test_move_gives_nothing_or_what_went_wrong(bench: Bench) -> None:
    assert bench.run(QUERY + "return dicommove('PACS', 'ME', q, 1)") is None
    bench.peers.problem = "***dicommove: AE not found: PACS"
    assert bench.run(QUERY + "return dicommove('PACS', 'ME', q, 0)") == bench.peers.problem
    assert [call[4] for call in bench.peers.calls] == [True, False]


def test_move_tells_how_far_it_is(bench: Bench) -> None:
    result = bench.run(
        QUERY + "seen = '' dicommove('A', 'B', q, 0, 'seen = seen .. Global.StatusString .. \";\"')"
        " return seen"
    )

    assert result == ("dicommove: 1 of 2 images transferred;dicommove: 2 of 2 images transferred;")


def test_move_takes_elements_a_number_or_a_function_as_extra(bench: Bench) -> None:
    bench.run(
        QUERY + "local e = DicomObject:new(); e.ConquestMaxSlices = 3;"
        " dicommove('A', 'B', q, 0, e) dicommove('A', 'B', q, 0, 7)"
        " dicommove('A', 'B', q, 0, function() error('called') end)"
    )

    assert [call[5] for call in bench.peers.calls] == [{"99990500": "3"}, None, None]


def test_read_gives_objects_of_the_own_archive(bench: Bench) -> None:
    bench.archive.objects = {"a": answer(PatientName="A"), "b": answer(PatientName="B")}

    assert bench.run(QUERY + "return #dicomread(q)") == 2
    assert bench.run(QUERY + "return dicomread(q, 3000)[1].PatientName") == "B"
    assert [call[2] for call in bench.archive.calls] == [0, 3000]


def test_store_gives_a_response_for_each_object(bench: Bench) -> None:
    bench.peers.answers = [Answer("1.1", 0), Answer("1.2", 272), Answer("1.3", None)]

    result = bench.run(
        "local r = dicomstore('PACS', Data)"
        " return r[0].Status .. ' ' .. r[0].AffectedSOPInstanceUID .. ' ' .. r[1].Status"
        " .. ' ' .. tostring(r[2].Status) .. ' ' .. #r"
    )

    assert result == "0 1.1 272 nil 3"


def test_store_takes_an_array_and_says_when_nobody_answers(bench: Bench) -> None:
    bench.peers.answers = "Failed to connect to host"

    code = "local a = DicomObject:newarray(); a:Add(Data); a:Add(Data); return dicomstore('X', a)"

    assert bench.run(code) == "Failed to connect to host"
    assert bench.peers.calls == [("store", "X", ["1.2.3.1.1.1", "1.2.3.1.1.1"])]


def test_echo_gives_the_response_or_nothing(bench: Bench) -> None:
    assert bench.run("return dicomecho('PACS')") is None
    bench.peers.echoed = ElementTable(b"", EXPLICIT_LE)
    bench.peers.echoed.set_raw(0x00000900, "US", b"\0\0")
    assert bench.run("return dicomecho('PACS').Status") == "0"
    bench.run("local e = DicomObject:new(); e['9999,0300'] = 'hello' dicomecho('PACS', e)")
    assert bench.peers.calls[-1] == ("echo", "PACS", {"99990300": "hello"})


def test_delete(bench: Bench) -> None:
    assert bench.run(QUERY + "return dicomdelete(q)") is True
    assert bench.archive.calls == [("delete", {"00100020": "P1", "0020000d": ""})]


def test_newer_operations_need_all_four_keys(bench: Bench) -> None:
    bench.run(QUERY + "newdicomdelete(q, 1) newdicommodify(q, 'nop', 1) newdicomcopy(q, 'nop', 1)")
    assert bench.archive.calls == []

    bench.run(
        QUERY + "q.SeriesInstanceUID = '' q.SOPInstanceUID = '1.2'"
        " newdicomdelete(q, 1) newdicommodify(q, 'nop', 1, true) newdicomcopy(q, 'newuids', 1)"
    )

    assert [call[0] for call in bench.archive.calls] == ["delete", "modify", "modify"]
    assert [call[2:] for call in bench.archive.calls[1:]] == [("nop", False), ("newuids", True)]


def test_print_gives_nothing_and_tells_of_each_image(bench: Bench) -> None:
    code = (
        "images = newdicomarray() images:Add(Data) images:Add(Data) count = 0 "
        "local said = dicomprint(images, 'PRINTER', 'A text', 'NumberOfCopies=2', "
        "'count = count + 1') return tostring(said) .. count"
    )

    assert bench.run(code) == "nil2"
    assert bench.peers.calls == [("print", "PRINTER", 2, "A text", "NumberOfCopies=2")]


def test_print_of_one_object_needs_no_more_than_a_printer(bench: Bench) -> None:
    assert bench.run("return dicomprint(Data, 'PRINTER', nil, nil, print)") is None
    assert bench.peers.calls == [("print", "PRINTER", 1, "", "")]


def test_print_that_fails_gives_the_text_of_old(bench: Bench) -> None:
    bench.peers.prints = False

    assert bench.run("return dicomprint(Data, 'P')") == "Failed to print DICOM image(s)"


@pytest.mark.parametrize(
    "call",
    [
        "dicomquery('A', 'STUDY')",
        "dicomquery('A', 'STUDY', 'text')",
        "dicomquery(nil, 'STUDY', Data)",
        "dicommove('A', nil, Data)",
        "dicomstore('A', {})",
        "dicomecho()",
        "dicomdelete(nil)",
    ],
)
def test_wrong_arguments_are_errors(bench: Bench, call: str) -> None:
    assert bench.run(f"return pcall(function() {call} end)") is False
