"""Settings of dicom.ini whose effect shows on the wire or in the database of a real server."""

from __future__ import annotations

import io
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import run_dcmtk, store
from tests.acceptance.processes import START_DEADLINE_S, WAIT_DEADLINE_S
from tests.acceptance.rawdicom import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    Closed,
    Offer,
    RawAssociation,
    Request,
    identifier,
    listening,
    next_request,
)
from tests.generate import Generated, Kind, Plan, write_files


def move(gateway: Gateway, destination: str, study: str = "1.2.3") -> int | None:
    """Ask for a study to be moved; return the final status."""
    with RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_MOVE)]) as association:
        command = {
            0x0002: STUDY_ROOT_MOVE,
            0x0100: 0x0021,
            0x0110: association.next_id(),
            0x0600: destination,
            0x0700: 0,
        }
        keys = identifier({0x00080052: "STUDY", 0x0020000D: study})
        association.send(association.context_for(STUDY_ROOT_MOVE), command, keys)
        reply = association.receive()
        while reply.status == 0xFF00:
            reply = association.receive()
        return reply.status


def answers(gateway: Gateway, level: str, tag: int, **more: str) -> list[str]:
    """Ask for everything at a level; return one element of each answer, in order."""
    keys = {0x00080052: level, tag: ""} | {int(key[1:], 16): value for key, value in more.items()}
    model = "1.2.840.10008.5.1.4.1.2.1.1" if level == "PATIENT" else STUDY_ROOT_FIND
    with RawAssociation.open(gateway.port, [Offer(model)]) as association:
        replies = association.find(keys, model=model)
    found = (pydicom.dcmread(io.BytesIO(one.data), force=True) for one in replies if one.data)
    return [str(one[tag].value) for one in found]


def test_micropacs_selects_the_section(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    text = gateway.ini.read_text().replace("[sscscp]", "[other]").replace("MicroPACS", "# was")
    gateway.ini.write_text(f"[sscscp]\nMicroPACS = other\nMyACRNema = WRONG\n\n{text}")

    gateway.start()
    assert "[other] 2" in gateway.log
    assert "WRONG is listening" not in gateway.log


def test_titles_and_pdu_size_of_what_is_sent(farm: Farm, objects: list[Generated]) -> None:
    with listening() as server:
        node = Node("Sink", server.getsockname()[1])
        gateway = farm.gateway(
            settings={
                "MyACRNema": "MYGATE",
                "PDUSize": 20000,
                "ImportConverter0": "forward to Sink",
                "RetryFirst": 60,
            },
            nodes=[node],
        )
        store(gateway.port, objects[0].path)

        request = next_request(server)
    assert request == Request(b"Sink".ljust(16), b"MYGATE".ljust(16), 20000)


def test_padding_and_upper_case_of_titles(farm: Farm, objects: list[Generated]) -> None:
    with listening() as server:
        gateway = farm.gateway(
            settings={"PadAEWithZeros": 1, "SendUpperCaseAE": 1, "MyACRNema": "Gate"},
            nodes=[Node("Sink", server.getsockname()[1])],
        )
        store(gateway.port, objects[0].path)
        association = RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_MOVE)])
        command = {
            0x0002: STUDY_ROOT_MOVE,
            0x0100: 0x0021,
            0x0110: 1,
            0x0600: "Sink",
            0x0700: 0,
        }
        keys = identifier({0x00080052: "STUDY", 0x0020000D: objects[0].study})
        association.send(association.context_for(STUDY_ROOT_MOVE), command, keys)
        request = next_request(server)
        association.connection.close()

    assert (request.called, request.calling) == (b"SINK".ljust(16, b"\0"), b"Gate".ljust(16, b"\0"))


def test_silent_peer_is_given_up_after_the_time_out(farm: Farm) -> None:
    gateway = farm.gateway(settings={"TCPIPTimeOut": 1})
    # Shorter than the default of five minutes, in which case this side would give up first.
    association = RawAssociation.open(gateway.port, timeout_s=WAIT_DEADLINE_S)
    with pytest.raises(Closed):
        association.receive()
    association.connection.close()


def test_files_are_read_from_where_the_settings_say(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(
        settings={
            "kFactorFile": "other.sql",
            "ACRNemaMap": "other.map",
            "SOPClassList": "other.lst",
        },
        start=False,
    )
    folder = gateway.folder
    for old, new in (("dicom.sql", "other.sql"), ("dgatesop.lst", "other.lst")):
        (folder / old).rename(folder / new)
    (folder / "acrnema.map").unlink()
    layout = (folder / "other.sql").read_text()
    row = '{ 0x0008, 0x1090, "MyModel", 64, SQL_C_CHAR, DT_STR },'
    (folder / "other.sql").write_text(
        layout.replace("{ 0x0008, 0x0020,", f"{row}\n{{ 0x0008, 0x0020,", 1)
    )
    (folder / "other.lst").write_text(
        (folder / "other.lst").read_text() + "\nonly ONLYME RemoteAE\n"
    )
    with listening() as server:
        (folder / "other.map").write_text(f"Elsewhere 127.0.0.1 {server.getsockname()[1]} as\n")
        gateway.process.launch()
        gateway.process.wait_ready(gateway.has_started, START_DEADLINE_S)
        with pytest.raises(Closed):
            RawAssociation.open(gateway.port)
        store(gateway.port, objects[0].path, calling="ONLYME")
        with ThreadPoolExecutor(1) as pool:
            # It ends when its destination has hung up.
            pool.submit(
                run_dcmtk,
                "movescu", "-S", "-aet", "ONLYME", "-aem", "Elsewhere",
                "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={objects[0].study}",
                "127.0.0.1", str(gateway.port), check=False,
            )  # fmt: skip
            request = next_request(server)
            # Whoever tries again is to be refused at once.
            server.close()
        assert request.called == b"Elsewhere".ljust(16)
    with sqlite3.connect(gateway.database) as connection:
        assert connection.execute("SELECT MyModel FROM DICOMStudies").fetchall() == [("Model 1",)]


@pytest.mark.parametrize(("codes", "status"), [("standard", 0xA801), ("classic", 0xC003)])
def test_status_codes_are_those_that_are_wanted(farm: Farm, codes: str, status: int) -> None:
    gateway = farm.gateway(settings={"StatusCodes": codes})

    assert move(gateway, "NOBODY") == status


def test_tables_have_the_names_that_are_wanted(farm: Farm, objects: list[Generated]) -> None:
    names = {level: f"X{level}s" for level in ("Patient", "Study", "Series", "Image", "WorkList")}
    gateway = farm.gateway(settings={f"{level}TableName": name for level, name in names.items()})
    store(gateway.port, objects[0].path)

    with sqlite3.connect(gateway.database) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        assert set(names.values()) <= tables
        for level in ("Patient", "Study", "Series", "Image"):
            assert connection.execute(f"SELECT count(*) FROM {names[level]}").fetchone() == (1,)
    # The names are those that everything is asked by.
    assert answers(gateway, "IMAGE", 0x00100020) == [objects[0].patient_id]
    gateway.command("worklist", "add", "AccessionNumber=A1", "PatientID=P1", "Modality=CT")
    with sqlite3.connect(gateway.database) as connection:
        rows = connection.execute(f"SELECT PatientID FROM {names['WorkList']}").fetchall()
    assert rows == [("P1",)]


def test_answers_come_in_the_order_that_is_wanted(farm: Farm, tmp_path: Path) -> None:
    items = write_files(tmp_path / "many", Plan(12, seed=5, per_series=2, series_per_study=2))
    gateway = farm.gateway(
        settings={
            "PatientQuerySortOrder": "DICOMPatients.PatientID DESC",
            "StudyQuerySortOrder": "DICOMStudies.StudyInsta DESC",
            "SeriesQuerySortOrder": "DICOMSeries.SeriesInst DESC",
            "ImageQuerySortOrder": "DICOMImages.SOPInstanc DESC",
        }
    )
    store(gateway.port, items[0].path.parent)

    for level, tag, values in (
        ("PATIENT", 0x00100020, {one.patient_id for one in items}),
        ("STUDY", 0x0020000D, {one.study for one in items}),
        ("SERIES", 0x0020000E, {one.series for one in items}),
        ("IMAGE", 0x00080018, {one.sop_instance for one in items}),
    ):
        assert answers(gateway, level, tag) == sorted(values, reverse=True), level


def test_character_set_of_answers_is_the_one_that_is_wanted(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"QueriesReturnISO_IR": 192})
    store(gateway.port, objects[0].path)

    assert answers(gateway, "STUDY", 0x00080005, x00100010="") == ["ISO_IR 192"]


def test_unparsed_objects_are_kept_where_the_check_is_off(farm: Farm) -> None:
    gateway = farm.gateway(settings={"NoDicomCheck": 1})
    sop_class = Kind.SMALL.sop_class
    with RawAssociation.open(gateway.port, [Offer(sop_class)]) as association:
        assert association.store(sop_class, "1.2.3.4", b"no DICOM at all").status == 0

    assert answers(gateway, "IMAGE", 0x00080018) == ["1.2.3.4"]
    [path] = gateway.stored_files()
    assert path.read_bytes().endswith(b"no DICOM at all")


def test_several_associations_deliver_at_once(farm: Farm, objects: list[Generated]) -> None:
    with listening() as server:
        gateway = farm.gateway(
            settings={"DelayedForwarderThreads": 3, "ExportConverters": 1,
                      "ExportConverter0": "forward to SINK"},
            nodes=[Node("SINK", server.getsockname()[1])],
        )  # fmt: skip
        store(gateway.port, *(one.path for one in objects))
        # None of them is answered, so each is one worker's.
        connections = [server.accept()[0] for _ in range(3)]
        server.settimeout(0.5)
        with pytest.raises(TimeoutError):
            server.accept()
        for connection in connections:
            connection.close()
