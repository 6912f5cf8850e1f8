"""The tables of spec converters.md, row by row: which family knows what, and what tokens are worth.

What each statement does in detail is tested beside its module.
"""

from __future__ import annotations

import datetime
import logging
import zlib
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import RuleError
from dgate.rules.effects import Outcome
from dgate.rules.events import Event
from dgate.rules.hooks import capture
from tests.dicom.samples import explicit
from tests.rules import kit

# Section 8: every form of every statement, with the families that know it.

BOTH = [
    "nop",
    "nop text",
    "stop",
    "silentstop",
    "return",
    "defer",
    "testmode text",
    'ifnotempty "a"; nop',
    'ifempty "a"; nop',
    'ifequal "a", "b"; nop',
    'ifequal "a","b"; nop',
    'ifnotequal "a", "b"; nop',
    'ifmatch "a", "p*"; nop',
    'ifnotmatch "a", "p*"; nop',
    'ifnumequal "1", "2"; nop',
    'ifnumnotequal "1", "2"; nop',
    'ifnumgreater "1", "2"; nop',
    'ifnumless "1", "2"; nop',
    'between "7", "19"; nop',
    'write "text%n" to file',
    'append "text%n" to file',
    'append "text" TO file',
    "copy src to dst",
    "save to file",
    "save to file.v2",
    "save frame 0 to file",
    "save bmp to file",
    "save gif as file",
    "save jpg level 40 window 400 frame 0 size 512 quality 80 gamma 0.5 to file",
    "mkdir path/below",
    "rm file",
    "forward to A",
    "forward to A org B dest C channel 3 script nop",
    "forward to A channel *",
    "forward compressed as j3 to A",
    "forward compressed as j380 to A org B dest C",
    *(f"forward {level} to A" for level in ("patient", "study", "series", "image")),
    "forward study compressed as un split 1/2 after 5 to A script nop",
    "forward study date 20260101 to A",
    "forward study date 20260101-20260201 to A",
    "forward study now -1+2 to A",
    "forward study age -1+2 to A",
    "forward study modality CT to A",
    "forward study study 1.2 to A",
    "forward study series 1.2 to A",
    "forward study sop 1.2 to A",
    "forward study imagetype ORIG* to A",
    "forward study seriesdesc Head to A",
    *(f"get {level} after 5 from A" for level in ("patient", "study", "series", "image")),
    "get study modality CT from A script nop",
    "merge study modality CT seriesdesc D after 5 script nop",
    "submit study study 1.2 series 1.3 sop 1.4 after 5 target me@host:in password pw script nop",
    "prefetch",
    "preretrieve A",
    "call inner",
]
WITH_LUA = [
    'lua "x = 1"',
    'lua:x = "a;b" y = {}',
    "LUA:x = 1",
    "process series after 5 by job.lua %i",
]
WITH_PROGRAMS = [
    "system /bin/true a",
    "process study after 5 by /bin/true %i",
    "submit2 study target T command true",
    "submit2 study target T command [true %%s %%s]",
]
IMPORT = [
    "destroy",
    "destroy2",
    "reject",
    'set 0010,0020 to "v"',
    'set PatientID to "v"',
    'set x to "v"',
    'set ReferencedStudySequence/PatientID to "v"',
    'set ReferencedStudySequence.2/0010,0020 to "v"',
    'set 0008,1110.*/PatientID to "v"',
    'set PatientID if "v"',
    "set PatientID to nil",
    'set PatientID format "%%05d" to "42"',
    'set PatientID format "%%-8s" if "42"',
    'setifempty 0010,0020 to "v"',
    'setifempty y if "v"',
    "delete 0010,0020",
    "newuids",
    "newuids except 0020,000d|0020,000e",
    "newuids except 0020,000d=1.2.3",
    "newuids stage S",
    "newuids stage #S",
    "newuids except 0020,000D|1.2.3 stage S",
    "olduids stage S except 1.2.3",
    "olduids",
    "olduids except 0020,000d",
    "olduids stage S",
    "fixkodak",
    "unfixkodak",
    "tomono",
    "crop 0,0,9,9",
    "scrub +0010,00080018,PN",
    "scrub -Private,7FE0,SQ",
    "scrub -priv",
    "compression un",
    "storage MAG0",
    'script "nop"',
    "inner",
]
IMPORT_WITH_PROGRAMS = ["process with /bin/cat a"]
REQUESTS = ["virtualserver 3", "virtualservermask 5"]
EXPORT = ["delete patient after 5", "delete study", "delete series modality CT", "delete image"]
EXPORT_WITH_PROGRAMS = ["/bin/true", "/bin/true %i"]


def errors(line: str, family: str, *, programs: bool = True) -> list[str]:
    """Return the errors that the check finds in a line."""
    made = kit.rules(
        kit.converter(line, family),
        scripts={"inner": "nop"},
        allow_system_commands=programs,
    )
    found = [problem for problem in made.problems if problem.gravity.value != "warning"]
    return [
        problem.message
        for problem in found
        if "there is no Lua file job.lua" not in problem.message
    ]


@pytest.mark.parametrize("line", [*BOTH, *WITH_LUA, *WITH_PROGRAMS, *IMPORT, *IMPORT_WITH_PROGRAMS])
def test_import_lines_know(line: str) -> None:
    assert errors(line, "Import") == []


@pytest.mark.parametrize("line", [*BOTH, *WITH_LUA, *WITH_PROGRAMS, *EXPORT])
def test_export_lines_know(line: str) -> None:
    assert errors(line, "Export") == []


@pytest.mark.parametrize("line", EXPORT_WITH_PROGRAMS)
def test_export_lines_start_programs_where_that_is_allowed(line: str) -> None:
    assert errors(line, "Export") == []
    assert len(errors(line, "Export", programs=False)) == 1


@pytest.mark.parametrize("line", [*WITH_PROGRAMS, *IMPORT_WITH_PROGRAMS])
def test_no_line_starts_a_program_where_that_is_not_allowed(line: str) -> None:
    assert len(errors(line, "Import", programs=False)) == 1
    made = kit.importing(line)
    env = kit.FakeEnvironment()
    assert kit.run_import(made, env=env)[0].outcome is Outcome.REJECT
    assert env.programs.ran == []


@pytest.mark.parametrize("line", [*IMPORT, *IMPORT_WITH_PROGRAMS, *REQUESTS])
def test_export_lines_do_not_know(line: str) -> None:
    """S11: the original gave all of these to a shell."""
    assert len(errors(line, "Export", programs=False)) == 1
    made = kit.rules(kit.converter(line, "Export"), scripts={"inner": "nop"})
    env = kit.FakeEnvironment()
    with pytest.raises(RuleError):
        made.expand(0, kit.table(), kit.captured(), env)
    assert env.programs.ran == []


@pytest.mark.parametrize("line", REQUESTS)
@pytest.mark.parametrize("family", ["Query", "Retrieve", "WorkListQuery"])
def test_requests_know(line: str, family: str) -> None:
    assert errors(line, family) == []


@pytest.mark.parametrize("line", [line for line in [*BOTH, *IMPORT] if line != "inner"])
def test_keywords_are_taken_in_any_letter_case(line: str) -> None:
    word, blank, rest = line.partition(" ")
    assert errors(word.upper() + blank + rest, "Import") == []


@pytest.mark.parametrize("family", ["Import", "Export"])
@pytest.mark.parametrize(
    "line",
    [
        'if ("%m" == "CT") nop',
        "else; nop",
        "delay 5",
        "sleep 5",
        "log text",
        "tag 0010,0010",
        "silence",
        "fixphilips",
        "forward to A retry 3",
        "save frames to file",
        "between 7 and 19; nop",
    ],
)
def test_what_is_not_part_of_the_language_is_an_error(line: str, family: str) -> None:
    """Section 8.9."""
    assert errors(line, family, programs=False) != []


@pytest.mark.parametrize(
    "line",
    ['ifequal "%m", "CT" and "%i", "1"', 'ifmatch "%m", "CT" or "MR"', 'between "7", "8", "9"'],
)
def test_tests_are_not_joined_and_take_no_lists(line: str) -> None:
    """Such an argument is legal, and never equal to anything: it is warned about."""
    made = kit.importing(f'{line}; set StudyID to "on"')
    assert [(one.gravity.value, line[one.column - 1]) for one in made.problems if one.column] == [
        ("warning", '"')
    ]
    if not line.startswith("between"):
        assert kit.run_import(made)[1].text(0x00200010) == ""


# Section 5: what a result leads to, where it stands and what comes after it.


@pytest.mark.parametrize(
    ("line", "outcome", "goes_on"),
    [
        ("nop", "keep", True),
        ("destroy", "destroy", False),
        ("destroy2", "destroy", False),
        ("stop", "keep", False),
        ("silentstop", "keep", False),
        ('ifempty "%m"', "keep", False),
        ('ifempty ""', "keep", True),
        ("return", "keep", False),
        ("reject", "reject", False),
        ("defer", "keep", True),
        ('script "nop"', "keep", True),
        ('script "stop"', "keep", False),
        ('script "return"', "keep", False),
        ('script "destroy"', "destroy", False),
        ('script "reject"', "reject", False),
        ("script \"ifempty %'a%'\"", "keep", False),
        ("call inner", "keep", False),
        ("lua:", "keep", True),
        ('lua "x = 1"', "keep", True),
        ('lua "destroy()"', "destroy", False),
        ('lua "reject()"', "reject", False),
    ],
)
def test_result_decides_on_line_object_and_next_converter(
    line: str, outcome: str, goes_on: bool
) -> None:
    first = line if line == "lua:" else f'{line}; set StudyID to "on"'
    made = kit.rules(
        kit.converter(first),
        kit.converter('set AccessionNumber to "next"', index=1),
        scripts={"inner": "stop; nop"},
    )
    verdict, table = kit.run_import(made)
    assert verdict.outcome.value == outcome, verdict.reason
    if line != "lua:":
        assert (table.text(0x00200010) == "on") is goes_on
    assert (table.text(0x00080050) == "next") is (outcome == "keep")


# Section 7: every token in both families.

CHECKSUM = str(zlib.crc32(b"ROOM1", 0xFFFFFFFF) ^ 0xFFFFFFFF)
FILE = "/data/mag0/0009703828/1.2.3.4.5.dcm"
TOKENS = [
    ("%f", FILE, FILE),
    ("%b", "1.2.3.4.5", "1.2.3.4.5"),
    ("%p", "/data/mag0/0009703828", "/data/mag0/0009703828"),
    ("%m", "CT", "CT"),
    ("%s", "ROOM1", "ROOM1"),
    ("%o", "1.2.3.4.5", "1.2.3.4.5"),
    ("%i", "0009703828", "0009703828"),
    ("%u", "SCANNER", "SCANNER"),
    ("%c", "DGATE", "DGATE"),
    ("%n", "\n", "\n"),
    ("%t", "\t", "\t"),
    ("%%", "%", "%"),
    ("%^", "^", "^"),
    ("%~", "~", "~"),
    ("%[", "[", "["),
    ("%'", '"', '"'),
    ("%g", "1.2.3.6.1", "1.2.3.6.1"),
    ("%x%y%z", "abc", ""),
    ("%V0010,0010", "HEAD EXP2", "HEAD EXP2"),
    ("%VPatientName", "HEAD EXP2", "HEAD EXP2"),
    ("%A0008,1010", CHECKSUM, CHECKSUM),
    ("%E0010,0020", "1.2.3.7.1", "1.2.3.7.1"),
    ("%R0010,0020", "", ""),
    ("%QP0010,0010", "", "P0010,0010"),
    ("%QS0008,0020", "", "S0008,0020"),
    ("%QE0008,0060", "", "E0008,0060"),
    ("%QW0010,0010", "", "W0010,0010"),
    ("%QaModality", "CT", "aModality"),
    ("%h%j%k%l%w", "", ""),
]


@pytest.mark.parametrize(("token", "imported", "exported"), TOKENS, ids=[row[0] for row in TOKENS])
def test_token_is_worth(
    token: str, imported: str, exported: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    line = f'set x to "a"; set y to "b"; set z to "c"; nop <{token}>'
    kit.run_import(kit.importing(line))
    made = kit.rules(kit.converter(f"nop <{token}>; system true", "Export"))
    with pytest.raises(RuleError):
        # Programs are switched off: the line is run as far as that.
        made.expand(0, kit.table(), kit.captured(), kit.FakeEnvironment())
    assert kit.nops(caplog) == [f"nop <{imported}>", f"nop <{exported}>"]


@pytest.mark.parametrize("letter", "fbpmsoiucdgvaer")
def test_letters_of_tokens_are_taken_in_any_case(
    letter: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    rest = "PatientID" if letter in "vaer" else ""
    for form in (letter, letter.upper()):
        kit.run_import(kit.importing(f"nop <%{form}{rest}>"))
    first, second = kit.nops(caplog)
    assert first == second


@pytest.mark.parametrize("modifier", ["[1,2]", "[,2]", "[1,1]^", "^", "~"])
@pytest.mark.parametrize(
    "token", [row[0] for row in TOKENS if row[1] and row[0] not in ("%g", "%E0010,0020")]
)
def test_modifiers_follow_any_token(
    token: str, modifier: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    line = f'set x to "a"; set y to "b"; set z to "xyz"; nop <{token}>; nop <{token}{modifier}>'
    kit.run_import(kit.importing(line))
    plain, cut = (text[5:-1] for text in kit.nops(caplog))
    # With several tokens the modifier is that of the last one.
    last = plain if token != "%x%y%z" else "xyz"
    expected = {
        "[1,2]": last[1:3],
        "[,2]": last[-2:],
        "[1,1]^": last[1:2].upper(),
        "^": last.upper(),
        "~": last.lower(),
    }[modifier]
    assert cut == ("ab" if last != plain else "") + expected


def numbers() -> ElementTable:
    """Return an object with binary numbers of every kind, at the top and in an item."""
    values = {
        "RegionFlags": 70000,  # UL
        "PixelAspectRatio": "1\\2",
        "AcquisitionMatrix": [1, 2, 3],  # US
        "ReferencePixelX0": -5,  # SL
        "TagAngleSecondAxis": -3,  # SS
        "FrameReferenceTime": "1.5",
        "DiffusionBValue": 1.5,  # FD
        "RecommendedDisplayFrameRateInFloat": 2.5,  # FL
        "PatientComments": "a\0b",
        "AccessionNumber": "A1 ",
    }
    made = kit.data_set(**values)
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    made.ReferencedStudySequence = Sequence([item])
    return kit.table_of(made)


@pytest.mark.parametrize(
    ("element", "top", "nested"),
    [
        ("RegionFlags", "70000", "70000"),
        ("AcquisitionMatrix", "1\\2\\3", "1"),
        ("ReferencePixelX0", "-5", "-5"),
        ("TagAngleSecondAxis", "-3", "-3"),
        ("DiffusionBValue", "1.500000", "1.500000"),
        ("RecommendedDisplayFrameRateInFloat", "2.500000", "2.500000"),
        ("PixelAspectRatio", "1\\2", "1\\2"),
        ("PatientComments", "a", "a"),
        ("AccessionNumber", "A1", "A1"),
        ("ReferencedStudySequence", "(sequence)", ""),
        ("StudyID", "", ""),
    ],
)
def test_value_as_text(
    element: str, top: str, nested: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Section 7.2; of numbers in items of sequences only the first is given."""
    caplog.set_level(logging.INFO, "dgate.rules")
    line = f"nop %V{element}|%V/ReferencedStudySequence/{element}"
    kit.run_import(kit.importing(line), numbers())
    assert kit.nops(caplog) == [f"nop {top}|{nested}"]


def test_value_of_one_blank_stays(caplog: pytest.LogCaptureFixture) -> None:
    """Only a faulty writer makes a value of one byte."""
    caplog.set_level(logging.INFO, "dgate.rules")
    name, study = explicit(0x00100010, "PN", b" A  "), explicit(0x00200010, "SH", b" ")
    kit.run_import(
        kit.importing("nop <%VStudyID> <%VPatientName>"), ElementTable(name + study, EXPLICIT_LE)
    )
    assert kit.nops(caplog) == ["nop < > < A>"]


@pytest.mark.parametrize("text", ["%Vpatientname", "%VPATIENTNAME", "%V0010,001", "%V10,10"])
def test_keyword_is_case_sensitive_and_a_tag_has_all_its_digits(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    made = kit.importing(f"nop <{text}>")
    kit.run_import(made)
    assert len(made.problems) == 1
    assert "HEAD" not in kit.nops(caplog)[0]


# Section 3: every hook, with its filters.


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize(
    ("filters", "runs"),
    [
        ({}, True),
        ({"calling": "SCAN*"}, True),
        ({"calling": "OTHER"}, False),
        ({"called": "dgate"}, True),
        ({"called": "OTHER"}, False),
        ({"calling": "SCANNER", "called": "OTHER"}, False),
        ({"calling": ""}, False),
    ],
)
def test_hook_runs_where_its_filters_match(
    event: Event, filters: dict[str, str], runs: bool
) -> None:
    made = kit.rules(kit.converter('set StudyID to "ran"', event.value, **filters))
    table = kit.table()
    made.events.run(event, table, capture(table, "SCANNER", "DGATE"), kit.FakeEnvironment())
    assert (table.text(0x00200010) == "ran") is runs


@pytest.mark.parametrize("event", list(Event))
def test_hook_of_section_lua_has_no_filters(event: Event) -> None:
    """S22."""
    code = "Data.StudyID = 'ran'"
    made = kit.rules(kit.converter(code, event.value, lua=True, calling="OTHER"))
    table = kit.table()
    made.events.run(event, table, capture(table, "SCANNER", "DGATE"), kit.FakeEnvironment())
    assert table.text(0x00200010) == "ran"


# Section 15, what is not tested elsewhere.


def test_s6_a_quote_inside_a_string_is_written_as_a_token() -> None:
    _, table = kit.run_import(kit.importing("set PatientComments to \"say %'hi%' ok\""))
    assert table.text(0x00104000) == 'say "hi" ok'


@pytest.mark.parametrize("family", ["RejectedImage", "RejectedImageWorkList"])
def test_s7_retry_works_where_objects_were_refused(family: str) -> None:
    made = kit.rules(kit.converter('retry; set StudyID to "on"', family))
    table = kit.table()
    event = Event(family)
    decision = made.events.run(event, table, kit.captured(), kit.FakeEnvironment())
    assert decision.retry
    assert table.text(0x00200010) == "on"
    assert errors("retry", "Import") != []


@pytest.mark.parametrize(
    ("clause", "study_date", "expected"),
    [
        ("age -1+0", "20260301", "20260228-20260301"),
        ("age -1+1", "20261231", "20261230-20270101"),
        ("age -0+1", "20240228", "20240228-20240229"),
        ("age -31+31", "20260115", "20251215-20260215"),
    ],
)
def test_s15_days_are_counted_over_the_ends_of_months(
    clause: str, study_date: str, expected: str
) -> None:
    made = kit.importing(f"forward study {clause} to A")
    table = kit.table(StudyDate=study_date)
    verdict = made.run_import(table, capture(table, "A", "B"), kit.FakeEnvironment())
    assert verdict.requests[0].scope.date == expected


def test_s15_today_is_the_local_day_of_the_clock() -> None:
    made = kit.importing("forward study now -0+0 to A")
    today = datetime.datetime.fromtimestamp(kit.NOON).strftime("%Y%m%d")
    assert kit.run_import(made)[0].requests[0].scope.date == f"{today}-{today}"


@pytest.mark.parametrize("family", ["Import", "Export"])
def test_s18_quality_of_a_compression_counts_in_both_families(family: str) -> None:
    made = kit.rules(kit.converter("forward compressed as j390 to A", family))
    env = kit.FakeEnvironment()
    if family == "Export":
        [forward] = made.expand(0, kit.table(), kit.captured(), env).forwards
    else:
        [recorded] = kit.run_import(made, env=env)[0].forwards
        forward = recorded.forward
    assert forward.compression == "j390"


@pytest.mark.parametrize("event", [Event.RETRIEVE, Event.RETRIEVE_RESULT])
def test_s21_station_of_a_retrieval_is_where_it_goes(event: Event) -> None:
    made = kit.rules(kit.converter('set StudyID to "%s"', event.value, station="VIEW*"))
    for station, seen in (("VIEWER1", "VIEWER1"), ("OTHER", "")):
        table = kit.table()
        made.events.run(event, table, kit.captured(station=station), kit.FakeEnvironment())
        assert table.text(0x00200010) == seen


def test_s27_absolute_names_of_scripts_are_taken(tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_text('set StudyID to "called"\n')
    (tmp_path / "rules.lua").write_text("Data.AccessionNumber = 'lua ' .. tostring(command_line)")
    line = f"call {tmp_path}/rules.txt; {tmp_path}/rules.lua(a b)"
    verdict, table = kit.run_import(kit.importing(line))
    assert verdict.outcome is Outcome.KEEP, verdict.reason
    assert (table.text(0x00200010), table.text(0x00080050)) == ("called", "lua a b")
