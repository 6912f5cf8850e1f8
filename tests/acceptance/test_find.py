"""C-FIND against the real server with findscu: levels, roots, matching, character sets, cancel."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import find, run_dcmtk, store
from tests.acceptance.rawdicom import (
    EXPLICIT_LE,
    STUDY_ROOT_FIND,
    Elements,
    Offer,
    RawAssociation,
    Reply,
    command_set,
    identifier,
    pdata,
)
from tests.generate import Plan, write_files

# Patient ID, name, character set, study date, modality.
PATIENTS = (
    ("A1", "Adams^John", "ISO_IR 100", "20260110", "CT"),
    ("A2", "Adler^Joan", "ISO_IR 100", "20260211", "MR"),
    ("M1", "Müller^Jörg", "ISO_IR 100", "20260312", "CT"),
    (
        "Y1",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "ISO 2022 IR 6\\ISO 2022 IR 87",
        "20260413",
        "MR",
    ),
    ("G1", "Διονυσιος", "ISO_IR 126", "20260514", "CT"),
    ("U1", "Ångström^Żółw", "ISO_IR 192", "20260615", "US"),
)


@pytest.fixture(scope="module")
def archive(shared_farm: Farm) -> Gateway:
    """Return a server with two studies of two series of two objects for each patient."""
    gateway = shared_farm.gateway(settings={"EnableComputedFields": 1})
    folder = shared_farm.folder / "patients"
    plan = Plan(8 * len(PATIENTS), per_series=2, series_per_study=2, studies_per_patient=2)
    for place, item in enumerate(write_files(folder, plan)):
        patient_id, name, charset, date, modality = PATIENTS[place // 8]
        data_set = pydicom.dcmread(item.path)
        data_set.SpecificCharacterSet = charset.split("\\")
        data_set.PatientName = name
        data_set.PatientID = patient_id
        data_set.StudyDate = date if place % 8 < 4 else date[:6] + "28"
        data_set.StudyTime = f"{8 + place // 8:02d}3000"
        data_set.Modality = modality if place % 4 < 2 else "SR"
        data_set.save_as(item.path)
    assert all(answer.is_success for answer in store(gateway.port, folder))
    return gateway


def ids(answers: list[pydicom.Dataset]) -> list[str]:
    """Return the patient IDs of answers, sorted."""
    return sorted(str(answer.PatientID) for answer in answers)


@pytest.mark.parametrize(
    ("model", "level", "key", "count"),
    [
        ("-P", "PATIENT", "PatientID", 6),
        ("-P", "STUDY", "StudyInstanceUID", 12),
        ("-P", "SERIES", "SeriesInstanceUID", 24),
        ("-P", "IMAGE", "SOPInstanceUID", 48),
        ("-S", "STUDY", "StudyInstanceUID", 12),
        ("-S", "SERIES", "SeriesInstanceUID", 24),
        ("-S", "IMAGE", "SOPInstanceUID", 48),
        ("-O", "PATIENT", "PatientID", 6),
        ("-O", "STUDY", "StudyInstanceUID", 12),
    ],
)
def test_every_level_of_every_root_gives_one_answer_per_entity(
    archive: Gateway, tmp_path: Path, model: str, level: str, key: str, count: int
) -> None:
    answers = find(archive.port, {key: ""}, tmp_path, level=level, model=model)

    assert len({str(answer[key].value) for answer in answers}) == len(answers) == count
    assert {answer.QueryRetrieveLevel for answer in answers} == {level}


@pytest.mark.parametrize(
    ("model", "level"), [("-S", "PATIENT"), ("-O", "SERIES"), ("-O", "IMAGE"), ("-S", "NONSENSE")]
)
def test_a_level_that_the_root_does_not_have_is_refused(
    archive: Gateway, tmp_path: Path, model: str, level: str
) -> None:
    result = run_dcmtk(
        "findscu", "-v", model, "-k", f"QueryRetrieveLevel={level}", "-k", "PatientID",
        "127.0.0.1", str(archive.port), check=False,
    )  # fmt: skip

    assert "Success" not in result.stdout
    assert "Failed" in result.stdout or "Error" in result.stdout


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param({"PatientID": "A1"}, {"A1"}, id="single value"),
        pytest.param({"PatientID": "nobody"}, set(), id="no match"),
        pytest.param({"PatientID": ""}, {p[0] for p in PATIENTS}, id="universal"),
        pytest.param({"PatientID": "A*"}, {"A1", "A2"}, id="star"),
        pytest.param({"PatientID": "?1"}, {"A1", "M1", "Y1", "G1", "U1"}, id="question mark"),
        pytest.param({"PatientName": "ad*^jo*"}, {"A1", "A2"}, id="names ignore case"),
        pytest.param({"PatientName": "ADAMS^JOHN"}, {"A1"}, id="whole name ignores case"),
        pytest.param({"StudyDate": "20260211-20260413"}, {"A2", "M1", "Y1"}, id="date range"),
        pytest.param({"StudyDate": "-20260128"}, {"A1"}, id="dates up to"),
        pytest.param({"StudyDate": "20260615-"}, {"U1"}, id="dates from"),
        pytest.param({"StudyDate": "20260312"}, {"M1"}, id="one date"),
        pytest.param({"StudyTime": "0800-1000"}, {"A1", "A2"}, id="time range"),
        pytest.param(
            {"StudyDate": "20260101-20261231", "PatientName": "*m*"},
            {"A1", "M1", "Y1", "U1"},
            id="two keys are both required",
        ),
        pytest.param({"PatientName": "Müller*"}, {"M1"}, id="Latin-1 object, UTF-8 query"),
        pytest.param({"PatientName": "*山田*"}, {"Y1"}, id="Japanese object, UTF-8 query"),
        pytest.param({"PatientName": "Διο*"}, {"G1"}, id="Greek object, UTF-8 query"),
        pytest.param({"PatientName": "*Żółw"}, {"U1"}, id="UTF-8 object, UTF-8 query"),
    ],
)
def test_study_query_matches(
    archive: Gateway, tmp_path: Path, keys: dict[str, str], expected: set[str]
) -> None:
    wanted = {"PatientID": "", "StudyInstanceUID": "", "SpecificCharacterSet": "ISO_IR 192", **keys}

    answers = find(archive.port, wanted, tmp_path)

    assert {str(answer.PatientID) for answer in answers} == expected


@pytest.mark.parametrize("patient", PATIENTS, ids=lambda patient: patient[0])
def test_a_client_that_asks_for_utf8_gets_every_name_in_it(
    archive: Gateway, tmp_path: Path, patient: tuple[str, ...]
) -> None:
    keys = {"SpecificCharacterSet": "ISO_IR 192", "PatientID": patient[0], "PatientName": ""}

    answers = find(archive.port, keys, tmp_path, level="PATIENT", model="-P")

    assert [str(answer.SpecificCharacterSet) for answer in answers] == ["ISO_IR 192"]
    assert [str(answer.PatientName) for answer in answers] == [patient[1]]


def test_a_list_of_uids_finds_each_of_them(archive: Gateway, tmp_path: Path) -> None:
    studies = [
        str(answer.StudyInstanceUID)
        for answer in find(archive.port, {"StudyInstanceUID": ""}, tmp_path)
    ]
    wanted = "\\".join([*studies[1:4], generate_uid(entropy_srcs=["absent"])])

    answers = find(archive.port, {"StudyInstanceUID": wanted}, tmp_path)

    assert {str(answer.StudyInstanceUID) for answer in answers} == set(studies[1:4])


def test_a_series_query_within_a_study_stays_in_that_study(
    archive: Gateway, tmp_path: Path
) -> None:
    study = find(archive.port, {"StudyInstanceUID": "", "PatientID": "M1"}, tmp_path)[0]
    keys = {
        "StudyInstanceUID": str(study.StudyInstanceUID),
        "SeriesInstanceUID": "",
        "Modality": "",
    }

    answers = find(archive.port, keys, tmp_path, level="SERIES")

    assert sorted(str(answer.Modality) for answer in answers) == ["CT", "SR"]


def test_counts_and_modalities_are_computed(archive: Gateway, tmp_path: Path) -> None:
    patient_keys = {
        "PatientID": "A2",
        "NumberOfPatientRelatedStudies": "",
        "NumberOfPatientRelatedSeries": "",
        "NumberOfPatientRelatedInstances": "",
    }
    study_keys = {
        "PatientID": "A2",
        "StudyInstanceUID": "",
        "ModalitiesInStudy": "",
        "NumberOfStudyRelatedSeries": "",
        "NumberOfStudyRelatedInstances": "",
    }

    patients = find(archive.port, patient_keys, tmp_path, level="PATIENT", model="-P")
    studies = find(archive.port, study_keys, tmp_path)
    series = find(
        archive.port,
        {"PatientID": "A2", "SeriesInstanceUID": "", "NumberOfSeriesRelatedInstances": ""},
        tmp_path,
        level="SERIES",
    )

    assert [
        (
            int(one.NumberOfPatientRelatedStudies),
            int(one.NumberOfPatientRelatedSeries),
            int(one.NumberOfPatientRelatedInstances),
        )
        for one in patients
    ] == [(2, 4, 8)]
    assert [
        (
            sorted(one.ModalitiesInStudy),
            int(one.NumberOfStudyRelatedSeries),
            int(one.NumberOfStudyRelatedInstances),
        )
        for one in studies
    ] == [(["MR", "SR"], 2, 4)] * 2
    assert [int(one.NumberOfSeriesRelatedInstances) for one in series] == [2] * 4


def test_studies_are_found_by_a_modality_in_them(archive: Gateway, tmp_path: Path) -> None:
    answers = find(archive.port, {"ModalitiesInStudy": "US", "PatientID": ""}, tmp_path)

    assert ids(answers) == ["U1", "U1"]


def test_a_requested_key_without_a_value_comes_back_empty(archive: Gateway, tmp_path: Path) -> None:
    keys = {"PatientID": "A1", "StudyInstanceUID": "", "AdditionalPatientHistory": ""}

    answers = find(archive.port, keys, tmp_path)

    assert all("AdditionalPatientHistory" in answer for answer in answers)


def test_a_cancelled_query_ends_with_status_cancel(archive: Gateway) -> None:
    keys = identifier({0x00080052: "IMAGE", 0x00080018: "", 0x00100010: ""})
    with RawAssociation.open(archive.port, [Offer(STUDY_ROOT_FIND)]) as association:
        context = association.context_for(STUDY_ROOT_FIND, EXPLICIT_LE)
        request: Elements = {
            0x0002: STUDY_ROOT_FIND,
            0x0100: 0x0020,
            0x0110: 7,
            0x0700: 0,
            0x0800: 1,
        }
        cancel: Elements = {0x0100: 0x0FFF, 0x0120: 7, 0x0800: 0x0101}
        # In one piece, so that the cancel is there before the first answer goes out.
        association.connection.sendall(
            pdata(context, command_set(request), command=True, last=True)
            + pdata(context, keys, command=False, last=True)
            + pdata(context, command_set(cancel), command=True, last=True)
        )
        replies = list[Reply]()
        while not replies or replies[-1].status in (0xFF00, 0xFF01):
            replies.append(association.receive())

    assert replies[-1].status == 0xFE00
    assert len(replies) < 48


def test_two_hundred_queries_on_one_association_are_all_answered(archive: Gateway) -> None:
    keys = {0x00080052: "STUDY", 0x00100020: "A1", 0x0020000D: ""}
    with RawAssociation.open(archive.port, [Offer(STUDY_ROOT_FIND)]) as association:
        counts = {len(association.find(keys)) for _ in range(200)}

    assert counts == {3}


def test_findscu_cancel_leaves_the_server_in_order(archive: Gateway) -> None:
    run_dcmtk(
        "findscu", "-S", "--cancel", "1", "-k", "QueryRetrieveLevel=IMAGE", "-k", "SOPInstanceUID",
        "127.0.0.1", str(archive.port), check=False,
    )  # fmt: skip

    assert archive.answers()
