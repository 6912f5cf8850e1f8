"""What becomes of copies by control elements; over the wire: tests/acceptance/test_controls.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dgate.dicom.pixels import layout_of
from dgate.dicom.recompress import recompress
from dgate.dicom.table import PIXEL_DATA, ElementTable
from dgate.dicom.uids import EXPLICIT_LE, RLE_LOSSLESS
from dgate.errors import NotDicom, RuleError
from dgate.rules.effects import Captured, ImportVerdict, Outcome
from dgate.services.controls import Controls
from dgate.services.copies import Statements, copy_rewrite, no_statements

ASSOCIATION: Any = SimpleNamespace(calling="VIEWER", called="GATE~ui")
ELEMENTS = {
    0x00080016: "1.2.840.10008.5.1.4.1.1.4",
    0x00080018: "1.2.3.4",
    0x00280002: "1",
    0x00280004: "MONOCHROME2",
    0x00280008: "3",
    0x00280010: "2",
    0x00280011: "4",
    0x00280100: "8",
    0x00280101: "8",
    0x00280102: "7",
    0x00280103: "0",
}


def picture() -> ElementTable:
    """Return an image of three frames, each of which has its number in every pixel."""
    table = ElementTable(b"", EXPLICIT_LE)
    for tag, text in ELEMENTS.items():
        table.set_text(tag, text)
    table.set_pixels("OW", b"".join(bytes([frame]) * 8 for frame in range(3)), EXPLICIT_LE)
    return ElementTable(table.tobytes(), EXPLICIT_LE)


def changed(
    table: ElementTable, statements: Statements = no_statements, **wanted: Any
) -> ElementTable:
    rewrite = copy_rewrite(Controls(**wanted), None, statements, ASSOCIATION, "SINK")
    assert rewrite is not None
    rewrite(table)
    return table


def test_nothing_is_added_where_nothing_is_wanted() -> None:
    def result(table: ElementTable) -> None:
        raise AssertionError

    assert copy_rewrite(Controls(most=3), None, no_statements, ASSOCIATION) is None
    assert copy_rewrite(Controls(code="un"), result, no_statements, ASSOCIATION) is result


@pytest.mark.parametrize("code", ["un", "rl"])
def test_a_frame_is_taken_out_and_made_smaller(code: str) -> None:
    table = picture()
    recompress(table, code)
    stored = ElementTable(table.tobytes(), table.syntax)
    assert stored.syntax == (RLE_LOSSLESS if code == "rl" else EXPLICIT_LE)

    one = changed(stored, frame=1, most_pixels=2)

    layout = layout_of(one)
    assert (layout.frames, layout.rows, layout.columns) == (1, 1, 2)
    assert one.syntax == EXPLICIT_LE
    assert one.raw(PIXEL_DATA) == b"\1\1"
    assert one.revision


def test_steps_follow_each_other() -> None:
    seen: list[object] = []

    def result(table: ElementTable) -> None:
        seen.append(("result", layout_of(table).frames))

    def statements(text: str, table: ElementTable, captured: Captured) -> ImportVerdict:
        seen.append((text, layout_of(table).frames))
        seen.append((captured.calling, captured.called, captured.station))
        return ImportVerdict()

    wanted = Controls(frame=0, scrub="-0010", script="a; b")
    rewrite = copy_rewrite(wanted, result, statements, ASSOCIATION, "SINK")
    assert rewrite is not None
    rewrite(picture())

    who = ("VIEWER", "GATE", "SINK")
    assert seen == [("result", 3), ("scrub -0010", 1), who, ("a; b", 1), who]


def test_object_without_pixels_has_neither_frames_nor_size() -> None:
    table = picture()
    table.delete(PIXEL_DATA)
    before = table.tobytes()
    assert changed(table, frame=7, most_pixels=1).tobytes() == before


def test_frame_that_is_not_there_is_not_replaced_by_another() -> None:
    with pytest.raises(NotDicom, match="no frame 3"):
        changed(picture(), frame=3)


@pytest.mark.parametrize("outcome", [Outcome.DESTROY, Outcome.REJECT])
def test_script_can_refuse_a_copy(outcome: Outcome) -> None:
    def statements(text: str, table: ElementTable, captured: Captured) -> ImportVerdict:
        return ImportVerdict(outcome)

    with pytest.raises(RuleError, match=r"script of \(9999,0900\) refused"):
        changed(picture(), statements, script="x")


@pytest.mark.parametrize("tag", [0x00080016, 0x00080018])
def test_copy_keeps_what_identifies_it(tag: int) -> None:
    def statements(text: str, table: ElementTable, captured: Captured) -> ImportVerdict:
        table.delete(tag)
        return ImportVerdict()

    with pytest.raises(RuleError, match="leave a copy without SOP"):
        changed(picture(), statements, scrub="+0028")


def test_no_script_is_left_out_where_nothing_runs_it() -> None:
    with pytest.raises(RuleError, match="nothing runs scripts"):
        changed(picture(), script="nop")
