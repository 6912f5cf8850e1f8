"""The shipped scripts (scripts/lua) over fakes: vectors of the anonymisers, CSV, and coverage."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dgate.dicom.table import ElementTable
from dgate.errors import RuleError
from dgate.rules.files import ConfinedFiles
from dgate.rules.lua.engine import check_syntax
from dgate.rules.lua.state import Limits
from tests.rules.kit import data_set, table_of
from tests.rules.lua.library_kit import Bench

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "scripts" / "lua"
NAMES = sorted(path.name for path in SCRIPTS.glob("*.lua"))

FUNCTIONS = [
    "print",
    "debuglog",
    "script",
    "destroy",
    "reject",
    "retry",
    "sleep",
    "tickcount",
    "heapinfo",
    "dictionary",
    "genuid",
    "changeuid",
    "changeuidback",
    "crc",
    "md5",
    "dbquery",
    "sql",
    "get_sqldef",
    "get_amap",
    "gpps",
    "listoldestpatients",
    "mkdir",
    "tempfile",
    "system",
    "ConvertBinaryData",
    "readdicom",
    "resetdicom",
    "copydicom",
    "compressdicom",
    "writedicom",
    "writeheader",
    "newdicomobject",
    "newdicomarray",
    "deletedicomobject",
    "getvr",
    "setvr",
    "listitems",
    "serialize",
    "addimage",
    "getpixel",
    "setpixel",
    "getrow",
    "setrow",
    "getcolumn",
    "setcolumn",
    "getimage",
    "setimage",
    "dicomquery",
    "dicomquery2",
    "dicommove",
    "dicomget",
    "dicomread",
    "dicomstore",
    "dicomecho",
    "dicomprint",
    "dicomdelete",
    "newdicomdelete",
    "newdicommodify",
    "newdicomcopy",
    "servercommand",
    "HTML",
    "CGI",
]
"""Every global function that there is for scripts of Conquest."""
OWN_FUNCTIONS = ["crc32", "md5sum", "sha256", "deidentify"]
METHODS = [
    "new",
    "newarray",
    "free",
    "Read",
    "Write",
    "Dump",
    "Reset",
    "Copy",
    "Compress",
    "Script",
    "AddImage",
    "ListItems",
    "Serialize",
    "GetVR",
    "SetVR",
    "GetPixel",
    "SetPixel",
    "GetRow",
    "SetRow",
    "GetColumn",
    "SetColumn",
    "GetImage",
    "SetImage",
    "DeleteFromSequence",
    "Deidentify",
]
ARRAY_METHODS = ["Add", "Delete", "Serialize", "free"]


class Site(Bench):
    """A Lua state whose scripts are in a folder, with real files in it."""

    def __init__(self, folder: Path, on: ElementTable) -> None:
        super().__init__(on, Limits(base_folder=f"{folder}/"))
        self.folder = folder
        (folder / "lua").symlink_to(SCRIPTS)
        self.env.files = ConfinedFiles(folder, [SCRIPTS], folder / "temporary")
        self.server.values["BaseDir"] = f"{folder}/"

    def script(self, name: str, arguments: str | None = None) -> Any:
        """Run a shipped script over Data."""
        line = "nil" if arguments is None else f"[==[{arguments}]==]"
        return self.run(f"command_line = {line} return dofile('lua/{name}')")

    def logs(self) -> list[Path]:
        """Return the log files of the anonymisers."""
        return sorted((self.folder / "DicomAnonymized_Log").rglob("*.log"))


def subject(**changes: object) -> Dataset:
    """Return the object of the vectors, with what the anonymiser removes and what stays."""
    values = {
        "PatientSex": "M",
        "AccessionNumber": "A77",
        "InstitutionName": "Hospital",
        "OperatorsName": "Smith^Ann",
        "StudyTime": "101500",
        "SeriesNumber": "4",
        **changes,
    }
    return data_set(**values)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with the object of the vectors as `Data`."""
    made = Site(tmp_path, table_of(subject()))
    yield made
    made.close()


def text(made: Site, keyword: str) -> str | None:
    """Return an element of Data as scripts see it."""
    return made.run(f"return Data.{keyword}")  # type: ignore[no-any-return]


# All of them.


@pytest.mark.parametrize("name", NAMES)
def test_script_has_no_syntax_error(name: str) -> None:
    assert check_syntax((SCRIPTS / name).read_bytes(), f"@{name}") == ""


def test_scripts_of_issue_are_there() -> None:
    assert len(NAMES) >= 20


def test_every_function_and_method_exists(bench: Bench) -> None:
    names = FUNCTIONS + OWN_FUNCTIONS
    missing = [name for name in names if bench.run(f"return type({name})") != "function"]
    missing += [name for name in METHODS if bench.run(f"return type(Data.{name})") != "function"]
    missing += [
        name
        for name in ARRAY_METHODS
        if bench.run(f"return type(newdicomarray().{name})") != "function"
    ]

    assert missing == []


@functools.cache
def lua_code() -> str:
    """Return all Lua code: the scripts, and the strings in the tests of Lua, without this one."""
    tests = [*Path(__file__).parent.glob("test_*.py"), *ROOT.glob("tests/acceptance/test_lua*.py")]
    strings = [
        node.value
        for path in tests
        if path != Path(__file__).resolve()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\n".join([*strings, *(path.read_text("utf-8") for path in SCRIPTS.glob("*.lua"))])


@pytest.mark.parametrize(
    "pattern",
    [
        *(pytest.param(rf"(?<![\w.:]){name}\s*\(", id=name) for name in FUNCTIONS + OWN_FUNCTIONS),
        *(pytest.param(rf":{name}\s*[({{'\"]", id=f":{name}") for name in METHODS),
        *(pytest.param(rf":{name}\s*[({{'\"]", id=f"array:{name}") for name in ARRAY_METHODS),
    ],
)
def test_every_function_and_method_is_used_by_scripts_or_tests(pattern: str) -> None:
    assert re.search(pattern, lua_code())


def test_function_that_nobody_uses_would_be_noticed() -> None:
    assert not re.search(r"(?<![\w.:])no_such_function\s*\(", lua_code())


# anonymize_script.lua


def vector(site: Site, arguments: str | None, identity: str, name: str, stage: str | None) -> None:
    site.script("anonymize_script.lua", arguments)

    assert text(site, "PatientID") == identity
    assert text(site, "PatientName") == name
    assert text(site, "PatientBirthDate") in (None, "")
    assert text(site, "PatientSex") == ""
    register = site.env.uids.rows
    assert text(site, "SOPInstanceUID") != "1.2.3.4.5"
    if stage is None:
        assert register == {}
        return
    assert register[("0009703828", stage)] == (identity, "PatientID")
    assert register[("HEAD EXP2", stage)] == (name, "PatientName")
    assert register[("0009703828.ps.M", stage)] == (f"{identity}.ps.", "PatientSex")
    assert register[("1.2.3.4.5", stage)][0] == text(site, "SOPInstanceUID")
    assert {where for _, where in register} == {stage}


@pytest.mark.parametrize("arguments", [None, "", "||"])
def test_vector_without_arguments(site: Site, arguments: str | None) -> None:
    vector(site, arguments, "1262383373.0", "PAT1262383373", "")


def test_vector_with_id_stage_and_name(site: Site) -> None:
    vector(site, "TRIAL01|st1|NAME01", "TRIAL01", "NAME01", "st1")


def test_vector_of_hashed_stage(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = []

    def forward_all(olds: dict[str, str], stage: str = "") -> dict[str, str]:
        stages.append(stage)
        return {old: f"9.{number}" for number, old in enumerate(olds)}

    monkeypatch.setattr(site.env.uids, "forward_all", forward_all)
    vector(site, "TRIAL02|#h1", "TRIAL02", "PAT_TRIAL02", None)
    assert stages == ["#h1"]


def test_birth_date_is_part_of_the_calculated_id_and_kept_in_the_register(tmp_path: Path) -> None:
    site = Site(tmp_path, table_of(subject(PatientBirthDate="19010101")))
    site.script("anonymize_script.lua", "|st1")

    assert text(site, "PatientID") == "1262383373.3082642486"
    assert text(site, "PatientName") == "PAT1262383373"
    key = ("0009703828.bd.19010101", "st1")
    assert site.env.uids.rows[key] == ("1262383373.3082642486.bd.", "PatientBirthDate")


def test_lists_of_elements_are_emptied_and_removed(site: Site) -> None:
    site.script("anonymize_script.lua")

    for keyword in ("AccessionNumber", "InstitutionName", "ReferringPhysicianName", "StudyID"):
        assert text(site, keyword) == ""
    for keyword in ("StationName", "StudyDescription", "OperatorsName"):
        assert text(site, keyword) is None
    assert text(site, "StudyDate") == "20260102"
    assert text(site, "Manufacturer") == "Dgate Works"


def test_element_9999_1234_gives_id_and_name_and_goes(tmp_path: Path) -> None:
    site = Site(tmp_path, table_of(subject()))
    site.run("Data:SetVR(0x9999, 0x1234, 'SUBJ7')")
    site.script("anonymize_script.lua", "|st1")

    assert (text(site, "PatientID"), text(site, "PatientName")) == ("SUBJ7", "SUBJ7")
    assert site.run("return Data['9999,1234']") is None


def test_same_id_and_name_get_replacements_of_their_own(tmp_path: Path) -> None:
    site = Site(tmp_path, table_of(subject(PatientName="0009703828")))
    site.script("anonymize_script.lua", "T1|st1|N1")

    assert (text(site, "PatientID"), text(site, "PatientName")) == ("T1", "N1")
    assert ("PAT_0009703828", "st1") in site.env.uids.rows


def test_empty_id_and_name_stay_empty(tmp_path: Path) -> None:
    site = Site(tmp_path, table_of(subject(PatientName="", PatientID="")))
    site.script("anonymize_script.lua", "T1|#st1|N1")

    assert (text(site, "PatientID"), text(site, "PatientName")) == ("", "")


def test_earlier_mapping_wins_over_another_new_id(site: Site) -> None:
    site.env.uids.forward("0009703828", "st1", "PatientID", "FIRST")
    site.script("anonymize_script.lua", "SECOND|st1")

    assert text(site, "PatientID") == "FIRST"


def test_configuration_of_the_stage_counts_and_leaves_nothing_behind(site: Site) -> None:
    (site.folder / "st1.cfg").write_text(
        "MaintainSex = true MaintainAge = true reversible = false "
        "TagsToEmpty = { 'StudyTime' } TagsToRemove = { '0018' } logmodified = false "
        "TagsToPrint = { 'Modality' }"
    )
    site.run("Data.PatientBirthDate = '19500712' Data.KVP = '120' Data.StationName = 'ROOM1'")
    site.script("anonymize_script.lua", "|st1")

    assert text(site, "PatientSex") == "M"
    assert text(site, "PatientBirthDate") == "19500101"
    assert text(site, "StudyTime") == ""
    assert text(site, "KVP") is None
    assert text(site, "StationName") == "ROOM1"
    # logmodified = false writes no log, and the UIDs are replaced all the same.
    assert text(site, "SOPInstanceUID") != "1.2.3.4.5"
    assert site.logs() == []
    kinds = {kind for _, kind in site.env.uids.rows.values()}
    assert not kinds & {"PatientID", "PatientName", "PatientSex"}
    assert site.run("return TagsToEmpty") is None

    site.script("anonymize_script.lua", "|st2")
    assert text(site, "PatientSex") == ""


def test_tags_to_keep_lets_everything_else_go(site: Site) -> None:
    (site.folder / "st1.cfg").write_text(
        "TagsToKeep = { 'SOPClassUID', 'SOPInstanceUID', 'PatientID', '0020', 'Rows' } "
        "TagsToEmpty = {} TagsToRemove = {}"
    )
    site.run("Data:SetVR(0x0029, 0x0010, 'ACME') Data:SetVR(0x0029, 0x1001, 'secret')")
    site.script("anonymize_script.lua", "T1|st1")

    kept = site.run("return (Data:ListItems())").split("|")
    assert kept == [
        "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "PatientID",
        "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Rows",
    ]  # fmt: skip


@pytest.mark.parametrize("original", [False, True])
def test_log_and_its_name_do_not_tell_the_patient(site: Site, original: bool) -> None:
    if original:
        (site.folder / "st1.cfg").write_text("logoriginal = true")
    site.script("anonymize_script.lua", "T1|st1|N1")

    [log] = site.logs()
    uid = text(site, "SOPInstanceUID")
    path = str(log.relative_to(site.folder))
    assert path == f"DicomAnonymized_Log/T1/st1_T1_20260102_CT_{uid}.log"
    content = log.read_text()
    assert f"SOPInstanceUID: {uid}" in content
    assert "PatientName: N1" in content
    assert ("0009703828" in content) == original
    assert "HEAD EXP2" not in content
    assert ("PatientName: *** not shown ***" in content) == original


@pytest.mark.parametrize(
    ("arguments", "configuration", "message"),
    [
        ("|../../etc/x", "", "the stage has to be of letters"),
        ("|a/b", "", "the stage has to be of letters"),
        ("|st1", "TagsToRemove = { 'NoSuchElement' }", "NoSuchElement is neither a keyword"),
        ("|st1", "TagsToRemove = {", "unexpected symbol near '<eof>'"),
        ("|st1", "logroot = '/nowhere/'", "outside the folders"),
        ("|st1", "logname = function() return nil + 1 end", "attempt to perform arithmetic"),
    ],
)
def test_what_goes_wrong_is_an_error(
    site: Site, arguments: str, configuration: str, message: str
) -> None:
    (site.folder / "st1.cfg").write_text(configuration)

    with pytest.raises(RuleError, match=re.escape(message)):
        site.script("anonymize_script.lua", arguments)


def test_register_that_fails_is_an_error(site: Site) -> None:
    site.env.uids.fault = RuleError("the register is away")

    with pytest.raises(RuleError, match="the register is away"):
        site.script("anonymize_script.lua")


@pytest.mark.parametrize(
    "value", ["..", "../../x", 'a"; destroy; "b', "%i|#h", "x'; DROP TABLE UIDMODS; --", "a\u00e9;"]
)
def test_hostile_values_are_values_and_stay_in_the_folder(site: Site, value: str) -> None:
    site.run(f"Data.PatientID = [==[{value}]==] Data.PatientName = [==[{value}]==]")
    site.run(f"Data:SetVR(0x9999, 0x1234, [==[{value}]==])")
    site.script("anonymize_script.lua", "|st1")

    assert text(site, "PatientID") == value
    assert site.env.uids.rows[(value, "st1")] == (value, "PatientID")
    [log] = site.logs()
    assert log.parent.parent == site.folder / "DicomAnonymized_Log"
    site.script("deanonymize_script.lua", "st1")
    assert text(site, "PatientID") == value
    assert len(site.logs()) == 2


# There and back again.


@pytest.mark.parametrize("stage", ["", "st1"])
def test_deanonymiser_puts_back_what_was_replaced(tmp_path: Path, stage: str) -> None:
    site = Site(tmp_path, table_of(subject(PatientBirthDate="19500712")))
    before = {key: text(site, key) for key in ("PatientName", "PatientSex", "PatientBirthDate")}
    site.script("anonymize_script.lua", f"|{stage}")
    assert text(site, "PatientName") != before["PatientName"]
    site.script("deanonymize_script.lua", stage)

    assert {key: text(site, key) for key in before} == before
    assert text(site, "PatientID") == "0009703828"
    assert text(site, "SOPInstanceUID") == "1.2.3.4.5"
    assert text(site, "StationName") is None
    assert not [log for log in site.logs() if "0009703828" in str(log.relative_to(tmp_path))]


def test_deanonymiser_finds_the_stage(site: Site) -> None:
    site.script("anonymize_script.lua", "T1|st1|N1")
    site.archive.rows = [["st1"]]
    site.script("deanonymize_script.lua", "*")

    assert site.archive.calls[0] == (
        "query", "UIDMODS", "Stage", "NewUID = ?", "MODTime", ["T1"],
    )  # fmt: skip
    assert text(site, "PatientID") == "0009703828"
    assert site.run("return Data['9999,9000'], Data['9999,9001']") == "T1"
    assert site.run("return Data['9999,9001']") == "N1"


def test_deanonymiser_restores_a_name_that_was_the_id(tmp_path: Path) -> None:
    site = Site(tmp_path, table_of(subject(PatientName="0009703828")))
    site.script("anonymize_script.lua", "T1|st1|N1")
    site.script("deanonymize_script.lua", "st1")

    assert text(site, "PatientName") == "0009703828"


def test_deanonymiser_whose_log_cannot_be_written_puts_nothing_back(site: Site) -> None:
    site.script("anonymize_script.lua", "T1|st1|N1")
    [log] = site.logs()
    log.unlink()
    log.parent.rmdir()
    log.parent.write_text("no folder")

    with pytest.raises(RuleError, match="T1"):
        site.script("deanonymize_script.lua", "st1")

    assert text(site, "PatientID") == "T1"
    assert text(site, "SOPInstanceUID") != "1.2.3.4.5"


# csv.lua


def test_csv_reads_what_it_writes(site: Site) -> None:
    code = """
        local csv = require('csv')
        local rows = {{'a', 'b,c', 'say "x"'}, {'', 'two\\nlines', '3'}, {'end', '', ''}}
        csv.write('t.csv', rows)
        local back = csv.read('t.csv')
        assert(#back == #rows)
        for n, row in ipairs(rows) do
          assert(#back[n] == 3)
          for m, value in ipairs(row) do assert(back[n][m] == value, value) end
        end
        return (csv.line({'x', 1, 'y;z'}, ';'))
    """

    assert site.run(code) == 'x;1;"y;z"\r\n'
    assert (site.folder / "t.csv").read_bytes().startswith(b'a,"b,c","say ""x"""\r\n')


def test_csv_takes_other_ends_of_lines_and_a_byte_order_mark(site: Site) -> None:
    (site.folder / "t.csv").write_bytes(b"\xef\xbb\xbfID,Name\n1,A\n\n2,")
    code = """
        local rows, names = require('csv').records('t.csv')
        return names[1] .. #rows .. rows[1].ID .. rows[1].Name .. rows[2].ID .. rows[2].Name
    """

    assert site.run(code) == "ID21A2"


@pytest.mark.parametrize("content", ['a,"b', 'a,"b"c\n'])
def test_csv_names_what_is_broken(site: Site, content: str) -> None:
    (site.folder / "t.csv").write_text(content)

    with pytest.raises(RuleError, match="CSV text"):
        site.run("require('csv').read('t.csv')")
