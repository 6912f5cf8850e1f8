"""Server commands that show, take apart, join and hand out objects, behind a real gateway."""

from __future__ import annotations

import csv
import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from dgate.archive.keyfile import create_key
from dgate.console import Console
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from tests.acceptance.processes import Ports
from tests.archive.intake_kit import data_set
from tests.sites import AE, Site, instance, running_site

pytestmark = pytest.mark.integration

Ask = Callable[..., str]
PLAN, STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.5", "1.2.840.10008.5.1.4.1.1.481.3"
EXISTING = "1.2.3.1.1.1"


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    ports = Ports()
    yield ports
    ports.close()


@pytest.fixture
def site(tmp_path: Path, ports: Ports) -> Iterator[Site]:
    """A gateway with two devices and two images of one study."""
    with running_site(
        tmp_path / "site", ports, MAGDevices="2", MAGDevice1=str(tmp_path / "second")
    ) as site:
        site.add(1)
        site.add(2)
        yield site


@pytest.fixture
def ask(site: Site) -> Ask:
    console = site.outreach.server()
    assert isinstance(console, Console)

    def asked(text: str, upload: bytes = b"") -> str:
        response = console.command(text, upload)
        return "" if response is None else response.decode("latin-1")

    return asked


def stored(site: Site, number: int) -> ElementTable:
    return site.archive.load(f":1.2.3.1.1.{number}")


def uids(*numbers: int) -> list[str]:
    return [f"1.2.3.1.1.{number}" for number in numbers]


# Pictures and frames


@pytest.mark.parametrize(
    ("form", "begin"), [("bmp", b"BM"), ("gif", b"GIF8"), ("jpg", b"\xff\xd8")]
)
def test_object_is_shown_as_a_picture(site: Site, ask: Ask, form: str, begin: bytes) -> None:
    assert ask(f"convert_to_{form}::{EXISTING},,,").encode("latin-1").startswith(begin)
    assert ask(f"convert_to_{form}::{EXISTING},2,shown.{form},500/1000/0") == "0"
    assert (site.folder / f"shown.{form}").read_bytes().startswith(begin)


def test_picture_has_the_size_and_window_that_were_asked_for(ask: Ask) -> None:
    from PIL import Image

    def shown(view: str) -> Image.Image:
        content = ask(f"convert_to_bmp::{EXISTING},{view}").encode("latin-1")
        return Image.open(io.BytesIO(content))

    assert shown(",,").size == (4, 4)
    assert shown("2,,").size == (2, 2)
    dark = shown(",,60000/2").convert("L").getextrema()
    assert dark == (0, 0)


def test_uploaded_object_is_shown(ask: Ask) -> None:
    picture = ask("convert_to_bmp:", data_set(SOPInstanceUID="1.2.9"))
    assert picture.startswith("BM")


@pytest.mark.parametrize(
    "arguments",
    [
        f":{EXISTING},,,//7",
        f":{EXISTING},,,//-1",
        f":{EXISTING},,,high",
        f":{EXISTING},big,,",
        ":1.2.3.9.9,,,",
    ],
)
def test_picture_that_cannot_be_made_is_an_error(ask: Ask, arguments: str) -> None:
    with pytest.raises(RuleError):
        ask(f"convert_to_bmp:{arguments}")


def frames_of(content: bytes) -> list[int]:
    found = pydicom.dcmread(io.BytesIO(content))
    return [frame[0] for frame in struct.iter_unpack("<H30x", found.PixelData)]


def add_frames(site: Site) -> None:
    """Store an object of four frames, whose first pixels are 10, 20, 30 and 40."""
    pixels = b"".join(struct.pack("<H30x", 10 * number) for number in (1, 2, 3, 4))
    site.add(
        5, NumberOfFrames="4", PixelData=pixels, FrameTimeVector=["0", "5", "6", "7"],
        FrameIncrementPointer=0x00181065, SamplesPerPixel=1, BitsStored=16, HighBit=15,
        PixelRepresentation=0, PhotometricInterpretation="MONOCHROME2",
    )  # fmt: skip


def test_frames_are_taken_out(site: Site, ask: Ask) -> None:
    add_frames(site)

    content = ask("extract_frames::1.2.3.1.1.5,,1,2").encode("latin-1")
    assert frames_of(content) == [20, 30]
    found = pydicom.dcmread(io.BytesIO(content))
    assert found.NumberOfFrames == 2
    assert list(found.FrameTimeVector) == [0, 6]
    assert found.FrameIncrementPointer == 0x00181065
    assert found.SOPInstanceUID == "1.2.3.1.1.5"
    assert ask("extract_frames::1.2.3.1.1.5,one.dcm,3") == "0"
    single = site.folder / "one.dcm"
    assert frames_of(single.read_bytes()) == [40]
    assert "FrameTimeVector" not in pydicom.dcmread(single)


def test_frames_of_compressed_objects_are_taken_out_as_they_are(site: Site, ask: Ask) -> None:
    add_frames(site)
    table = stored(site, 5)
    compressed = site.folder / "compressed.dcm"
    assert ask(f"compress::1.2.3.1.1.5,rl,{compressed.name}") == "0"
    assert table.syntax != str(pydicom.dcmread(compressed).file_meta.TransferSyntaxUID)

    assert ask(f"extract_frames:{compressed.name},some.dcm,2,3") == "0"
    assert ask("uncompress:some.dcm,plain.dcm") == "0"
    assert frames_of((site.folder / "plain.dcm").read_bytes()) == [30, 40]


@pytest.mark.parametrize("wanted", ["4,4", "2,9", "3,1", "-1,2", "x,1", "0,x"])
def test_frames_that_are_not_there_are_an_error(site: Site, ask: Ask, wanted: str) -> None:
    add_frames(site)
    with pytest.raises(RuleError):
        ask(f"extract_frames::1.2.3.1.1.5,made.dcm,{wanted}")
    assert not (site.folder / "made.dcm").exists()


# Identities

EVIL = 'O"Brien; reject %i ""'


def add_sample(site: Site) -> None:
    site.add(
        9,
        PatientID="P9",
        PatientName="NINTH^PATIENT",
        StudyInstanceUID="1.2.3.9",
        SeriesInstanceUID="1.2.3.9.9",
        StudyDescription=EVIL,
        SeriesNumber="77",
    )


def identity(table: ElementTable) -> tuple[str, str, str, str]:
    tags = (0x00100020, 0x00100010, 0x0020000D, 0x0020000E)
    patient, name, study, series = (table.text(tag) for tag in tags)
    return patient, name, study, series


@pytest.mark.parametrize(
    ("command", "study", "series"),
    [
        ("attachanytopatient", "", ""),
        ("attachanytostudy", "1.2.3.9", ""),
        ("attachanytoseries", "1.2.3.9", "1.2.3.9.9"),
    ],
)
def test_object_joins_another(site: Site, ask: Ask, command: str, study: str, series: str) -> None:
    add_sample(site)

    ask(f"{command}::{EXISTING},:1.2.3.1.1.9")

    (joined,) = (site.archive.load(f":{uid}") for uid in site.instances() if uid not in uids(2, 9))
    found = identity(joined)
    assert found[:2] == ("P9", "NINTH^PATIENT")
    assert found[2] == study or (not study and found[2] not in ("1.2.3.1", "1.2.3.9"))
    assert found[3] == series or (not series and found[3] not in ("1.2.3.1.1", "1.2.3.9.9"))
    if study:
        assert joined.text(0x00081030) == EVIL
    rows = site.archive.query("DICOMStudies", "PatientID", f"StudyInsta = '{found[2]}'")
    assert rows == [["P9"]]
    assert stored(site, 2).text(0x00100020) == "P1"


def test_objects_that_join_one_by_one_stay_together(site: Site, ask: Ask) -> None:
    add_sample(site)

    for number in (1, 2):
        ask(f"attachanytopatient::1.2.3.1.1.{number},:1.2.3.1.1.9")

    moved = [uid for uid in site.instances() if uid not in uids(9)]
    found = {identity(site.archive.load(f":{uid}")) for uid in moved}
    assert len(moved) == 2
    assert len(found) == 1


def test_nothing_is_joined_twice(site: Site, ask: Ask) -> None:
    with pytest.raises(RuleError, match="not changed"):
        ask("attachanytoseries::1.2.3.1.1.1,:1.2.3.1.1.2")


def test_plan_refers_to_another_structure_set(site: Site, ask: Ask) -> None:
    site.add(7, SOPClassUID=PLAN, PixelData=None, SeriesInstanceUID="1.2.3.1.7", Modality="RTPLAN")
    site.add(
        8, SOPClassUID=STRUCTURES, PixelData=None, SeriesInstanceUID="1.2.3.1.8",
        FrameOfReferenceUID="1.2.3.4.5", Modality="RTSTRUCT",
    )  # fmt: skip

    ask("attachrtplantortstruct::1.2.3.1.1.7,:1.2.3.1.1.8")

    plan = stored(site, 7)
    (item,) = plan.items(0x300C0060)
    assert (item.text(0x00081150), item.text(0x00081155)) == (STRUCTURES, "1.2.3.1.1.8")
    assert plan.text(0x00200052) == "1.2.3.4.5"
    with pytest.raises(RuleError, match="no RT structure set"):
        ask("attachrtplantortstruct::1.2.3.1.1.7,:1.2.3.1.1.1")
    with pytest.raises(RuleError, match="no RT plan"):
        ask("attachrtplantortstruct::1.2.3.1.1.1,:1.2.3.1.1.8")
    site.add(
        6, SOPClassUID=STRUCTURES, PixelData=None, StudyInstanceUID="1.2.3.6",
        SeriesInstanceUID="1.2.3.6.6", Modality="RTSTRUCT",
    )  # fmt: skip
    with pytest.raises(RuleError, match="different studies"):
        ask("attachrtplantortstruct::1.2.3.1.1.7,:1.2.3.1.1.6")


def test_file_is_stored_as_a_script_leaves_it(site: Site, ask: Ask) -> None:
    (site.folder / "new.dcm").write_bytes(data_set(SOPInstanceUID="1.2.3.1.1.6"))

    assert ask('attachfile:new.dcm,set PatientComments to "a, b"; set StationName to "X"') == "0"
    assert stored(site, 6).text(0x00104000) == "a, b"
    assert stored(site, 6).text(0x00081010) == "X"
    uploaded = data_set(SOPInstanceUID="1.2.3.1.1.7")
    assert ask("attachfile:,destroy", uploaded).startswith("1 ")
    assert site.instances() == uids(1, 2, 6)
    assert ask('attachfile:,set StationName to "Y"', uploaded) == "0"
    assert site.instances() == uids(1, 2, 6, 7)


def test_copy_without_what_identifies_is_stored(site: Site, ask: Ask) -> None:
    with pytest.raises(RuleError, match="no key"):
        ask(f"anonymize:TRIAL-7,:{EXISTING}")
    create_key(site.gateway.generation.settings.reidentification_key)

    assert ask(f"anonymize:TRIAL-7,:{EXISTING}") == "0"

    rows = site.archive.query("DICOMPatients", "PatientID, PatientNam", "PatientID = 'TRIAL-7'")
    assert rows is not None
    assert len(rows) == 1
    assert "SMITH" not in rows[0][1]
    assert stored(site, 1).text(0x00100020) == "P1"
    assert len(site.instances()) == 3


def test_own_script_for_anonymising_is_used(site: Site, ask: Ask) -> None:
    folder = site.folder / "lua"
    folder.mkdir(exist_ok=True)
    (folder / "anonymize_script.lua").write_text(
        "script('newuids') Data.PatientID = command_line Data.PatientName = 'BY SCRIPT'"
    )

    assert ask(f"anonymize:T8,:{EXISTING}") == "0"

    rows = site.archive.query("DICOMPatients", "PatientNam", "PatientID = 'T8'")
    assert rows == [["BY SCRIPT"]]


@pytest.mark.parametrize("patient", ["a)b", "a;b", 'a"b', "a%b", "a|b", ""])
def test_patient_id_that_would_be_code_is_refused(site: Site, ask: Ask, patient: str) -> None:
    with pytest.raises(RuleError):
        ask(f"anonymize:{patient},:{EXISTING}")
    assert len(site.instances()) == 2


def test_object_gets_another_patient_id_and_new_uids(site: Site, ask: Ask) -> None:
    ask(f"modifypatid:{EVIL},:{EXISTING}")

    assert EXISTING not in site.instances()
    (new,) = set(site.instances()) - {uids(2)[0]}
    assert site.archive.load(f":{new}").text(0x00100020) == EVIL


# In bulk


def test_objects_are_exported_as_a_zip_file(site: Site, ask: Ask) -> None:
    site.add(3, SeriesInstanceUID="1.2.3.1.2")
    script = 'ifequal "%o", "1.2.3.1.1.2"; destroy; set PatientName to "NOBODY, AT ALL"'

    assert ask(f"export:P1,1.2.3.1,,,out.zip,{script}") == "0"

    with zipfile.ZipFile(site.folder / "out.zip") as archive:
        assert archive.testzip() is None
        objects = [pydicom.dcmread(archive.open(name)) for name in archive.namelist()]
    assert sorted(each.SOPInstanceUID for each in objects) == uids(1, 3)
    assert {str(each.PatientName) for each in objects} == {"NOBODY, AT ALL"}
    assert len({len(name.split("/")) for name in archive.namelist()}) == 1
    assert stored(site, 1).text(0x00100010) == "SMITH^JOHN"


@pytest.mark.parametrize(
    "arguments",
    [
        "NOBODY,,,,out.zip,",
        "P1,,,,out.zip,destroy",
        "P1,,,,out.zip,set NoSuchElement to",
        "P1,,,,/etc/out.zip,",
        "P*,,,,out.zip,",
        ",,,,out.zip,",
    ],
)
def test_export_that_fails_leaves_no_file(site: Site, ask: Ask, arguments: str) -> None:
    with pytest.raises(RuleError):
        ask(f"export:{arguments}")
    assert not (site.folder / "out.zip").exists()


def test_rows_are_written_as_csv(site: Site, ask: Ask) -> None:
    assert ask("todbf:.|DICOMImages|ImagePat = 'P1'|SOPInstanc DESC|1") == "0"

    with (site.folder / "DICOMImages.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1
    assert uids(2)[0] in rows[0]
    with pytest.raises(RuleError):
        ask("todbf:.|DICOMImages; DROP TABLE DICOMImages||")
    with pytest.raises(RuleError):
        ask("todbf:.|NoSuchTable||")


def test_missing_images_are_fetched_from_another_server(
    site: Site, ask: Ask, tmp_path: Path, ports: Ports
) -> None:
    node = f"{AE} 127.0.0.1 {site.gateway.port} as"
    with running_site(tmp_path / "other", ports) as other:
        for number in (1, 2, 3, 4):
            other.add(number, StudyDate="20260102", InstanceNumber=str(number))
        other.add(
            8, StudyInstanceUID="1.2.3.8", SeriesInstanceUID="1.2.3.8.1", StudyDate="19990101"
        )
        nodes = other.folder / "acrnema.map"
        nodes.write_text(nodes.read_text().replace(AE, "OTHER") + f"\n{node}\n")
        other.gateway.reload("a node was added")
        mine = site.folder / "acrnema.map"
        port = other.gateway.port
        mine.write_text(f"{mine.read_text()}\nOTHER 127.0.0.1 {port} as\n")
        site.gateway.reload("a node was added")

        assert ask("grabimagesfromserver:OTHER,20260102") == "0"
        assert site.instances() == uids(1, 2, 3, 4)
        assert ask("grabimagesfromserver:OTHER,19980101-19981231") == "0"
    with pytest.raises(RuleError, match="does not answer"):
        ask("grabimagesfromserver:OTHER,20260102")


def test_folder_is_entered_and_what_is_stored_goes(site: Site, ask: Ask) -> None:
    folder = site.folder / "drop, here"
    (folder / "below").mkdir(parents=True)
    (folder / "a.dcm").write_bytes(data_set(SOPInstanceUID="1.2.3.1.1.3"))
    (folder / "below" / "b,c.dcm").write_bytes(data_set(SOPInstanceUID="1.2.3.1.1.4"))
    (folder / "text.txt").write_text("no object")
    folder = folder.rename(site.folder / "drop")

    assert ask("loadanddeletedir:drop").startswith("1 1 of the files below drop")

    assert site.instances() == uids(1, 2, 3, 4)
    left = [path.name for path in folder.rglob("*") if path.is_file()]
    assert left == ["text.txt"]


def test_folder_is_entered_for_another_patient(site: Site, ask: Ask) -> None:
    folder = site.folder / "drop"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(
        data_set(
            SOPInstanceUID="1.2.3.5.1", StudyInstanceUID="1.2.3.5", SeriesInstanceUID="1.2.3.5.5"
        )
    )

    assert ask("loadanddeletedir:drop,P5") == "0"
    assert site.archive.query("DICOMStudies", "PatientID", "StudyInsta = '1.2.3.5'") == [["P5"]]


def test_stored_objects_are_never_removed_by_entering_them(site: Site, ask: Ask) -> None:
    device = site.gateway.generation.settings.mag_devices[0]
    for place in (device, device / "P1", site.folder):
        if place.is_dir():
            with pytest.raises(RuleError, match="nothing was done"):
                ask(f"loadanddeletedir:{place}")
    assert stored(site, 1).text(0x00080018) == EXISTING


def test_series_moves_to_another_device(site: Site, ask: Ask) -> None:
    site.add(3, SeriesInstanceUID="1.2.3.1.2")

    ask("moveseriestodevice:MAG1,MAG0,1.2.3.1.2")

    rows = site.archive.query("DICOMImages", "SOPInstanc, DeviceName", "", "SOPInstanc")
    assert rows == [[uids(1)[0], "MAG0"], [uids(2)[0], "MAG0"], [uids(3)[0], "MAG1"]]
    ask("moveseriestodevice:MAG1,MAG0")
    rows = site.archive.query("DICOMImages", "DeviceName")
    assert rows == [["MAG1"]] * 3


def test_names_of_the_command_line_work_as_well(site: Site, ask: Ask) -> None:
    assert ask("dolua:return 6 * 7") == "42"
    (site.folder / "new.dcm").write_bytes(instance(6).tobytes())
    assert ask("addlocalfile:new.dcm") == "0"
    assert site.instances() == uids(1, 2, 6)


# Lua


def test_lua_gets_what_is_uploaded_and_answers_in_its_command(site: Site, ask: Ask) -> None:
    code = "lua:return #Command:GetVR(0x9999,0x0402,true) .. (Command['9999,0404'] or '')"
    assert ask(code, b"four") == "4"
    assert ask(code, b"odd") == "41"
    assert ask("lua:Command['9999,0401'] = 'said'") == "said"
    assert ask("lua:Command:SetVR(0x9999, 0x0401, 'a\\0b' .. string.char(255))") == "a\0b\xff"
    assert ask("lua:return Command['9999,0400']").startswith("lua:return")
    assert ask("globallua:return tostring(Command['9999,0402'])") == "nil"
    upload = data_set(SOPInstanceUID="1.2.3.1.1.6")
    ask(
        "lua:local name = tempfile('.dcm') local file = io.open(name, 'wb') "
        "file:write(Command:GetVR(0x9999, 0x0402, true)) file:close() "
        "local made = DicomObject:new() made:Read(name) made:AddImage()",
        upload,
    )
    assert site.instances() == uids(1, 2, 6)


def test_register_is_asked_again_when_a_script_has_changed_its_table(ask: Ask) -> None:
    code = (
        "lua:local first = changeuid('1.2.77') "
        "sql(\"UPDATE UIDMODS SET NewUID = '1.2.99' WHERE OldUID = '1.2.77'\") "
        "return tostring(first == '1.2.99') .. changeuid('1.2.77')"
    )
    assert ask(code) == "false1.2.99"


# Arguments that come apart


def test_values_with_separators_stay_one_argument(site: Site, ask: Ask) -> None:
    patient = "A:B,C|D"
    site.add(
        6, PatientID=patient, StudyInstanceUID="1.2.3.6", SeriesInstanceUID="1.2.3.6.6",
        AccessionNumber="X",
    )  # fmt: skip
    script = "lua:return tostring(servercommand({%s}))"

    def by_table(*arguments: str) -> str:
        return ask(script % ", ".join(f"[==[{each}]==]" for each in arguments))

    by_table("modifier", patient, "1.2.3.6", "", "", "1", 'set StationName to "a, b"')
    assert stored(site, 6).text(0x00081010) == "a, b"
    assert by_table("lua", "return 1, 2") == "1"
    assert by_table("get_param", "MyACRNema") == AE
    by_table("deletestudy", patient, "1.2.3.6")
    assert site.instances() == uids(1, 2)


@pytest.mark.parametrize(
    "command",
    [
        'modifier:DOE,JOHN,1.2.3.1,,,1,set StationName to "X"',
        'modifier:P1,1.2.3.1,,,set StationName to "X"',
        'modifystudy:DOE,JOHN,1.2.3.1,set StationName to "X"',
        "deletestudy:DOE:JOHN:1.2.3.1",
        "deleteseries:a:b:1.2.3.1.1",
        "deleteimage:a:b:1.2.3.1.1.1",
        "export:DOE,JOHN,1.2.3.1,,,out.zip,",
        "modifier:\x1fP1\x1f1.2.3.1\x1f\x1f\x1f1\x1fdestroy\x1fone too many",
    ],
)
def test_value_that_moves_the_arguments_is_noticed(site: Site, ask: Ask, command: str) -> None:
    with pytest.raises(RuleError):
        ask(command)
    assert site.instances() == uids(1, 2)
    assert stored(site, 1).text(0x00081010) == stored(site, 2).text(0x00081010)


def test_text_of_a_script_cannot_hold_the_separator_of_tables(ask: Ask) -> None:
    for given in ("'genuid:\\31x'", "{'genuid', 'a\\31b'}", "{'genuid', {}}"):
        with pytest.raises(RuleError):
            ask(f"lua:servercommand({given})")
