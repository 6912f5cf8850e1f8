"""The Lua form of objects: exactly that of the spec, and back through `loadstring`."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import RuleError
from dgate.rules.lua import serial
from dgate.rules.lua.serial import literal, lua_form, lua_form_of_all
from tests.archive.intake_kit import data_set
from tests.rules.lua.library_kit import Bench


def empty() -> ElementTable:
    return ElementTable(b"", EXPLICIT_LE)


def table_of(**values: tuple[int, str, bytes]) -> ElementTable:
    table = empty()
    for tag, vr, raw in values.values():
        table.set_raw(tag, vr, raw)
    return table


@pytest.mark.parametrize(
    ("tag", "vr", "raw", "form"),
    [
        (0x00280010, "US", b"\x00\x02", b"{Rows=512}"),
        (0x00280010, "US", b"", b"{}"),
        (0x00280106, "SS", struct.pack("<h", -5), b"{SmallestImagePixelValue=-5}"),
        (0x00200062, "CS", b"L ", b'{ImageLaterality="L"}'),
        (0x00189073, "FD", struct.pack("<d", 1.5), b"{AcquisitionDuration=1.500000}"),
        (0x00189079, "FD", struct.pack("<2d", 1, 2), b"{InversionTimes={1.000000,2.000000}}"),
        (0x00200013, "IS", b"2 ", b'{InstanceNumber="2 "}'),
        (0x00180050, "DS", b"2.5 ", b'{SliceThickness="2.5 "}'),
        (0x00280030, "DS", b"0.5\\0.25", b'{PixelSpacing="0.5\\\\0.25"}'),
        (0x00100020, "LO", b"", b'{PatientID=""}'),
        (0x00100020, "LO", b"a\\b ", b'{PatientID="a\\\\b"}'),
        (0x00080018, "UI", b"1.2.3\0", b'{SOPInstanceUID="1.2.3"}'),
        (0x00280009, "AT", b"\x18\x00\x63\x10", b'{FrameIncrementPointer="\\024\\000c\\016"}'),
        (0x7FE00010, "OW", b"\x01\x00\x02\x00", b"{PixelData=nil --[[OW not serialized]]}"),
        (0x7FE00010, "OB", b"\x01\x02", b"{}"),
        (0x00111001, "UN", b"ab", b"{--[[skipped 1 UN elements]]}"),
        (0x00080000, "UL", b"\x08\0\0\0", b"{}"),
    ],
)
def test_element_has_its_form(tag: int, vr: str, raw: bytes, form: bytes) -> None:
    assert lua_form(table_of(x=(tag, vr, raw))) == form


def test_pixels_are_a_list_of_numbers_when_asked_for() -> None:
    words = table_of(x=(0x7FE00010, "OW", b"\x01\x00\xff\xff"))
    bytes_ = table_of(x=(0x7FE00010, "OB", b"\x01\x02"))

    assert lua_form(words, pixels=True) == b"{PixelData={1,65535}}"
    assert lua_form(bytes_, pixels=True) == b"{PixelData=nil --[[OB not serialized]]}"


def test_sequences_nest() -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2"
    table = empty()
    source = ElementTable(data_set(ReferencedStudySequence=[item, item]), EXPLICIT_LE)
    table.set_items(0x00081110, source.items(0x00081110))

    form = b'{ReferencedStudySequence={ {ReferencedSOPInstanceUID="1.2"},'
    assert lua_form(table) == form + b'{ReferencedSOPInstanceUID="1.2"} }}'
    assert lua_form_of_all([empty(), empty()]) == b"{ {},{} }"


def test_text_is_utf_8_whatever_the_object_has() -> None:
    source = ElementTable(
        data_set(SpecificCharacterSet="ISO_IR 100", PatientName="Müller"), EXPLICIT_LE
    )

    assert 'PatientName="Müller"'.encode() in lua_form(source)


def test_form_that_is_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "BYTES_LIMIT", 10)

    with pytest.raises(ValueError, match="longer"):
        lua_form(table_of(x=(0x00100020, "LO", b"x" * 20)))


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_literal_means_its_bytes(value: bytes) -> None:
    from lupa import lua51

    lua = lua51.LuaRuntime(encoding=None)
    assert lua.execute(b"return " + literal(value)) == value


def test_object_comes_back_by_loadstring(bench: Bench) -> None:
    code = """
        Data.PatientComments = 'quote " backslash \\\\ end\\nnext\\0nul\\r'
        Data.ReferencedStudySequence = {}
        Data.ReferencedStudySequence[0].ReferencedSOPInstanceUID = '1.2.3'
        local text = Data:Serialize()
        local back = loadstring('return ' .. text)()
        assert(not text:find('\\n'))
        return table.concat({back.PatientID, back.Rows + 1, back.PatientComments,
          back.ReferencedStudySequence[1].ReferencedSOPInstanceUID, type(back.PixelData)}, '|')
    """

    assert bench.run(code) == 'P1|5|quote " backslash \\ end\nnext|1.2.3|nil'


def test_forms_are_chosen_by_booleans(bench: Bench) -> None:
    assert bench.run("return Data:Serialize()").startswith("{")
    assert bench.run("return Data:Serialize('json', 1)") == bench.run("return serialize(Data)")
    assert bench.run("return serialize()") == bench.run("return Data:Serialize(false)")
    assert bench.run("return serialize(true)") == bench.run("return Data:Serialize(true)")
    by_keyword = json.loads(bench.run("return Data:Serialize(true)"))
    model = json.loads(bench.run("return Data:Serialize(true, false, true)"))
    assert by_keyword["PatientID"] == "P1"
    assert "PixelData" not in by_keyword
    assert model[0]["00100020"] == {"vr": "LO", "Value": ["P1"]}
    assert bench.run("return Data:Serialize(false, false, true)").startswith("{")


def test_arrays_have_the_same_forms(bench: Bench) -> None:
    make = "local a = DicomObject:newarray(); a:Add(Data); a:Add(Data); return "

    assert bench.run(f"{make} #loadstring('return ' .. a:Serialize())()") == 2
    assert len(json.loads(bench.run(f"{make} a:Serialize(true)"))) == 2
    assert len(json.loads(bench.run(f"{make} a:Serialize(true, true, true)"))) == 2
    assert bench.run("return DicomObject:newarray():Serialize()") == "{  }"


def test_pixels_come_in_every_form(bench: Bench) -> None:
    words = list(struct.unpack("<16H", bytes(range(32))))

    assert (
        bench.run("return loadstring('return '..Data:Serialize(false, true))().PixelData[2]")
        == (words[1])
    )
    assert json.loads(bench.run("return Data:Serialize(true, true)"))["PixelData"] == words


def test_error_is_one_of_the_script(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "BYTES_LIMIT", 10)

    with pytest.raises(RuleError, match="longer"):
        bench.run("Data:Serialize()")


def test_nothing_else_is_serialized(bench: Bench) -> None:
    values: dict[str, Any] = json.loads(bench.run("return Data:Serialize(true)"))

    assert all(isinstance(value, (str, int, list)) for value in values.values())
