"""The modality worklist against the real server: findscu -W, WorkListMode, dgate worklist."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import run_dcmtk, store
from tests.acceptance.rawdicom import (
    EXPLICIT_LE,
    Elements,
    Offer,
    RawAssociation,
    command_set,
    identifier,
    pdata,
)
from tests.generate import Generated, Plan, write_files

WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
SPS = "ScheduledProcedureStepSequence[0]."

ENTRIES = (
    {
        "AccessionNumber": "A1",
        "PatientID": "P1",
        "PatientName": "Adams^John",
        "PatientBirthDate": "19700131",
        "PatientSex": "M",
        "StudyInstanceUID": "1.2.3.1",
        "ReqProcDescription": "CT head",
        "ReqProcID": "RP1",
        "Modality": "CT",
        "ScheduledAE": "CT1",
        "StartDate": "20260302",
        "StartTime": "0900",
        "SchedPSID": "S1",
        "SchedPSDescription": "Head without contrast",
    },
    {
        "AccessionNumber": "A2",
        "PatientID": "P2",
        "PatientName": "Müller^Jörg",
        "StudyInstanceUID": "1.2.3.2",
        "Modality": "MR",
        "ScheduledAE": "MR1",
        "StartDate": "20260303",
        "StartTime": "1030",
        "SchedPSID": "S2",
    },
    {
        "AccessionNumber": "A3",
        "PatientID": "P3",
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "StudyInstanceUID": "1.2.3.3",
        "Modality": "CT",
        "ScheduledAE": "CT1",
        "StartDate": "20260304",
        "StartTime": "1415",
        "SchedPSID": "S3",
    },
)


def query(
    gateway: Gateway, folder: Path, *keys: str, options: tuple[str, ...] = ()
) -> list[Dataset]:
    """Ask for the worklist with findscu."""
    scratch = folder / f"find{time.monotonic_ns()}"
    scratch.mkdir(parents=True)
    words = [word for key in keys for word in ("-k", key)]
    run_dcmtk(
        "findscu", "-W", "-X", "-od", scratch, *options, "-aet", "CT1", "-aec", "DGATE", *words,
        "127.0.0.1", str(gateway.port),
    )  # fmt: skip
    return [pydicom.dcmread(path, force=True) for path in sorted(scratch.iterdir())]


def ids(answers: list[Dataset]) -> list[str]:
    """Return the accession numbers, in the order of the answers."""
    return [str(answer.AccessionNumber) for answer in answers]


def load(gateway: Gateway, entries: object, name: str = "entries.json") -> str:
    """Load entries with the command line."""
    path = gateway.folder / name
    path.write_text(json.dumps(entries), "utf-8")
    return gateway.command("worklist", "load", str(path)).stdout


@pytest.fixture(scope="module")
def listed(shared_farm: Farm) -> Gateway:
    """Return a server whose worklist has three entries."""
    gateway = shared_farm.gateway()
    assert "3 entered" in load(gateway, ENTRIES)
    return gateway


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param((), ["A1", "A2", "A3"], id="everything"),
        pytest.param(("PatientID=P2",), ["A2"], id="patient"),
        pytest.param(("PatientName=ad*",), ["A1"], id="name ignores case"),
        pytest.param(("PatientName=MULLER^JORG",), ["A2"], id="name ignores accents"),
        pytest.param(("PatientName=*a*",), ["A1", "A3"], id="name in the middle"),
        pytest.param(("PatientName=A?ams^*",), ["A1"], id="question mark"),
        pytest.param((f"{SPS}Modality=CT",), ["A1", "A3"], id="modality"),
        pytest.param((f"{SPS}ScheduledStationAETitle=MR1",), ["A2"], id="station AE"),
        pytest.param(
            (f"{SPS}ScheduledStationAETitle=CT*",), ["A1", "A3"], id="station AE wildcard"
        ),
        pytest.param(
            (f"{SPS}ScheduledProcedureStepStartDate=20260303-20260304",), ["A2", "A3"], id="dates"
        ),
        pytest.param(
            (f"{SPS}ScheduledProcedureStepStartDate=-20260302",), ["A1"], id="dates up to"
        ),
        pytest.param((f"{SPS}ScheduledProcedureStepStartTime=1000-1200",), ["A2"], id="times"),
        pytest.param(("StudyInstanceUID=1.2.3.1\\1.2.3.3",), ["A1", "A3"], id="UID list"),
        pytest.param(
            (f"{SPS}Modality=CT", f"{SPS}ScheduledProcedureStepStartDate=20260304"),
            ["A3"],
            id="two keys",
        ),
        pytest.param((f"{SPS}Modality=US",), [], id="nothing"),
        pytest.param(("PatientID=p?",), ["A1", "A2", "A3"], id="IDs ignore case"),
    ],
)
def test_entries_match(
    listed: Gateway, tmp_path: Path, keys: tuple[str, ...], expected: list[str]
) -> None:
    answers = query(listed, tmp_path, "AccessionNumber", *keys)

    assert sorted(ids(answers)) == expected


def test_answer_holds_what_was_asked_for_in_the_form_it_was_asked_for(
    listed: Gateway, tmp_path: Path
) -> None:
    [answer] = query(
        listed,
        tmp_path,
        "AccessionNumber=A1",
        "PatientName",
        "PatientWeight",
        "RequestedProcedureDescription",
        f"{SPS}Modality",
        f"{SPS}ScheduledProcedureStepStartDate",
        f"{SPS}ScheduledPerformingPhysicianName",
        "RequestedProcedureCodeSequence[0].CodeValue",
    )

    [step] = answer.ScheduledProcedureStepSequence
    assert answer.SpecificCharacterSet == "ISO_IR 100"
    assert answer.PatientName == "Adams^John"
    assert answer.RequestedProcedureDescription == "CT head"
    assert answer["PatientWeight"].is_empty
    assert (step.Modality, step.ScheduledProcedureStepStartDate) == ("CT", "20260302")
    assert step["ScheduledPerformingPhysicianName"].is_empty
    assert len(step) == 3
    assert list(answer.ReferencedStudySequence) == list(answer.ReferencedPatientSequence) == []
    assert list(answer.RequestedProcedureCodeSequence) == []


def test_sequence_without_item_asks_for_all_of_it(listed: Gateway, tmp_path: Path) -> None:
    [answer] = query(listed, tmp_path, "AccessionNumber=A1", "ScheduledProcedureStepSequence")

    [step] = answer.ScheduledProcedureStepSequence
    assert step.ScheduledProcedureStepDescription == "Head without contrast"
    assert step.ScheduledProcedureStepID == "S1"
    assert step.ScheduledStationAETitle == "CT1"


def test_answers_are_sorted_by_name_when_it_is_asked_for(listed: Gateway, tmp_path: Path) -> None:
    assert ids(query(listed, tmp_path, "PatientName", "AccessionNumber")) == ["A1", "A2", "A3"]


def test_text_is_really_in_the_character_set_that_the_answer_names(
    listed: Gateway, tmp_path: Path
) -> None:
    [latin] = query(listed, tmp_path, "AccessionNumber=A2", "PatientName")
    [japanese] = query(listed, tmp_path, "AccessionNumber=A3", "PatientName")

    assert latin.SpecificCharacterSet == "ISO_IR 100"
    assert "Müller^Jörg".encode("latin-1") in latin["PatientName"].value.original_string
    assert japanese.SpecificCharacterSet == "ISO_IR 192"
    assert str(japanese.PatientName) == ENTRIES[2]["PatientName"]


@pytest.mark.parametrize(
    ("settings", "charsets"),
    [
        ({"WorkListReturnsISO_IR": 192}, ["ISO_IR 192", "ISO_IR 192", "ISO_IR 192"]),
        ({"WorkListReturnsISO_IR": 0}, ["", "ISO_IR 192", "ISO_IR 192"]),
        ({"WorkListReturnsISO_IR_100": 0}, ["", "ISO_IR 192", "ISO_IR 192"]),
        (
            {"WorkListReturnsISO_IR_100": 1, "WorkListReturnsISO_IR": 192},
            ["ISO_IR 100", "ISO_IR 100", "ISO_IR 192"],
        ),
        (
            {"WorkListReturnsISO_IR_100": -1, "WorkListReturnsISO_IR": 101},
            ["ISO_IR 101", "ISO_IR 101", "ISO_IR 192"],
        ),
    ],
    ids=["UTF-8", "none", "none by hundreds", "hundreds win", "absent hundreds"],
)
def test_character_set_is_configured(
    farm: Farm, tmp_path: Path, settings: Mapping[str, object], charsets: list[str]
) -> None:
    gateway = farm.gateway(settings=settings)
    load(gateway, ENTRIES)

    answers = query(gateway, tmp_path, "AccessionNumber", "PatientName")

    assert [str(answer.get("SpecificCharacterSet", "")) for answer in answers] == charsets
    assert [str(answer.PatientName) for answer in answers] == [
        entry["PatientName"] for entry in ENTRIES
    ]


def test_unknown_key_with_a_value_is_told_by_the_status(listed: Gateway) -> None:
    with RawAssociation.open(listed.port, [Offer(WORKLIST_FIND)]) as association:
        known = association.find({0x00100020: "P*"}, model=WORKLIST_FIND)
        unknown = association.find({0x00101030: "70"}, model=WORKLIST_FIND)

    assert [reply.status for reply in known] == [0xFF00, 0xFF00, 0xFF00, 0x0000]
    assert [reply.status for reply in unknown] == [0xFF01, 0xFF01, 0xFF01, 0x0000]


def test_cancelled_query_ends_with_status_cancel(listed: Gateway) -> None:
    with RawAssociation.open(listed.port, [Offer(WORKLIST_FIND)]) as association:
        context = association.context_for(WORKLIST_FIND, EXPLICIT_LE)
        request: Elements = {
            0x0002: WORKLIST_FIND,
            0x0100: 0x0020,
            0x0110: 7,
            0x0700: 0,
            0x0800: 1,
        }
        cancel: Elements = {0x0100: 0x0FFF, 0x0120: 7, 0x0800: 0x0101}
        # In one piece, so that the cancel is there before the first answer goes out.
        association.connection.sendall(
            pdata(context, command_set(request), command=True, last=True)
            + pdata(context, identifier({0x00100020: ""}), command=False, last=True)
            + pdata(context, command_set(cancel), command=True, last=True)
        )
        replies = [association.receive()]
        while replies[-1].status == 0xFF00:
            replies.append(association.receive())

    assert replies[-1].status == 0xFE00
    assert len(replies) < 4


@pytest.mark.parametrize("mode", [1, 2])
def test_object_takes_over_what_its_worklist_entry_says(
    farm: Farm, tmp_path: Path, mode: int
) -> None:
    gateway = farm.gateway(settings={"WorkListMode": mode})
    load(gateway, [{**ENTRIES[2], "PatientSex": "", "ReqProcDescription": "not in the object"}])
    [item] = write_files(tmp_path / "one", Plan(1))
    data_set = pydicom.dcmread(item.path)
    data_set.AccessionNumber = "A3"
    data_set.PatientName = "WRONG"
    data_set.PatientSex = "F"
    data_set.save_as(item.path)

    [answer] = store(gateway.port, item.path)

    assert answer.is_success
    [path] = gateway.stored_files()
    stored = pydicom.dcmread(path)
    assert stored.PatientID == "P3"
    assert str(stored.PatientName) == ENTRIES[2]["PatientName"]
    assert stored.SpecificCharacterSet == "ISO_IR 192"
    assert stored.StudyInstanceUID == "1.2.3.3"
    assert stored.PatientSex == "F"
    assert "RequestedProcedureDescription" not in stored
    assert stored.PixelData == data_set.PixelData
    assert "WorkListMode" in gateway.command("check", check=False).stdout


def test_object_without_entry_is_stored_by_mode_1_and_refused_by_mode_2(
    farm: Farm, objects: list[Generated]
) -> None:
    lenient = farm.gateway("lenient", settings={"WorkListMode": 1})
    strict = farm.gateway("strict", settings={"WorkListMode": 2, "StorageFailedErrorCode": 0xC123})
    load(lenient, ENTRIES)
    load(strict, ENTRIES)

    [stored] = store(lenient.port, objects[0].path)
    [refused] = store(strict.port, objects[0].path, check=False)

    assert stored.is_success
    original = pydicom.dcmread(objects[0].path)
    assert pydicom.dcmread(lenient.stored_files()[0]).PatientName == original.PatientName
    assert not refused.is_success
    assert strict.stored_files() == []
    assert "status C123" in strict.log
    assert "the worklist has no entry" in strict.log


def test_refused_object_can_be_corrected_and_tried_again(
    farm: Farm, objects: list[Generated]
) -> None:
    line = 'RejectedImageWorkListConverter0 = set AccessionNumber to "A1"; retry'
    gateway = farm.gateway(start=False, settings={"WorkListMode": 2})
    gateway.configure(**dict([line.split(" = ", 1)]))
    gateway.start()
    load(gateway, ENTRIES)

    [answer] = store(gateway.port, objects[0].path)

    assert answer.is_success
    assert pydicom.dcmread(gateway.stored_files()[0]).PatientName == "Adams^John"


def test_refused_object_can_be_passed_on(farm: Farm, objects: list[Generated]) -> None:
    sink = farm.sink()
    gateway = farm.gateway(
        settings={
            "WorkListMode": 2,
            "RejectedImageWorkListConverter0": 'set PatientComments to "unknown"; forward to SINK',
        },
        nodes=[sink.node],
    )

    [answer] = store(gateway.port, objects[0].path, check=False)

    assert not answer.is_success
    assert gateway.stored_files() == []
    sink.wait_for(1)
    [path] = sink.files().values()
    assert pydicom.dcmread(path).PatientComments == "unknown"


OBR = {
    1: "1",
    3: "ACC77^RIS",
    4: "CTHEAD^CT of the head^L",
    7: "202603021530",
    16: "D0815^House^Gregory^^Jr^Dr",
    21: "CT",
    24: "ROOM3",
    27: "URG",
}
ORDER = (
    "MSH|^~\\&|RIS|HOSP|DGATE|HOSP|20260301120000||ORM^O01|1|P|2.3||||||8859/1\r"
    "PID|1||IGNORED|P77^^^HOSP^MR|O'Brien^Märy^Ann^III^Dr||19661224|F\r"
    "ORC|NW|ORDER1\r"
    f"OBR|{'|'.join(OBR.get(number, '') for number in range(1, 28))}\r"
).encode("latin-1")


def test_hl7_order_becomes_an_entry_once_and_goes_when_it_is_cancelled(
    farm: Farm, tmp_path: Path
) -> None:
    gateway = farm.gateway()
    path = tmp_path / "order.hl7"
    path.write_bytes(ORDER)

    first = gateway.command("worklist", "load", str(path)).stdout
    path.write_bytes(ORDER.replace(b"URG", b"STAT"))
    second = gateway.command("worklist", "load", str(path)).stdout

    assert "1 entered, 0 corrected" in first
    assert "0 entered, 1 corrected" in second
    [answer] = query(
        gateway,
        tmp_path,
        "AccessionNumber=ACC77",
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "RequestingPhysician",
        "RequestedProcedureDescription",
        "RequestedProcedurePriority",
        f"{SPS}Modality",
        f"{SPS}ScheduledProcedureStepStartDate",
        f"{SPS}ScheduledProcedureStepStartTime",
        f"{SPS}ScheduledProcedureStepID",
    )
    [step] = answer.ScheduledProcedureStepSequence
    assert answer.PatientID == "P77"
    assert str(answer.PatientName) == "O'Brien^Märy^Ann^Dr^III"
    assert answer.PatientBirthDate == "19661224"
    assert str(answer.RequestingPhysician) == "House^Gregory^^Dr^Jr"
    assert answer.RequestedProcedureDescription == "CT of the head"
    assert answer.RequestedProcedurePriority == "STAT"
    assert step.Modality == "CT"
    assert step.ScheduledProcedureStepStartDate == "20260302"
    assert step.ScheduledProcedureStepStartTime == "1530"
    assert step.ScheduledProcedureStepID == "CTHEAD"

    path.write_bytes(ORDER.replace(b"ORC|NW", b"ORC|CA"))
    assert "1 removed" in gateway.command("worklist", "load", str(path)).stdout
    assert query(gateway, tmp_path, "AccessionNumber=ACC77") == []


def test_commands_work_with_and_without_a_running_server(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    words = ("AccessionNumber=B1", "PatientName=Ng^Ann", "SchedPSID=1", "Modality=CT")
    assert gateway.command("worklist", "add", *words).stdout == "entered B1 1\n"
    gateway.start()
    assert gateway.command("worklist", "add", *words, "Modality=MR").stdout == "corrected B1 1\n"
    gateway.command("worklist", "add", "AccessionNumber=B2", "PatientID=P", "SchedPSID=1")

    [row] = gateway.command("worklist", "list", "Modality=MR", "--json").stdout.splitlines()
    assert json.loads(row)["PatientName"] == "Ng^Ann"
    assert "Ng^Ann" in gateway.command("worklist", "list", "PatientName=ng*").stdout
    assert gateway.command("worklist", "delete", "B1").stdout == "1 removed\n"
    assert gateway.command("worklist", "delete", "--patient", "P").stdout == "1 removed\n"
    assert gateway.command("worklist", "delete", "--all").stdout == "0 removed\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("add", "Nonsense=1"), "has no column 'Nonsense'"),
        (("add", "PatientID=P1"), "no accession number"),
        (("add", "PatientID"), "is not COLUMN=VALUE"),
        (("list", "Nonsense=1"), "has no column 'Nonsense'"),
        (("delete",), "give an accession number"),
        (("delete", "A1", "--all"), "give an accession number"),
    ],
)
def test_command_says_what_is_wrong(listed: Gateway, words: tuple[str, ...], message: str) -> None:
    result = listed.command("worklist", *words, check=False)

    assert result.returncode != 0
    assert message in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no HL7 message"),
        (b"PID|1||x\r", "does not begin with an HL7 message header"),
        (b"MSH|^~\\&|RIS\rOBR|1||\r", "no accession number"),
        (b"MSHabc\r", "names no separators"),
        (b"MSH|^~\\&|\rgarbage without end\r", "line 2 is no HL7 segment"),
        (b"[1]", "is not an object"),
        (b'{"PatientID": ', "JSON cannot be read"),
        (b'[{"AccessionNumber": "A9"}, {"PatientID": "P9"}]', "no accession number"),
        (b'{"AccessionNumber": ["a", "b"]}', "must be a text"),
    ],
)
def test_file_that_cannot_be_understood_changes_nothing(
    listed: Gateway, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.hl7"
    path.write_bytes(content)

    result = listed.command("worklist", "load", str(path), check=False)

    assert result.returncode == 1
    assert message in result.stdout
    assert "Traceback" not in result.stdout
    assert len(listed.command("worklist", "list", "--json").stdout.splitlines()) == 3
