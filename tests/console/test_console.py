"""`Global`, `gpps`, `get_amap` and every server command, behind a real gateway."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dgate.console import Console
from dgate.console.commands import COMMANDS, REPLACED
from dgate.dicom.part10 import read_meta
from dgate.errors import RuleError
from tests.acceptance.processes import Ports, wait_until
from tests.archive.intake_kit import data_set
from tests.sites import AE, Site, running_site

pytestmark = pytest.mark.integration

SPEC = frozenset(
    [
        "deleteimagefile",
        "deleteimagefromdb",
        "deletepatient",
        "deletestudy",
        "deleteseries",
        "deleteimage",
        "deletestudies",
        "deletesopfromdb",
        "deleterecord",
        "movepatient",
        "movestudy",
        "moveseries",
        "moveaccession",
        "movestudies",
        "move",
        "forward",
        "grabimagesfromserver",
        "prefetch",
        "echo",
        "modifypatid",
        "anonymize",
        "changeuid",
        "changeuidback",
        "genuid",
        "modifyimage",
        "modifystudy",
        "modifyseries",
        "modifier",
        "mergestudy",
        "mergeseries",
        "mergestudyfile",
        "mergeseriesfile",
        "attachanytopatient",
        "attachanytostudy",
        "attachanytoseries",
        "attachrtplantortstruct",
        "attachfile",
        "export",
        "submit",
        "submit2",
        "addimagefile",
        "loadanddeletedir",
        "loadhl7",
        "regen",
        "regendevice",
        "regendir",
        "regenfile",
        "initializetables",
        "clonedb",
        "packdbf",
        "indexdbf",
        "query",
        "query2",
        "patientfinder",
        "studyfinder",
        "seriesfinder",
        "imagefinder",
        "serieslister",
        "imagelister",
        "extract",
        "todbf",
        "browsepatient",
        "addrecord",
        "convert_to_gif",
        "convert_to_bmp",
        "convert_to_jpg",
        "convert_to_dicom",
        "convert_to_json",
        "dump_header",
        "extract_frames",
        "count_frames",
        "compress",
        "uncompress",
        "wadorequest",
        "wadoparse",
        "checksum",
        "read_ini",
        "put_param",
        "delete_param",
        "get_param",
        "get_ini_param",
        "get_ini",
        "get_ini_num",
        "read_amap",
        "write_amap",
        "get_amap",
        "get_amaps",
        "put_amap",
        "delete_amap",
        "get_sop",
        "put_sop",
        "delete_sop",
        "get_application",
        "put_application",
        "delete_application",
        "get_transfer",
        "put_transfer",
        "delete_transfer",
        "get_localae",
        "put_localae",
        "delete_localae",
        "get_remoteae",
        "put_remoteae",
        "delete_remoteae",
        "get_sqldef",
        "get_dic",
        "get_freestore",
        "mk_binary_dic",
        "display_status",
        "status_string",
        "debuglevel",
        "log_on",
        "debuglog_on",
        "testmode",
        "checklargestmalloc",
        "quit",
        "safequit",
        "makespace",
        "movedatatodevice",
        "moveseriestodevice",
        "selectlruforarchival",
        "selectseriestomove",
        "preparebunchforburning",
        "comparebunchafterburning",
        "deletebunchafterburning",
        "restoremagflags",
        "renamedevice",
        "verifymirrordisk",
        "lua",
        "luastart",
        "globallua",
        "testcompress",
        "testimages",
        "scheduletransfer",
        "addlocalfile",
        "dolua",
    ]
)
"""Spec lua-api.md 8.2."""


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    ports = Ports()
    yield ports
    ports.close()


@pytest.fixture
def site(tmp_path: Path, ports: Ports) -> Iterator[Site]:
    """A gateway with three images in two series of one study, and a node that is away."""
    with running_site(
        tmp_path / "site", ports, f"DEAD 127.0.0.1 {ports.take()} as", DebugLevel="0"
    ) as site:
        site.add(1)
        site.add(2)
        site.add(3, SeriesInstanceUID="1.2.3.1.2")
        yield site


@pytest.fixture
def console(site: Site) -> Console:
    console = site.outreach.server()
    assert isinstance(console, Console)
    return console


@pytest.fixture(scope="module")
def quiet_site(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Site]:
    """A gateway with one image, for commands that change nothing."""
    with running_site(tmp_path_factory.mktemp("quiet") / "site", ports) as site:
        site.add(1)
        yield site


@pytest.fixture
def ask(console: Console) -> Callable[[str], str]:
    def asked(text: str, upload: bytes = b"") -> str:
        response = console.command(text, upload)
        return "" if response is None else response.decode()

    return asked


def uids(*numbers: int) -> list[str]:
    return [f"1.2.3.1.1.{number}" for number in numbers]


Ask = Callable[..., str]


# Which there are


def test_every_command_of_the_original_is_there_or_names_what_to_do_instead() -> None:
    assert [name for name in SPEC if name not in COMMANDS and name not in REPLACED] == []
    assert [name for name in COMMANDS if name in REPLACED] == []


@pytest.mark.parametrize("name", sorted(REPLACED))
def test_replaced_command_says_what_to_do(quiet_site: Site, name: str) -> None:
    console = quiet_site.outreach.server()
    with pytest.raises(RuleError, match=f"{name} is not offered") as error:
        console.command(f"{name}:x")
    assert error.value.remedy


@pytest.mark.parametrize(
    ("name", "words", "statement", "file"),
    [
        ("testmode", "testmode TEXT", "testmode .t; save to made.txt", "made.txt.t"),
    ],
)
def test_statement_that_stands_for_a_command_does_it(
    quiet_site: Site, name: str, words: str, statement: str, file: str
) -> None:
    assert words in REPLACED[name]
    table = quiet_site.archive.load(":1.2.3.1.1.1")

    quiet_site.archive._run_script(statement, table)

    assert (quiet_site.folder / file).stat().st_size > 0


def test_no_answer_speaks_of_what_is_to_come() -> None:
    assert [name for name, text in REPLACED.items() if "yet" in text.split()] == []
    assert "`submit2`" in REPLACED["submit2"]


@pytest.mark.parametrize("text", ["nonsense:", "", ":", "--nonsense:1"])
def test_unknown_command_is_an_error(quiet_site: Site, text: str) -> None:
    with pytest.raises(RuleError, match="no server command"):
        quiet_site.outreach.server().command(text)


@pytest.mark.parametrize(
    "name",
    [
        "deletepatient",
        "deletestudy",
        "deleteseries",
        "deleteimage",
        "deletestudies",
        "deleteimagefile",
        "deleterecord",
        "addrecord",
        "modifier",
        "modifystudy",
        "modifyseries",
        "modifyimage",
        "mergestudy",
        "mergeseries",
        "makespace",
        "loadhl7",
        "regendevice",
        "regendir",
        "regenfile",
        "movedatatodevice",
        "renamedevice",
        "prefetch",
        "movepatient",
        "movestudy",
        "moveseries",
        "moveaccession",
        "movestudies",
        "move",
        "forward",
        "echo",
        "query",
        "serieslister",
        "imagelister",
        "get_param",
        "put_param",
        "delete_param",
        "get_ini_num",
        "get_amap",
        "get_sop",
        "get_sqldef",
        "get_dic",
        "debuglevel",
        "dump_header",
        "convert_to_json",
        "convert_to_dicom",
        "compress",
        "uncompress",
        "count_frames",
        "convert_to_bmp",
        "convert_to_gif",
        "convert_to_jpg",
        "extract_frames",
        "attachanytopatient",
        "attachanytostudy",
        "attachanytoseries",
        "attachrtplantortstruct",
        "attachfile",
        "anonymize",
        "modifypatid",
        "export",
        "todbf",
        "grabimagesfromserver",
        "moveseriestodevice",
        "loadanddeletedir",
    ],
)
def test_command_without_its_arguments_is_an_error_and_changes_nothing(
    quiet_site: Site, name: str
) -> None:
    with pytest.raises(RuleError):
        quiet_site.outreach.server().command(f"{name}:")
    assert quiet_site.instances() == uids(1)


# Delete


def test_image_series_study_and_patient_are_deleted(site: Site, ask: Ask) -> None:
    ask("deleteimage:P1:1.2.3.1.1.1")
    assert site.instances() == uids(2, 3)
    ask("deleteseries:P1:1.2.3.1.2")
    assert site.instances() == uids(2)
    site.add(4, StudyInstanceUID="1.4", SeriesInstanceUID="1.4.1")
    ask("deletestudy:P1:1.2.3.1")
    assert site.instances() == uids(4)
    ask("deletepatient:P1")
    assert site.instances() == []


def test_studies_are_deleted_by_date(site: Site, console: Console, ask: Ask) -> None:
    site.add(4, StudyInstanceUID="1.4", SeriesInstanceUID="1.4.1", StudyDate="20200101")

    ask("deletestudies:20240101-20241231")

    assert site.instances() == uids(4)
    with pytest.raises(RuleError, match="date"):
        console.command("deletestudies:*")


def test_object_is_deleted_by_its_file(site: Site, ask: Ask) -> None:
    [file] = site.archive.files_of("1.2.3.1.2")

    ask(f"deleteimagefile:{file}")

    assert site.instances() == uids(1, 2)


def test_rows_are_added_and_deleted(site: Site, ask: Ask) -> None:
    site.archive.execute("CREATE TABLE trials (name varchar(64), num varchar(8))")

    assert ask("addrecord:trials|name, num|'a', '1'") == "0"
    assert site.archive.query("trials", "name") == [["a"]]
    assert ask("deleterecord:trials,name = 'a'") == "0"
    assert site.archive.query("trials", "name") == []


# Change


def test_stored_objects_are_changed(site: Site, ask: Ask) -> None:
    ask('modifystudy:P1,1.2.3.1,set 0010,4000 to "a"')
    ask('modifyseries:P1,1.2.3.1.2,set 0010,4000 to "b"')
    ask('modifier:P1,,,1.2.3.1.1.1,1,set 0010,4000 to "c, d"')
    [file] = site.archive.files_of("1.2.3.1.2")
    ask(f"modifyimage:{file},set 0010,21b0 to 'e'")

    comments = [site.archive.load(f":{uid}").text(0x00104000) for uid in site.instances()]
    assert comments == ["c, d", "a", "b"]
    assert site.archive.load(":1.2.3.1.1.3").text(0x001021B0) == "e"


def test_copy_keeps_the_original(site: Site, ask: Ask) -> None:
    ask('modifier:,,,1.2.3.1.1.1,0,set 0008,0018 to "1.7.7"')

    assert site.instances() == [*uids(1, 2, 3), "1.7.7"]


def test_series_and_studies_are_merged_at_once(site: Site, ask: Ask) -> None:
    ask("mergeseries:1.2.3.1.1,1.2.3.1.2")
    assert site.archive.query("DICOMSeries", "SeriesInst") == [["1.2.3.1.1"]]

    site.add(4, StudyInstanceUID="1.4", SeriesInstanceUID="1.4.1")
    ask("mergestudy:1.2.3.1,1.4")
    assert site.archive.query("DICOMStudies", "StudyInsta") == [["1.2.3.1"]]


def three_studies(site: Site) -> None:
    """Add two more studies of the same patient."""
    for number, study in ((4, "1.4"), (5, "1.5")):
        site.add(number, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1")


def studies(site: Site) -> list[list[str]]:
    return site.archive.query("DICOMStudies", "StudyInsta", "", "StudyInsta") or []


def test_merge_answers_how_many_were_merged(site: Site, ask: Ask) -> None:
    three_studies(site)

    assert ask("mergestudy:1.2.3.1,1.4,1.5,1.4") == "2 of 2 merged"
    assert studies(site) == [["1.2.3.1"]]


def test_merge_with_an_unknown_study_changes_nothing(site: Site, ask: Ask) -> None:
    three_studies(site)

    with pytest.raises(RuleError, match="no objects of study"):
        ask("mergestudy:1.2.3.1,1.4,1.9,1.5")

    assert studies(site) == [["1.2.3.1"], ["1.4"], ["1.5"]]


def test_merge_that_fails_in_the_middle_says_what_is_left(site: Site, ask: Ask) -> None:
    three_studies(site)
    site.add(6, StudyInstanceUID="1.6", SeriesInstanceUID="1.6.1")
    [file] = site.archive.files_of("1.5.1")
    content = Path(file).read_bytes()
    # Found by the plan, and missing when it is read.
    Path(file).unlink()

    with pytest.raises(
        RuleError, match=r"1 of 3 were merged into 1\.2\.3\.1, 1\.5 was not"
    ) as error:
        ask("mergestudy:1.2.3.1,1.4,1.5,1.6")

    assert "1.2.3.1,1.5,1.6" in error.value.remedy
    assert studies(site) == [["1.2.3.1"], ["1.5"], ["1.6"]]
    Path(file).write_bytes(content)
    assert ask("mergestudy:1.2.3.1,1.5,1.6") == "2 of 2 merged"
    assert studies(site) == [["1.2.3.1"]]


@pytest.mark.parametrize(
    "text",
    [
        "deletestudy:*:1.2.3.1",
        "deletestudy:P1:1.2.3.*",
        "deleteseries:P1:1.2.3.1.?",
        "deleteimage::1.2.3.1.1.1\\1.2.3.1.1.2",
        "modifystudy:P*,1.2.3.1,newuids",
        "modifyseries:P1,1.2.3.1.*,newuids",
        "modifier:P?,,,,1,newuids",
        "modifier:P1,1.2.3.*,,,0,newuids",
    ],
)
def test_identifiers_are_no_patterns(site: Site, ask: Ask, text: str) -> None:
    with pytest.raises(RuleError, match=r"has a wildcard or a backslash|is not the UID of"):
        ask(text)
    assert site.instances() == uids(1, 2, 3)


def test_patient_is_deleted_by_a_whole_id_only(site: Site, ask: Ask) -> None:
    with pytest.raises(RuleError, match="has a wildcard"):
        ask("deletepatient:P*")
    with pytest.raises(RuleError, match="no patient 'p1'"):
        ask("deletepatient:p1")
    assert site.instances() == uids(1, 2, 3)


def test_uids_are_made_and_replaced(site: Site, ask: Ask) -> None:
    new = ask("changeuid:1.2.3")

    assert ask("genuid:") != ask("genuid:")
    assert ask("changeuid:1.2.3") == new
    assert ask(f"changeuidback:{new}") == "1.2.3"
    assert ask("changeuidback:9.9") == ""


# Add, rebuild, storage


def test_files_and_uploads_are_added(site: Site, ask: Ask) -> None:
    (site.folder / "in.dcm").write_bytes(data_set(SOPInstanceUID="1.5.1"))

    assert ask("addimagefile:in.dcm") == "0"
    assert ask("addimagefile:in.dcm,P7") != ""
    assert ask("addimagefile:", data_set(SOPInstanceUID="1.5.2")) == "0"
    assert ask("addimagefile:nosuchfile").startswith("1 ")
    assert ask("addimagefile:/etc/passwd").startswith("1 ")
    assert ask("addimagefile:acrnema.map").startswith("1 ")
    assert site.instances() == [*uids(1, 2, 3), "1.5.1", "1.5.2"]


def test_file_is_added_to_another_patient(site: Site, ask: Ask) -> None:
    data = data_set(SOPInstanceUID="1.6.1", StudyInstanceUID="1.6", SeriesInstanceUID="1.6.0")

    assert ask("addimagefile:,P7", data) == "0"

    assert site.archive.load("P7:1.6.1").text(0x00100020) == "P7"


def test_index_is_rebuilt(site: Site, ask: Ask) -> None:
    for command in ("regen:", "regendevice:MAG0", "regendir:MAG0,P1", "regenfile:P1/x.dcm"):
        for table in ("DICOMImages", "DICOMSeries", "DICOMStudies", "DICOMPatients"):
            site.archive.execute(f"DELETE FROM {table}")
        assert site.instances() == []
        ask(command)
        assert site.instances() == uids(1, 2, 3), command


def test_space_that_is_there_needs_nobody_deleted(site: Site, ask: Ask) -> None:
    assert ask("makespace:1") == "0"
    assert site.instances() == uids(1, 2, 3)


def test_patient_is_read_ahead(ask: Ask, console: Console) -> None:
    assert ask("prefetch:P1") == ""
    with pytest.raises(RuleError, match="no patient"):
        console.command("prefetch:P9")


def test_worklist_entries_come_from_hl7(site: Site, ask: Ask) -> None:
    message = (
        "MSH|^~\\&|RIS|H|D|H|20260102||ORM^O01|1|P|2.3\r"
        "PID|||P9||Worklist^Test\rORC|NW\rOBR|1|A1|A1|CT\r"
    )
    (site.folder / "order.hl7").write_text(message)

    ask("loadhl7:order.hl7")

    assert site.archive.query("DICOMWorkList", "COUNT(*)") == [["1"]]


# Send


@pytest.mark.parametrize(
    "command",
    [
        "movepatient:(local),SITE,P1",
        "movestudy:SITE,SITE,P1:1.2.3.1",
        "movestudy:SITE,SITE,1.2.3.1",
        "moveseries:,SITE,1.2.3.1.2,1.2.3.1",
        "move:SITE,SITE,P1,1.2.3.1,1.2.3.1.1,1.2.3.1.1.1",
        "movestudies:SITE,SITE,20240131",
        "moveaccession:SITE,SITE,NOSUCH",
        "forward::1.2.3.1.1.1,as,SITE",
        "forward::1.2.3.1.1.1,un,SITE",
    ],
)
def test_objects_are_sent(ask: Ask, command: str) -> None:
    assert ask(command) == "0"


@pytest.mark.parametrize(
    "command",
    [
        "movestudy:NOBODY,SITE,1.2.3.1",
        "movestudy:SITE,NOBODY,1.2.3.1",
        "movestudies:DEAD,SITE,20240131",
        "forward::1.2.3.1.1.1,as,DEAD",
    ],
)
def test_move_that_fails_says_so(ask: Ask, command: str) -> None:
    assert ask(command).startswith("1 ")


def test_node_is_up_or_down(ask: Ask) -> None:
    assert ask("echo:SITE") == "SITE is UP"
    assert ask("echo:DEAD") == "DEAD is DOWN"


# Query


def test_rows_are_listed(site: Site, ask: Ask) -> None:
    where = "SOPInstanc = '1.2.3.1.1.1'"

    assert ask(f"query:DICOMImages|SOPInstanc,ImageNumbe|{where}|%s=%s;|") == "1.2.3.1.1.1=1;"
    assert ask("query2:DICOMImages|SOPInstanc||%s;|2|").count(";") == 2
    assert ask("query:DICOMImages|SOPInstanc|||out.txt") == "0"
    assert len((site.folder / "out.txt").read_text().splitlines()) == 3


def test_series_and_images_are_listed(site: Site, ask: Ask) -> None:
    assert sorted(ask("serieslister:|P1|1.2.3.1||").split()) == ["1.2.3.1.1", "1.2.3.1.2"]
    assert sorted(ask("imagelister:SITE|P1|1.2.3.1.1|%s\\n|").split()) == uids(1, 2)
    files = ask("imagelister:(local)|P1|1.2.3.1.1||").split("*")
    assert files == site.archive.files_of("1.2.3.1.1")


# Convert


def test_object_is_given_in_other_forms(site: Site, ask: Ask, console: Console) -> None:
    assert "PatientID 2 P1" in ask("dump_header::1.2.3.1.1.1,")
    assert ask("dump_header::1.2.3.1.1.1,head.txt") == "0"
    assert "PatientID" in (site.folder / "head.txt").read_text()
    assert json.loads(ask("convert_to_json::1.2.3.1.1.1"))[0]["00100020"]["Value"] == ["P1"]
    assert ask("count_frames::1.2.3.1.1.1") == "1"
    assert ask("checksum:hello") == "4029829531"
    for command in ("uncompress::1.2.3.1.1.1,", "convert_to_dicom::1.2.3.1.1.1,0,ui,"):
        made = console.command(command)
        assert made is not None
        assert read_meta(made).sop_instance == "1.2.3.1.1.1"
    assert ask("compress::1.2.3.1.1.1,un,made.dcm") == "0"
    assert read_meta((site.folder / "made.dcm").read_bytes()).sop_instance == "1.2.3.1.1.1"
    with pytest.raises(RuleError, match="resize"):
        console.command("convert_to_dicom::1.2.3.1.1.1,128")


# Configuration


def test_settings_and_lists_are_read(site: Site, ask: Ask) -> None:
    assert ask("get_param:MyACRNema") == AE
    assert ask("get_ini_param:myacrnema,<%s>") == f"<{AE}>"
    assert ask("get_param:NoSuchKey") == ""
    assert f"MyACRNema = {AE}" in ask("get_ini:")
    assert " = " in ask("get_ini_num:0")
    assert ask("get_ini_num:9999") == ""
    titles = [line.split()[0] for line in ask("get_amaps:%s\\n").splitlines()]
    assert AE in titles
    assert ask("get_amap:0,%s") == next(iter(site.gateway.generation.configuration.nodes)).ae_title
    assert ask("get_amap:9999") == ""
    assert ask("get_sop:0").startswith("1.2.")
    assert ask("get_transfer:9999") == ""
    assert ask("get_sqldef:0,0,%s %s %s") == "16 32 PatientID"
    assert ask("get_sqldef:9,0") == ""
    assert ask("get_dic:0").count(" ") == 2
    assert ask("get_dic:99999999") == ""
    assert int(ask("get_freestore:MAG0")) > 0


def test_parameter_is_written_and_takes_effect(site: Site, ask: Ask) -> None:
    ask("put_param:MyACRNema,OTHER")

    assert "MyACRNema = OTHER" in (site.folder / "dicom.ini").read_text()
    assert site.gateway.settings.ae_title == "OTHER"
    assert ask("get_param:MyACRNema") == "OTHER"
    ask("debuglevel:1")
    assert site.gateway.settings.debug_level == 1


@pytest.mark.parametrize(
    "command",
    ["put_param:NoSuchKey,1", "put_param:TCPPort,nonsense", "put_param:MyACRNema,a\nb"],
)
def test_parameter_that_would_be_wrong_is_not_written(
    site: Site, console: Console, command: str
) -> None:
    before = (site.folder / "dicom.ini").read_bytes()

    with pytest.raises(RuleError):
        console.command(command)

    assert (site.folder / "dicom.ini").read_bytes() == before


def test_parameter_is_removed(site: Site, console: Console, ask: Ask) -> None:
    ask("delete_param:DebugLevel")

    assert "\nDebugLevel" not in (site.folder / "dicom.ini").read_text()
    with pytest.raises(RuleError, match="not set"):
        console.command("delete_param:DebugLevel")


def test_files_are_read_anew_when_asked(site: Site, ask: Ask) -> None:
    path = site.folder / "acrnema.map"
    path.write_text(path.read_text() + "NEWNODE 10.0.0.1 104 un\n")

    ask("read_amap:")

    assert site.gateway.generation.configuration.nodes.names("NEWNODE")


def test_state_is_shown(ask: Ask) -> None:
    assert f"({AE})" in ask("display_status:")
    assert "instances: 3" in ask("display_status:")
    assert ask("status_string:") == ""


def test_lua_returns_text_number_or_a_file(site: Site, console: Console, ask: Ask) -> None:
    assert ask("lua:return 'a' .. 1") == "a1"
    assert ask("lua:return 7 / 2") == "3.5"
    assert console.command("lua:local x = 1") is None
    (site.folder / "answer.txt").write_bytes(b"from a file")
    assert ask("lua:returnfile = 'answer.txt'") == "from a file"
    assert not (site.folder / "answer.txt").exists()
    with pytest.raises(RuleError, match="stop here"):
        console.command("lua:error('stop here')")


def test_only_the_global_state_is_kept(ask: Ask) -> None:
    ask("lua:kept = 5")
    ask("globallua:kept = 6")

    assert ask("lua:return tostring(kept)") == "nil"
    assert ask("globallua:return kept") == "6"


def test_chunk_runs_on_in_the_background(site: Site, ask: Ask) -> None:
    chunk = "local f = io.open('done.txt', 'w') f:write('done') f:close()"

    assert ask(f"luastart:{chunk}") == ""

    done = site.folder / "done.txt"
    wait_until(lambda: done.exists() and done.read_text() == "done", "the chunk has run")


# Global


def test_global_reads_counters_settings_and_keys(site: Site, console: Console) -> None:
    before = console.value("echorequest")
    assert isinstance(before, int)
    site.peers.echo(AE)

    wait_until(lambda: console.value("EchoRequest") == before + 1, "the echo is counted")
    assert console.value("MyACRNema") == AE
    assert console.value("BASEDIR") == f"{site.folder}/"
    assert console.value("configfile") == str(site.folder / "dicom.ini")
    assert console.value("DebugLevel") == 0
    assert console.value("CreateBasicFilmBox") == 0
    assert console.value("Version") == "1.5.0e"
    assert isinstance(console.value("StartTime"), int)
    assert console.value("NoSuchName") is None


def test_global_writes_what_dicom_ini_has(site: Site, console: Console) -> None:
    console.change("DebugLevel", "2")
    assert site.gateway.settings.debug_level == 2
    console.change("StatusString", "half way")
    assert console.value("statusstring") == "half way"
    assert console.command("status_string:") == b"half way"
    console.change("EchoRequest", "7")
    assert console.value("EchoRequest") == 7
    with pytest.raises(RuleError, match="number"):
        console.change("EchoRequest", "many")


def test_global_that_is_nowhere_is_not_written(
    site: Site, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    before = (site.folder / "dicom.ini").read_bytes()

    with caplog.at_level(logging.WARNING):
        console.change("NoSuchName", "1")

    assert "NoSuchName" in caplog.text
    assert (site.folder / "dicom.ini").read_bytes() == before


def test_entries_of_every_section_are_read(site: Site, console: Console) -> None:
    assert console.setting("sscscp", "MyACRNema", "x") == AE
    assert console.setting("nosuchsection", "key", "fallback") == "fallback"
    path = site.folder / "dicom.ini"
    path.write_text(path.read_text() + "\n[mine]\nkey = my value\n")
    console.command("read_ini:")
    assert console.setting("MINE", "KEY", "fallback") == "my value"


def test_nodes_are_counted_from_nothing(site: Site, console: Console) -> None:
    nodes = list(site.gateway.generation.configuration.nodes)
    first = console.node(0)

    assert first is not None
    assert first[0] == nodes[0].ae_title
    assert console.node(len(nodes)) is None
    assert console.node(-1) is None
