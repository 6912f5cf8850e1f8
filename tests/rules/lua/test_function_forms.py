"""Functions that also exist as methods, called with an object, and without one for Data."""

from __future__ import annotations

import pytest

from dgate.errors import RuleError
from tests.rules.lua.library_kit import Bench


def test_reading_functions_take_data_where_no_object_is_given(bench: Bench) -> None:
    code = """
        local other = newdicomobject()
        other.PatientID = 'OTHER'
        assert(getvr(0x0010, 0x0020, true) == Data:GetVR(0x0010, 0x0020, true))
        assert(getvr(other, 0x0010, 0x0020, true) == 'OTHER ')
        assert(listitems() == (Data:ListItems()))
        assert(select('#', listitems(other)) == 4)
        return (listitems(other))
    """

    assert bench.run(code) == "PatientID"


def test_copies_are_objects_of_their_own(bench: Bench) -> None:
    code = """
        Data.PatientID = 'FIRST'
        local copy = copydicom(Data)
        copy.PatientID = 'SECOND'
        local changed = copydicom(Data, '{"PatientID": "THIRD"}')
        return Data.PatientID .. copy.PatientID .. changed.PatientID
    """

    assert bench.run(code) == "FIRSTSECONDTHIRD"


def test_reset_removes_every_element(bench: Bench) -> None:
    code = """
        local copy = copydicom(Data)
        resetdicom(copy)
        assert(copy.PatientID == nil and (copy:ListItems()) == '')
        copy.PatientID = 'NEW'
        assert((copy:ListItems()) == 'PatientID')
        copy:Reset()
        assert(Data.SOPInstanceUID)
        resetdicom()
        return tostring(Data.SOPInstanceUID) .. (copy:ListItems()) .. (Data:ListItems())
    """

    assert bench.run(code) == "nil"


def test_rows_and_images_are_written_by_functions(bench: Bench) -> None:
    code = """
        Data.Rows, Data.Columns, Data.SamplesPerPixel = 2, 2, 1
        Data.BitsAllocated, Data.BitsStored, Data.PixelRepresentation = 8, 8, 0
        Data:SetVR(0x7fe0, 0x0010, string.char(1, 2, 3, 4))
        setrow(1, 0, {[0] = 7, [1] = 8})
        assert(getimage() == string.char(1, 2, 7, 8))
        setimage(0, string.char(9, 8, 7, 6))
        return getpixel(0, 0) .. getimage(0):byte(4)
    """

    assert bench.run(code) == "96"


def test_sleep_pauses(bench: Bench) -> None:
    assert bench.run("local t = tickcount() sleep(20) return tickcount() - t >= 19") is True


@pytest.mark.parametrize("code", ["HTML('<p>%s</p>', 'x')", "CGI('query')"])
def test_functions_of_web_pages_say_what_to_do_instead(bench: Bench, code: str) -> None:
    with pytest.raises(RuleError, match="works in web pages only"):
        bench.run(code)
