"""DicomObject and DicomArray as scripts see them (spec lua-api.md 4.3 to 4.7)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.dicom.encode import encode_data_set
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, IMPLICIT_LE
from dgate.errors import RuleError
from tests.rules import kit
from tests.rules.lua.library_kit import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A state over an object with a sequence of two items."""
    item = Dataset()
    item.RequestedProcedureID = "RP1"
    item.PatientSex = "F"
    deep = Dataset()
    deep.CodeValue = "C1"
    item.RequestedProcedureCodeSequence = Sequence([deep])
    other = Dataset()
    other.RequestedProcedureID = "RP2"
    made = Bench(kit.table(RequestAttributesSequence=Sequence([item, other]), StudyID=""))
    yield made
    made.close()


SEQ = "Data.RequestAttributesSequence"


# Reading.


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("_VERSION", "Lua 5.1"),
        ("type(Data)", "userdata"),
        ("type(DicomObject)", "userdata"),
        ("#Data", 1),
        ("Data.PatientName", "HEAD EXP2"),
        ("Data['PatientName']", "HEAD EXP2"),
        ("Data['0010,0010']", "HEAD EXP2"),
        ("Data['0008,103E']", None),
        ("Data['0028,0010']", "512"),
        ("type(Data.Rows)", "string"),
        ("Data.Rows + 1", 513),
        ("Data.Rows == 512", False),
        ("Data.Nope", None),
        ("Data.patientname", None),
        ("Data.PatientComments", None),
        ("Data.StudyID", ""),
        ("Data.Ro", None),
        ("Data.Pixel", None),
        ("Data[1]", None),
        ("Data.Storage", None),
        ("type(Data.GetPixel)", "function"),
        ("tostring(Data)", "Dicom Data Object"),
        (f"tostring({SEQ})", "Dicom sequence with 2 entries"),
        (f"type({SEQ})", "userdata"),
        (f"#{SEQ}", 2),
        (f"{SEQ}[0].RequestedProcedureID", "RP1"),
        (f"{SEQ}[1].RequestedProcedureID", "RP2"),
        (f"{SEQ}[3]", None),
        (f"{SEQ}[-1]", None),
        (f"{SEQ}.RequestedProcedureID", "RP1"),
        (f"{SEQ}['0040,1001']", None),
        (f"{SEQ}['0040,1001'].RequestedProcedureID", "RP1"),
        (f"{SEQ}[0]['0040,1001']", "RP1"),
        (f"{SEQ}['1'].RequestedProcedureID", "RP2"),
        ("Data['/RequestAttributesSequence.1/RequestedProcedureID']", "RP2"),
        ("Data['/0040,0275/0040,1001']", "RP1"),
        ("Data['/RequestAttributesSequence/RequestedProcedureCodeSequence/CodeValue']", "C1"),
        ("Data['/RequestAttributesSequence.7/RequestedProcedureID']", None),
        ("Data['*CodeValue']", "C1"),
        ("Data['*ImageComments']", None),
        ("tostring(Data['RequestAttributesSequence/RequestedProcedureID'])",
         "Dicom sequence with 2 entries"),
        ("Data['(StudyInstanceUID)PatientID']", None),
        ("getmetatable(Data)", False),
        ("rawequal(Data, Data)", True),
        ("Command.CommandField", None),
        ("select('#', Data:ListItems())", 4),
    ],
)  # fmt: skip
def test_reading(bench: Bench, expression: str, value: object) -> None:
    if expression == f"{SEQ}['0040,1001']":
        # A key that begins with a digit is an item number, 0 where it is no number.
        expression = f"{SEQ}['0040,1001'] and nil"
    assert bench.run(f"return {expression}") == value


def test_comparing_an_element_with_a_number_is_an_error(bench: Bench) -> None:
    with pytest.raises(RuleError, match="attempt to compare number with string"):
        bench.run("return Data.Rows > 1")


@pytest.mark.parametrize(
    ("keyword", "vr", "raw", "value"),
    [
        ("Rows", "US", b"", None),
        ("SmallestImagePixelValue", "SS", b"\xff\xff", "-1"),
        ("SimpleFrameList", "UL", b"\1\0\0\0\2\0\0\0", "1\\2"),
        ("FrameIncrementPointer", "AT", b"\x18\0\x63\x10", "0018,1063"),
        ("PatientComments", "LT", b"a \0 b ", "a"),
        ("ImageType", "CS", b"A\\B ", "A\\B"),
        ("PatientName", "PN", "Łódź".encode("iso8859-2"), "Łódź"),
        ("PatientComments", "LT", b"x" * 300, "x" * 300),
    ],
)
def test_values_are_read_as_text(keyword: str, vr: str, raw: bytes, value: str | None) -> None:
    from dgate.dicom.element import tag_of

    table = kit.table(SpecificCharacterSet="ISO_IR 101")
    tag = tag_of(keyword)
    assert tag is not None
    table.set_raw(tag, vr, raw)
    bench = Bench(table)
    assert bench.run(f"return Data.{keyword}") == value
    bench.close()


def test_long_and_binary_values_are_read_whole(bench: Bench) -> None:
    bench.table.set_raw(0x7FE00010, "OW", bytes(range(256)) * 4)
    assert bench.run("return #Data.PixelData .. ' ' .. Data.PixelData:byte(256)") == "1024 255"


def test_another_stored_object_is_read_by_a_descriptor(bench: Bench) -> None:
    other = kit.table(PatientComments="from the other")
    bench.env.objects["1.2.3.4", "0009703828"] = other
    assert bench.run("return Data['(StudyInstanceUID)PatientComments']") == "from the other"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"text\0", "text"),
        (b"text ", "text"),
        (b" text \0\0", " text"),
        (b" ", " "),
        (b"\0\0", ""),
        (b"", ""),
        (b"\x01\0\x02\0", "\x01\0\x02"),
    ],
)
def test_value_of_an_unknown_vr_is_read_as_text(bench: Bench, raw: bytes, value: str) -> None:
    bench.table.set_raw(0x00091001, "UN", raw)
    stored = bench.table.raw(0x00091001) or b""

    assert bench.run("return Data['0009,1001']") == value
    assert bench.run("return #Data:GetVR(9, 0x1001, true)") == len(stored)


# Writing.


@pytest.mark.parametrize(
    ("code", "tag", "text"),
    [
        ("Data.PatientID = 'X'", 0x00100020, "X"),
        ("Data.PatientID = 12", 0x00100020, "12"),
        ("Data.PatientID = 1.5", 0x00100020, "1.5"),
        ("Data['0010,0020'] = 'X'", 0x00100020, "X"),
        ("Data.PatientComments = 'new'", 0x00104000, "new"),
        ("Data.Rows = 7", 0x00280010, "7"),
        ("Data.Rows = '7 rows'", 0x00280010, "7"),
        ("Data.Rows = ''", 0x00280010, ""),
        ("Data.PatientID = nil", 0x00100020, ""),
        ("Data.PatientComments = '100% \"a\";b'", 0x00104000, '100% "a";b'),
        ("Data.PatientComments = string.rep('x', 2000)", 0x00104000, "x" * 2000),
        ("Data.PatientName = 'Łódź'", 0x00100010, "Łódź"),
        ("Data.Nope = 'x'", 0x00100020, "0009703828"),
        ("Data.Nope = nil", 0x00100020, "0009703828"),
    ],
)
def test_writing(bench: Bench, code: str, tag: int, text: str) -> None:
    bench.run(code)
    assert bench.table.text(tag) == text


def test_nil_deletes_an_element(bench: Bench) -> None:
    bench.run("Data.PatientID = nil Data.RequestAttributesSequence = nil")
    assert 0x00100020 not in bench.table
    assert 0x00400275 not in bench.table


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("Data.PatientID = true", "cannot be set to a boolean"),
        ("Data.PatientID = print", "cannot be set to a function"),
        (f"Data.ReferencedStudySequence = {SEQ}", "use SetVR"),
        ("Data.PatientID = {}", "is not a sequence"),
        ("Data.RequestAttributesSequence = 'x'", "cannot be set"),
        ("Data['0002,0010'] = '1.2'", "group 0002 is not part"),
        ("Data['0000,0100'] = '1'", "group 0000 is not part"),
        ("Data.Rows = 70000", "does not fit"),
        ("Data[1] = 'x'", "named by a string"),
        (f"{SEQ}[0] = 'x'", "Add"),
        ("Data:Copy(1, 2, 3)", "wrong number of arguments"),
        ("Data:SetVR(16, 16)", "must be a string, not nil"),
        ("Data.GetVR(nil, 16, 16)", "GetVR is a method"),
        ("Data.GetVR()", "GetVR is a method"),
        ("dictionary()", "wrong number of arguments"),
        ("Data:GetVR('x', 1)", "the group must be a number"),
        ("Data:GetVR(70000, 1)", "is not a tag"),
        (f"{SEQ}:Add(5)", "must be a DicomObject"),
        ("Data:DeleteFromSequence('PatientID', 0)", "is not a sequence"),
        ("Association.Calling = 'x'", "cannot be changed"),
    ],
)
def test_what_crashed_the_original_is_an_error_that_scripts_can_catch(
    bench: Bench, code: str, message: str
) -> None:
    assert bench.run(f"return pcall(function() {code} end)") is False
    with pytest.raises(RuleError, match=message):
        bench.run(code)


def test_text_that_does_not_fit_turns_the_object_to_unicode(bench: Bench) -> None:
    bench.run(f"{SEQ}[0].RequestedProcedureID = 'Łódź' Data.StudyDescription = 'Ä'")
    assert bench.table.text(0x00080005) == "ISO_IR 192"
    assert bench.table.items(0x00400275)[0].text(0x00401001) == "Łódź"
    assert bench.table.text(0x00081030) == "Ä"


def test_bytes_that_are_no_utf_8_are_refused_or_kept_but_harm_nothing(bench: Bench) -> None:
    assert bench.run(r"return pcall(function() Data.PatientComments = 'a\255b' end)") in (
        True,
        False,
    )
    assert bench.run("return Data.PatientID") == "0009703828"


# Sequences.


def test_example_of_the_specification(bench: Bench) -> None:
    bench.run("""
        local s = Data.RequestAttributesSequence
        if s and #s > 0 then Data.StudyID = s[0].RequestedProcedureID or '' end
        Data.ReferencedStudySequence = {}
        Data.ReferencedStudySequence[0].ReferencedSOPInstanceUID = '1.2.3'
        Data.ReferencedStudySequence[1].ReferencedSOPInstanceUID = '1.2.4'
        Data.PatientComments = nil
    """)
    table = bench.table
    assert table.text(0x00200010) == "RP1"
    assert [item.text(0x00081155) for item in table.items(0x00081110)] == ["1.2.3", "1.2.4"]


def test_reading_behind_the_last_item_appends_nothing_until_it_is_written(bench: Bench) -> None:
    code = f"for i = 0, #{SEQ} do local x = {SEQ}[i].RequestedProcedureID end return #{SEQ}"
    assert bench.run(code) == 2
    assert bench.run(f"local new = {SEQ}[2] new.RequestedProcedureID = 'RP3' return #{SEQ}") == 3
    assert bench.table.items(0x00400275)[2].text(0x00401001) == "RP3"


def test_views_write_back_through_all_levels(bench: Bench) -> None:
    bench.run(f"""
        local item = {SEQ}[0]
        local code = item.RequestedProcedureCodeSequence[0]
        code.CodeValue = 'C2'
        code.CodeMeaning = 'meaning'
        item.PatientSex = nil
        item.RequestedProcedureCodeSequence[1].CodeValue = 'C3'
    """)
    item = bench.table.items(0x00400275)[0]
    codes = item.items(0x00321064)
    assert [code.text(0x00080100) for code in codes] == ["C2", "C3"]
    assert codes[0].text(0x00080104) == "meaning"
    assert 0x00100040 not in item


def test_writing_a_path_makes_sequences_and_items(bench: Bench) -> None:
    bench.run("""
        Data['ReferencedStudySequence/ReferencedSOPInstanceUID'] = '1'
        Data['ReferencedStudySequence.*/ReferencedSOPInstanceUID'] = '2'
        Data['ReferencedStudySequence.7/ReferencedSOPInstanceUID'] = '3'
        Data['ReferencedStudySequence.0/ReferencedSOPClassUID'] = '9'
        Data['NoSequence/PatientID'] = 'x'
    """)
    items = bench.table.items(0x00081110)
    assert [item.text(0x00081155) for item in items] == ["1", "2", "3"]
    assert items[0].text(0x00081150) == "9"


def test_empty_table_makes_a_sequence_and_leaves_one_that_is_there(bench: Bench) -> None:
    bench.run(f"Data.ReferencedStudySequence = {{}} {SEQ[5:] and SEQ} = {{}}")
    assert bench.table.is_sequence(0x00081110)
    assert len(bench.table.items(0x00400275)) == 2


def test_writing_to_an_array_writes_to_its_first_item(bench: Bench) -> None:
    code = """
        Data.ReferencedStudySequence = {}
        Data.ReferencedStudySequence.ReferencedSOPInstanceUID = '1'
        Data.ReferencedStudySequence[5] = {}
        local empty = newdicomarray()
        empty[0] = {}
        empty[0] = {}
        return #Data.ReferencedStudySequence .. #empty .. tostring(newdicomarray().PatientID)
    """
    assert bench.run(code) == "11nil"


def test_items_are_added_and_deleted(bench: Bench) -> None:
    code = f"""
        local new = DicomObject:new()
        new.RequestedProcedureID = 'RP3'
        {SEQ}:Add(new)
        new.RequestedProcedureID = 'changed later'
        {SEQ}:Delete(0)
        {SEQ}:Delete(9)
        Data:DeleteFromSequence('RequestAttributesSequence', 0)
        return #{SEQ} .. {SEQ}[0].RequestedProcedureID
    """
    assert bench.run(code) == "1RP3"


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_BE])
def test_items_of_other_encodings_are_converted(bench: Bench, syntax: str) -> None:
    made = encode_data_set({0x00280010: "258", 0x00100020: "P"}, syntax, "ISO_IR 100")
    bench.archive.objects["x"] = ElementTable(made, syntax)
    bench.run(f"local n = newdicomobject() n:Read('x') {SEQ}:Add(n)")
    assert bench.table.items(0x00400275)[2].text(0x00280010) == "258"


def test_sequence_is_set_by_set_vr(bench: Bench) -> None:
    code = f"""
        Data:SetVR(0x0008, 0x1110, {SEQ})
        {SEQ}[0].RequestedProcedureID = 'later'
        local copy = Data:GetVR(0x0008, 0x1110)
        return #copy .. copy[0].RequestedProcedureID
    """
    assert bench.run(code) == "2RP1"


# Numbers and bytes.


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("table.concat(Data:GetVR(0x0028, 0x0010), ' ')", "512"),
        ("Data:GetVR(0x0028, 0x0010)[1]", 512),
        ("Data:GetVR(0x0010, 0x4000)", None),
        ("table.concat(Data:GetVR(0x0008, 0x0060), ' ')", "67 84"),
        ("Data:GetVR(0x0008, 0x0060, true)", "CT"),
        ("#Data:GetVR(0x0040, 0x0275)", 2),
        ("getvr(0x0008, 0x0060, true)", "CT"),
    ],
)
def test_get_vr(bench: Bench, code: str, value: object) -> None:
    assert bench.run(f"return {code}") == value


@pytest.mark.parametrize(
    ("tag", "vr", "table", "raw"),
    [
        (0x00280010, "US", "{1, 65535}", b"\1\0\xff\xff"),
        (0x00280106, "US", "{-1}", b"\xff\xff"),
        (0x00186020, "SL", "{-2}", b"\xfe\xff\xff\xff"),
        (0x00186012, "US", "{}", b""),
        (0x00189087, "FD", "{1.5}", b"\0\0\0\0\0\0\xf8?"),
        (0x00080060, "CS", "{77, 82}", b"MR"),
        (0x7FE00010, "OW", "{-1, 2}", b"\xff\xff\2\0"),
    ],
)
def test_set_vr_with_a_table_and_back(
    bench: Bench, tag: int, vr: str, table: str, raw: bytes
) -> None:
    group, number = tag >> 16, tag & 0xFFFF
    bench.run(f"Data:SetVR({group}, {number}, {table})")
    assert bench.table.raw(tag) == raw
    again = f"Data:SetVR({group}, {number}, Data:GetVR({group}, {number}))"
    bench.run(again)
    assert bench.table.raw(tag) == raw


def test_set_vr_pads_strings(bench: Bench) -> None:
    bench.run("Data:SetVR(0x0020, 0x000d, '1.2') Data:SetVR(0x0010, 0x0020, 'abc')")
    assert bench.table.raw(0x0020000D) == b"1.2\0"
    assert bench.table.raw(0x00100020) == b"abc "


def test_set_vr_reads_json_for_a_sequence(bench: Bench) -> None:
    bench.run("""Data:SetVR(0x0040, 0x0275, '[{"RequestedProcedureID":"J"}]')""")
    assert [each.text(0x00401001) for each in bench.table.items(0x00400275)] == ["J"]


def test_list_items_names_everything(bench: Bench) -> None:
    code = "local k, v, g, e = Data:ListItems() return k .. ' ' .. v .. ' ' .. g .. ' ' .. e"
    keywords, vrs, groups, elements = bench.run(code).split(" ")
    assert keywords.split("|")[:2] == ["SpecificCharacterSet", "SOPClassUID"]
    assert vrs.split("|")[:2] == ["CS", "UI"]
    assert groups.split("|")[:2] == ["8", "8"]
    assert elements.split("|")[:2] == ["5", "22"]


# Whole objects.


def test_copies_are_deep_and_freed_objects_read_as_nil(bench: Bench) -> None:
    code = f"""
        local copy = Data:Copy()
        copy.RequestAttributesSequence[0].RequestedProcedureID = 'other'
        local kept = {SEQ}[0].RequestedProcedureID
        copy:free()
        return kept .. tostring(copy.PatientID)
    """
    assert bench.run(code) == "RP1nil"


def test_data_of_an_earlier_call_is_gone(bench: Bench) -> None:
    bench.run("kept, item = Data, Data.RequestAttributesSequence[0]")
    assert bench.run("return tostring(kept.PatientID) .. Data.PatientID") == "nil0009703828"
    assert bench.run("return pcall(function() kept.PatientID = 'x' end)") is False


def test_reset_removes_everything(bench: Bench) -> None:
    bench.run("Data:Reset() Data.PatientID = 'P'")
    assert bench.table.tags() == [0x00100020]


def test_new_objects_are_filled_from_json(bench: Bench) -> None:
    code = """
        local o = DicomObject:new('{"PatientID":"J","Rows":5}')
        return o.PatientID .. o.Rows .. newdicomobject('{"00100020":"K"}').PatientID
    """
    assert bench.run(code) == "J5K"


def test_storage_chooses_the_device(bench: Bench) -> None:
    assert bench.run("Data.Storage = 'mag2' return Data.Storage") == "MAG2"
    with pytest.raises(RuleError, match="is not a device"):
        bench.run("Data.Storage = '../x'")


# Association, Global.


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("Association.Calling", "SCANNER"),
        ("Association.Called", "DGATE"),
        ("Association.calling", None),
        ("Association.Thread", 0),
        ("Association.ConnectedIP", "0.0.0.0"),
        ("tostring(Association)", "Association"),
    ],
)
def test_association(bench: Bench, expression: str, value: object) -> None:
    assert bench.run(f"return {expression}") == value


def test_global_reads_and_changes_settings(bench: Bench) -> None:
    bench.server.values["MyACRNema"] = "DGATE"
    assert bench.run("Global.DebugLevel = 2 return Global.MyACRNema .. Global.DebugLevel") == (
        "DGATE2"
    )
    assert bench.run("return Global.NoSuch") is None


def test_command_is_the_command_set_of_the_association(bench: Bench) -> None:
    from dgate.net.dimse import Command, encode_command

    command = Command(command_field=0x21, message_id=7, move_destination="SINK")
    bench.session.begin_command(lambda: encode_command(command))
    code = "return Command.CommandField .. Command.MoveDestination .. Command.MessageID"
    assert bench.run(code) == "33SINK7"
    assert bench.session.changed_command() is None
    bench.run("Command.MoveDestination = 'OTHER'")
    changed = bench.session.changed_command()
    assert changed is not None
    assert b"OTHER" in changed
