"""Event converters against the real server: what each does to queries, retrievals and storage."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import find, run_dcmtk, store
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.generate import Generated, Plan, write_files

WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
LEVEL, PATIENT_ID, PATIENT_NAME, STUDY = 0x00080052, 0x00100020, 0x00100010, 0x0020000D


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Generated]:
    """Return four objects: two patients with one study of two each, PA and PB."""
    made = write_files(
        tmp_path_factory.mktemp("pairs"), Plan(4, per_series=2, studies_per_patient=1)
    )
    for place, item in enumerate(made):
        data_set = pydicom.dcmread(item.path)
        data_set.PatientID = ("PA", "PB")[place // 2]
        data_set.PatientName = f"Name^{data_set.PatientID}"
        data_set.Modality = ("CT", "MR")[place // 2]
        data_set.save_as(item.path)
    return made


def serving(
    farm: Farm, files: list[Generated], nodes: tuple[Node, ...] = (), **settings: object
) -> Gateway:
    """Return a server with these settings and the four objects."""
    gateway = farm.gateway(settings=settings, nodes=nodes)
    assert all(answer.is_success for answer in store(gateway.port, *(each.path for each in files)))
    return gateway


def studies(gateway: Gateway, folder: Path, calling: str = "FINDSCU", **keys: str) -> list[str]:
    """Return the patient IDs that a study query gives, sorted."""
    wanted = {"PatientID": "", "PatientName": "", "StudyInstanceUID": "", "Modality": "", **keys}
    answers = find(gateway.port, wanted, folder, options=("-aet", calling))
    return sorted(str(answer.PatientID) for answer in answers)


def find_status(gateway: Gateway, calling: str = "RAW") -> tuple[int, str]:
    """Return the final status of a study query, with its error comment."""
    offer = Offer(STUDY_FIND)
    with RawAssociation.open(gateway.port, [offer], calling=calling) as association:
        last = association.find({LEVEL: "STUDY", PATIENT_ID: "", STUDY: ""})[-1]
    return last.status, last.comment


def move(gateway: Gateway, study: str, destination: str = "SINK", calling: str = "MOVESCU") -> str:
    """Ask for a study with movescu; return what it says."""
    return run_dcmtk(
        "movescu", "-d", "-S", "-aet", calling, "-aec", "DGATE", "-aem", destination,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}",
        "127.0.0.1", str(gateway.port), check=False,
    ).stdout  # fmt: skip


def get(gateway: Gateway, study: str, folder: Path) -> tuple[list[Dataset], str]:
    """Fetch a study with getscu; return the objects and what it says."""
    folder.mkdir()
    result = run_dcmtk(
        "getscu", "-d", "-S", "-od", folder, "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={study}", "127.0.0.1", str(gateway.port), check=False,
    )  # fmt: skip
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())], result.stdout


def study_of(item: Generated) -> str:
    """Return the Study Instance UID of a file."""
    return str(pydicom.dcmread(item.path).StudyInstanceUID)


# C-FIND.


def test_query_converter_changes_what_is_searched_for(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    line = 'ifequal "%u", "GUEST"; set PatientID to "PA"'
    gateway = serving(farm, files, QueryConverter0=line)

    assert studies(gateway, tmp_path) == ["PA", "PB"]
    assert studies(gateway, tmp_path, calling="GUEST") == ["PA"]
    assert studies(gateway, tmp_path, calling="GUEST", PatientID="PB") == ["PA"]


def test_query_converter_can_delete_a_key_and_set_a_level(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    line = 'delete 0010,0010; set QueryRetrieveLevel to "STUDY"'
    gateway = serving(farm, files, QueryConverter0=line)

    answers = find(gateway.port, {"PatientName": "nobody", "PatientID": ""}, tmp_path, level="X")

    assert sorted(str(answer.PatientID) for answer in answers) == ["PA", "PB"]
    assert all("PatientName" not in answer for answer in answers)


def test_query_is_refused_by_destroy_and_not_by_reject(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    gateway = serving(
        farm,
        files,
        QueryConverter0='ifequal "%u", "BAD"; destroy; ifequal "%u", "ODD"; reject',
    )

    assert find_status(gateway, "BAD") == (0xC011, "destroy by QueryConverter0.1")
    assert find_status(gateway, "ODD") == (0, "")
    assert studies(gateway, tmp_path) == ["PA", "PB"]


@pytest.mark.parametrize(
    ("filters", "is_refused"),
    [
        ({"QueryCallingAE0": "RAW"}, True),
        ({"QueryCallingAE0": "other*"}, False),
        ({"QueryCalledAE0": "dgate"}, True),
        ({"QueryCalledAE0": "OTHER"}, False),
        ({"QueryModality0": "CT"}, False),
        ({"QueryStationName0": "ROOM"}, False),
        ({"QueryCallingAE0": ""}, False),
    ],
)
def test_query_filters_decide(farm: Farm, filters: dict[str, str], is_refused: bool) -> None:
    gateway = farm.gateway(settings={"QueryConverter0": "destroy", **filters})

    assert find_status(gateway)[0] == (0xC011 if is_refused else 0)


def test_query_result_converter_changes_and_suppresses_answers(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    line = 'ifequal "%i", "PB"; destroy; set PatientName to "Secret %i"; set StudyID to "Łódź"'
    gateway = serving(farm, files, QueryResultConverter0=line)

    [answer] = find(gateway.port, {"PatientID": "", "PatientName": ""}, tmp_path)

    assert (answer.PatientID, str(answer.PatientName)) == ("PA", "Secret PA")
    assert answer.StudyID == "Łódź"
    assert answer.SpecificCharacterSet == "ISO_IR 192"


def test_every_match_passes_the_result_converter(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    gateway = serving(farm, files, QueryResultConverter0='ifequal "%i", "X"; nop; set x to "1"')
    keys = {"PatientID": "", "SOPInstanceUID": ""}

    assert len(find(gateway.port, keys, tmp_path, level="IMAGE")) == 4


# Worklist.


def test_worklist_converters(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway(
        settings={
            "WorkListQueryConverter0": 'ifequal "%u", "BAD"; destroy; '
            'set ScheduledProcedureStepSequence/Modality to "CT"',
            "ModalityWorkListQueryResultConverter0": 'ifequal "%i", "P3"; destroy; '
            'set PatientComments to "%V/ScheduledProcedureStepSequence/Modality"',
        }
    )
    for number, modality in ((1, "CT"), (2, "MR"), (3, "CT")):
        gateway.command(
            "worklist", "add", f"AccessionNumber=A{number}", f"PatientID=P{number}",
            f"Modality={modality}",
        )  # fmt: skip

    with RawAssociation.open(gateway.port, [Offer(WORKLIST_FIND)]) as association:
        replies = association.find({PATIENT_ID: ""}, model=WORKLIST_FIND)
    with RawAssociation.open(gateway.port, [Offer(WORKLIST_FIND)], calling="BAD") as association:
        [refused] = association.find({PATIENT_ID: ""}, model=WORKLIST_FIND)

    assert [reply.status for reply in replies] == [0xFF00, 0]
    assert b"P1" in replies[0].data
    assert b"CT" in replies[0].data
    assert refused.status == 0xC011


# C-MOVE and C-GET.


def test_retrieve_converter_sees_the_destination_and_refuses(
    farm: Farm, files: list[Generated]
) -> None:
    sink, other = farm.sink(), farm.sink("OTHER")
    gateway = serving(
        farm,
        files,
        (sink.node, other.node),
        RetrieveConverter0='ifequal "%s", "OTHER"; destroy',
    )

    refused = move(gateway, study_of(files[0]), "OTHER")
    allowed = move(gateway, study_of(files[0]), "SINK")

    assert "0xc013" in refused.lower()
    assert "destroy by RetrieveConverter0.1" in refused
    assert "0x0000: Success" in allowed
    sink.wait_for(2)
    assert other.files() == {}


def test_retrieve_converter_is_filtered_by_destination_and_changes_the_request(
    farm: Farm, files: list[Generated]
) -> None:
    sink, other = farm.sink(), farm.sink("OTHER")
    gateway = serving(
        farm,
        files,
        (sink.node, other.node),
        RetrieveStationName0="OTH*",
        RetrieveConverter0=f'set StudyInstanceUID to "{study_of(files[2])}"',
    )

    move(gateway, study_of(files[0]), "SINK")
    move(gateway, study_of(files[0]), "OTHER")

    sink.wait_for(2)
    other.wait_for(2)
    assert {pydicom.dcmread(path).PatientID for path in sink.files().values()} == {"PA"}
    assert {pydicom.dcmread(path).PatientID for path in other.files().values()} == {"PB"}


def test_reject_does_not_refuse_a_retrieval(farm: Farm, files: list[Generated]) -> None:
    sink = farm.sink()
    gateway = serving(farm, files, (sink.node,), RetrieveConverter0="reject")

    assert "0x0000: Success" in move(gateway, study_of(files[0]))
    sink.wait_for(2)


def test_get_passes_the_retrieve_converter_too(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    gateway = serving(farm, files, RetrieveConverter0='ifempty "%s"; destroy')

    received, said = get(gateway, study_of(files[0]), tmp_path / "got")

    assert received == []
    assert "0xc013" in said.lower()


def test_result_converter_changes_each_object_that_leaves_and_no_other(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    sink = farm.sink()
    gateway = serving(
        farm,
        files,
        (sink.node,),
        RetrieveResultConverter0='set PatientName to "Anon"; set StationName to "<%s>"; destroy',
    )
    before = {path: path.read_bytes() for path in gateway.stored_files()}

    assert "0x0000: Success" in move(gateway, study_of(files[0]))
    fetched, _ = get(gateway, study_of(files[2]), tmp_path / "got")

    sink.wait_for(2)
    moved = [pydicom.dcmread(path) for path in sink.files().values()]
    assert {(str(each.PatientName), each.StationName) for each in moved} == {("Anon", "<SINK>")}
    assert {str(each.PatientName) for each in fetched} == {"Anon"}
    assert len(fetched) == 2
    originals = {each.sop_instance: pydicom.dcmread(each.path) for each in files}
    for each in (*moved, *fetched):
        assert each.PixelData == originals[str(each.SOPInstanceUID)].PixelData
    assert {path: path.read_bytes() for path in gateway.stored_files()} == before


def test_object_whose_result_converter_fails_is_not_sent_as_it_is(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    sink = farm.sink()
    line = f'ifequal "%o", "{files[0].sop_instance}"; set Rows to "99999999"'
    gateway = serving(farm, files, (sink.node,), RetrieveResultConverter0=line)

    said = move(gateway, study_of(files[0]))
    fetched, _ = get(gateway, study_of(files[0]), tmp_path / "got")

    assert "0xb000" in said
    sink.wait_for(1)
    assert len(sink.files()) == len(fetched) == 1
    assert "RetrieveResultConverter0.1" in gateway.log


# Intake.


def test_compression_converter_runs_for_received_and_for_sent_objects(
    farm: Farm, files: list[Generated]
) -> None:
    sink = farm.sink()
    gateway = farm.gateway(
        settings={
            "IncomingCompression": "s1",
            "CompressionConverter1": 'set StudyID to "one %u"',
            "CompressionConverter2": 'set PatientComments to "two"',
        },
        nodes=[Node("SINK", sink.port, "s2")],
    )

    assert store(gateway.port, files[0].path)[0].is_success
    assert "0x0000: Success" in move(gateway, study_of(files[0]))

    [path] = gateway.stored_files()
    stored = pydicom.dcmread(path)
    sink.wait_for(1)
    [sent] = map(pydicom.dcmread, sink.files().values())
    assert (stored.StudyID, "PatientComments" in stored) == ("one STORESCU", False)
    assert (sent.StudyID, sent.PatientComments) == ("one STORESCU", "two")
    assert sent.file_meta.TransferSyntaxUID == stored.file_meta.TransferSyntaxUID
    assert sent.PixelData == stored.PixelData


def test_object_whose_compression_converter_fails_is_refused(
    farm: Farm, files: list[Generated]
) -> None:
    gateway = farm.gateway(
        settings={
            "IncomingCompression": "s1",
            "CompressionConverter1": 'set Rows to "99999999"',
        }
    )

    [answer] = store(gateway.port, files[0].path, check=False)

    assert not answer.is_success
    assert gateway.stored_files() == []


def test_object_that_the_index_refuses_can_be_corrected_and_entered(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    sink = farm.sink("QUARANTINE")
    line = 'forward to QUARANTINE; ifequal "%u", "FIX"; { set PatientID to "PA"; retry; }'
    gateway = serving(farm, files[:2], (sink.node,), RejectedImageConverter0=line)
    stranger = pydicom.dcmread(files[0].path)
    stranger.PatientID = "STRANGER"
    stranger.SOPInstanceUID += ".9"
    stranger.file_meta.MediaStorageSOPInstanceUID = stranger.SOPInstanceUID
    path = tmp_path / "stranger.dcm"
    stranger.save_as(path)

    [refused] = store(gateway.port, path, check=False)
    sink.wait_for(1)
    [kept] = store(gateway.port, path, calling="FIX")

    assert not refused.is_success
    assert kept.is_success
    [quarantined] = map(pydicom.dcmread, sink.files().values())
    assert quarantined.PatientID == "STRANGER"
    assert len(gateway.stored_files()) == 3
    assert studies(gateway, tmp_path) == ["PA"]


def test_variables_live_as_long_as_the_association(farm: Farm, files: list[Generated]) -> None:
    gateway = farm.gateway(
        settings={"ImportConverter0": 'set PatientComments to "%x."; setifempty x to "%i"'}
    )

    store(gateway.port, *(each.path for each in files[1:3]))
    store(gateway.port, files[0].path)

    comments = {
        str(each.PatientID): each.PatientComments
        for each in map(pydicom.dcmread, gateway.stored_files())
        if str(each.SOPInstanceUID) != files[0].sop_instance
    }
    [last] = [
        each.PatientComments
        for each in map(pydicom.dcmread, gateway.stored_files())
        if str(each.SOPInstanceUID) == files[0].sop_instance
    ]
    assert comments == {"PA": ".", "PB": "PA."}
    assert last == "."


def test_rules_read_the_index_the_worklist_and_other_objects(
    farm: Farm, files: list[Generated], tmp_path: Path
) -> None:
    line = (
        'ifempty "%V0008,0050"; stop; '
        'set PatientComments to "%QP0010,0010|%QS0020,000d|%QE0008,0060|%QW0010,0010|'
        '%V(StudyComments)Modality"'
    )
    gateway = serving(farm, files, ImportConverter0=line)
    gateway.command("worklist", "add", "AccessionNumber=ACC", "PatientName=Planned^Name")
    data_set = pydicom.dcmread(files[0].path)
    study, known = str(data_set.StudyInstanceUID), str(data_set.SOPInstanceUID)
    data_set.SOPInstanceUID += ".7"
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    data_set.AccessionNumber = "ACC"
    data_set.PatientName = "Changed"
    data_set.add_new("StudyComments", "LT", known)
    path = tmp_path / "again.dcm"
    data_set.save_as(path)

    assert store(gateway.port, path)[0].is_success

    [comment] = [
        each.PatientComments
        for each in map(pydicom.dcmread, gateway.stored_files())
        if each.get("AccessionNumber") == "ACC"
    ]
    assert comment == f"Name^PA|{study}|CT|Planned^Name|CT"
