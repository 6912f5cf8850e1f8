"""An installation of the original, served in place: everything is there, and the way back is open.

The installation is built from the compatibility reference (`tests/original.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, run_dgate
from tests.acceptance.peers import StoreScp, find, run_dcmtk, store
from tests.acceptance.processes import Process, wait_until
from tests.generate import Plan, write_files
from tests.original import (
    PATIENTS,
    TABLES,
    WRITTEN,
    Installation,
    Patient,
    build,
    data_set,
    enter,
    insert_statement,
)

OWN = "dgate_"
FORMS = pytest.mark.parametrize("windows", [False, True], ids=["unix", "windows"])


@pytest.fixture
def installed(farm: Farm) -> Callable[..., tuple[Installation, Gateway, StoreScp]]:
    """Return a builder of an installation with a server for it, not started, and a node SINK."""

    def make(**options: object) -> tuple[Installation, Gateway, StoreScp]:
        sink = farm.sink()
        port = farm.ports.take()
        folder = farm.folder / "original"
        node = f"SINK            127.0.0.1       {sink.port}            as"
        site = build(folder, port=port, nodes=[node], **options)  # type: ignore[arg-type]
        return site, _server(farm, site), sink

    return make


def _server(farm: Farm, site: Installation) -> Gateway:
    """Return a dgate server on the folder as it is."""

    command = [sys.executable, "-m", "dgate", "serve", "-c", str(site.folder)]
    log = farm.folder / "original.log"
    gateway = Gateway(site.folder, site.port, Process(command, log, dict(os.environ)))
    farm._processes.append(gateway.process)
    farm._gateways.append(gateway)
    return gateway


def everything_in(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return each file and folder with its content's hash, time and mode."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([folder, *folder.rglob("*")]):
        state = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[ascii(str(path))] = (content, state.st_mtime_ns, state.st_mode, state.st_ino)
    return found


def original_schema(database: Path) -> dict[str, str]:
    """Return the statements of all tables and indices that are not dgate's."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master "
            "WHERE sql IS NOT NULL AND name NOT LIKE 'dgate!_%' ESCAPE '!'"
        ).fetchall()
    connection.close()
    return {name: sql for name, sql in rows if not name.startswith("sqlite_")}


def rows_of_original(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return what the original's tables hold, byte for byte."""
    connection = sqlite3.connect(database)
    connection.text_factory = bytes
    try:
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in (*TABLES, "DICOMWorkList", "UIDMODS")
        }
    finally:
        connection.close()


def data_set_bytes(file: bytes) -> bytes:
    """Return what stands behind the file header; the whole of a file that has none."""
    if file[128:132] != b"DICM":
        return file
    # The group length stands first, explicit VR little endian (PS3.10 7.1).
    assert file[132:140] == b"\2\0\0\0UL\4\0"
    return file[144 + int.from_bytes(file[140:144], "little") :]


# before: the report


@FORMS
def test_report_names_everything_and_changes_nothing(tmp_path: Path, windows: bool) -> None:
    site = build(tmp_path / "original", windows=windows)
    (site.folder / "ExportFailures5678_0").write_bytes(b"x" * 1536)
    lost = site.objects[0]
    lost.path.unlink()
    (site.folder / "data1" / "stray.dcm").write_bytes(b"not in the index")
    (site.folder / "data1" / "notes.txt").write_bytes(b"no image by its name")
    before = everything_in(site.folder)

    result = run_dgate("takeover", str(site.folder), "--json")

    report = json.loads(result.stdout)
    assert everything_in(site.folder) == before
    assert result.returncode == 0, result.stdout
    assert report["index"]["rows"] == {"patient": 4, "study": 8, "series": 8, "image": 16}
    assert report["index"]["texts"]["patient"] == {"rows": 4, "beyond_ascii": 2, "latin_1": 1}
    assert report["index"]["texts"]["study"]["latin_1"] == 4
    mag0, mag1 = report["devices"]
    assert (mag0["objects"], mag0["files"], mag0["without_row"]) == (8, 7, 0)
    assert (mag0["without_file"], mag0["rows_examples"]) == (1, [lost.name.replace("\\", "/")])
    assert (mag1["files"], mag1["without_row"], mag1["files_examples"]) == (9, 1, ["stray.dcm"])
    assert [Path(one["path"]).name for one in report["queue_files"]] == ["ExportFailures5678_0"]
    assert "Edition" in [one["name"] for one in report["settings"]["ignored"]]
    assert "FileNameSyntax" in [one["name"] for one in report["settings"]["differs"]]
    assert "MyACRNema" in report["settings"]["works"]


def test_report_is_for_people_too(tmp_path: Path) -> None:
    site = build(tmp_path / "original")

    result = run_dgate("takeover", str(site.folder), check=True)

    assert "4 patient, 8 study, 8 series, 16 image row(s)" in result.stdout
    assert "Latin-1: 1 patient, 4 study" in result.stdout
    assert "Nothing is in the way" in result.stdout


def test_device_that_is_away_and_rows_elsewhere_are_obstacles(tmp_path: Path) -> None:
    site = build(tmp_path / "original")
    (site.folder / "data1").rename(site.folder / "Data1")
    connection = site.connect()
    connection.execute("UPDATE DICOMImages SET DeviceName = 'JUKEBOX0.1' WHERE ImagePat = 'P2'")
    connection.commit()
    connection.close()

    result = run_dgate("takeover", str(site.folder), "--json")

    report = json.loads(result.stdout)
    assert result.returncode == 1
    assert report["unknown_devices"] == {"JUKEBOX0.1": 4}
    assert "the folder does not exist; there is" in report["devices"][1]["problem"]
    assert "Data1" in report["devices"][1]["problem"]
    assert len(report["obstacles"]) >= 2


def test_names_that_differ_in_letter_case_are_counted(tmp_path: Path) -> None:
    site = build(tmp_path / "original")
    folder = site.folder / "data" / "P2"
    folder.rename(folder.with_name("p2"))

    report = json.loads(run_dgate("takeover", str(site.folder), "--json").stdout)

    assert report["devices"][0]["without_file"] == 2
    assert report["devices"][0]["other_case"] == 2


def test_layout_that_does_not_fit_is_named(tmp_path: Path) -> None:
    site = build(tmp_path / "original", indices=False)
    connection = site.connect()
    connection.execute("ALTER TABLE DICOMStudies ADD COLUMN Ward varchar(16)")
    connection.execute("ALTER TABLE DICOMPatients RENAME COLUMN PatientSex TO Gender")
    connection.commit()
    connection.close()

    result = run_dgate("takeover", str(site.folder), "--json")

    report = json.loads(result.stdout)
    differences = {one["table"]: one for one in report["index"]["differences"]}
    assert differences["DICOMPatients"]["missing"] == ["PatientSex"]
    assert differences["DICOMPatients"]["extra"] == ["Gender"]
    assert differences["DICOMStudies"]["extra"] == ["Ward"]
    assert "study_lnk" in report["index"]["missing_indices"]


@pytest.mark.parametrize("content", [b"", b"not a database, but a text of some length......"])
def test_file_that_is_no_database_is_an_obstacle(tmp_path: Path, content: bytes) -> None:
    site = build(tmp_path / "original")
    site.database.write_bytes(content)

    result = run_dgate("takeover", str(site.folder), "--json")

    assert result.returncode == 1
    assert json.loads(result.stdout)["index"]["error"]


def test_interrupted_transaction_is_read_from_a_copy(tmp_path: Path) -> None:
    """A hot journal beside the database: the original was killed in the middle of writing."""
    site = build(tmp_path / "original")
    program = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA cache_size = 1')\n"
        "c.execute('BEGIN'); c.execute('DELETE FROM DICOMImages')\n"
        "c.executemany('INSERT INTO UIDMODS (OldUID) VALUES (?)', [('x' * 60,)] * 50000)\n"
        "os._exit(9)\n"
    )
    subprocess.run(["python3", "-c", program, str(site.database)], check=False)
    assert site.database.with_name("conquest.db3-journal").stat().st_size > 0
    before = everything_in(site.folder)

    report = json.loads(run_dgate("takeover", str(site.folder), "--json").stdout)

    assert everything_in(site.folder) == before
    assert report["index"]["rows"]["image"] == 16
    assert "a copy of it was read" in report["index"]["notes"][0]


# serving


@FORMS
def test_whole_archive_is_served_in_place(
    installed: Callable[..., tuple[Installation, Gateway, StoreScp]],
    tmp_path: Path,
    windows: bool,
) -> None:
    site, gateway, sink = installed(windows=windows)
    files = {one.path: one.path.read_bytes() for one in site.objects}
    gateway.start()

    # Queries: every study, by every key.
    for patient in PATIENTS:
        answers = find(
            site.port,
            {"PatientID": patient.patient_id, "StudyInstanceUID": "", "ModalitiesInStudy": ""},
            tmp_path,
        )
        assert len(answers) == 2, patient.patient_id
    # Retrievals: every object, as it lies on the disk, whatever its name and form.
    words = ["-S", "-k", "QueryRetrieveLevel=STUDY"]
    received = tmp_path / "received"
    received.mkdir()
    for study in sorted({one.study for one in site.objects}):
        key = f"StudyInstanceUID={study}"
        run_dcmtk("getscu", *words, "-k", key, "-od", received, "127.0.0.1", str(site.port))
        run_dcmtk("movescu", *words, "-k", key, "-aem", "SINK", "127.0.0.1", str(site.port))
    got = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in received.iterdir()}
    moved = {uid.split(".dcm")[0]: path for uid, path in sink.files().items()}
    for one in site.objects:
        for copy in (got[one.sop_instance], moved[one.sop_instance]):
            data = pydicom.dcmread(copy)
            assert data.PixelData == one.data.PixelData
            assert data.PatientName == one.data.PatientName
            assert data.PatientID == one.patient_id
        # The sink keeps what it got, and took every transfer syntax.
        sent = data_set_bytes(moved[one.sop_instance].read_bytes())
        assert sent == data_set_bytes(files[one.path]), one.name
    assert {path: path.read_bytes() for path in files} == files


def test_names_of_every_spelling_are_found(
    installed: Callable[..., tuple[Installation, Gateway, StoreScp]], tmp_path: Path
) -> None:
    site, gateway, _ = installed()
    gateway.start()

    def studies(name: str) -> int:
        keys = {"PatientName": name, "StudyInstanceUID": ""}
        options = ("-k", "SpecificCharacterSet=ISO_IR 192")
        return len(find(site.port, keys, tmp_path, options=options))

    assert studies("Müller^Jürgen") == 2
    assert studies("MULLER*") == 2
    assert studies("müll*") == 2
    assert studies("smith^john") == 2
    assert studies("山田^太郎") == 2
    assert studies("Yamada*") == 2
    assert studies("Meier*") == 0


def test_new_objects_are_named_as_before_and_join_old_studies(
    installed: Callable[..., tuple[Installation, Gateway, StoreScp]], tmp_path: Path
) -> None:
    site, gateway, _ = installed(syntax="3")
    gateway.start()
    old = data_set(PATIENTS[1], 1, 0, 77)
    sent = tmp_path / "new.dcm"
    old.file_meta = pydicom.dataset.FileMetaDataset()
    old.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    old.save_as(sent, enforce_file_format=True)

    answers = store(site.port, sent)

    assert [answer.status for answer in answers] == ["Success"]
    connection = site.connect()
    name, device = connection.execute(
        "SELECT ObjectFile, DeviceName FROM DICOMImages WHERE SOPInstanc = ?",
        (str(old.SOPInstanceUID),),
    ).fetchone()
    count = connection.execute("SELECT count(*) FROM DICOMStudies").fetchone()[0]
    connection.close()
    series = str(old.SeriesInstanceUID)
    assert device == b"MAG0"
    assert name.decode().startswith(f"P2/{series}_0001_000078_")
    assert name.endswith(b".v2")
    assert (site.folder / "data" / name.decode()).exists()
    assert count == 8
    keys = {"StudyInstanceUID": str(old.StudyInstanceUID), "SOPInstanceUID": ""}
    assert len(find(site.port, keys, tmp_path, level="IMAGE")) == 3


@FORMS
def test_known_object_sent_again_replaces_its_file(
    installed: Callable[..., tuple[Installation, Gateway, StoreScp]],
    tmp_path: Path,
    windows: bool,
) -> None:
    site, gateway, _ = installed(windows=windows)
    gateway.start()
    # MAG1, a folder whose name has the bytes of Latin-1.
    known = next(one for one in site.objects if "ller" in one.name)
    changed = tmp_path / "again.dcm"
    known.data.PixelData = b"\7" * len(known.data.PixelData)
    known.data.file_meta = pydicom.dataset.FileMetaDataset()
    known.data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    known.data.save_as(changed, enforce_file_format=True)
    count = len(gateway_files(site))

    answers = store(site.port, changed)

    assert [answer.status for answer in answers] == ["Success"]
    assert known.data.PixelData in known.path.read_bytes()
    assert len(gateway_files(site)) == count


def gateway_files(site: Installation) -> list[Path]:
    """Return the image files of both devices."""
    return [
        path
        for folder in ("data", "data1")
        for path in (site.folder / folder).rglob("*")
        if path.suffix in (".v2", ".dcm") and "dgate" not in path.relative_to(site.folder).parts
    ]


# the way back


@pytest.mark.parametrize("indices", [True, False], ids=["with-indices", "without-indices"])
def test_original_finds_its_tables_as_it_left_them(
    installed: Callable[..., tuple[Installation, Gateway, StoreScp]],
    tmp_path: Path,
    indices: bool,
) -> None:
    site, gateway, _ = installed(indices=indices)
    schema, rows = original_schema(site.database), rows_of_original(site.database)
    gateway.start()
    find(site.port, {"PatientID": "P2", "StudyInstanceUID": ""}, tmp_path)
    assert gateway.stop() == 0

    assert original_schema(site.database) == schema
    assert rows_of_original(site.database) == rows
    with sqlite3.connect(site.database) as connection:
        added = connection.execute("SELECT name FROM sqlite_master").fetchall()
        whole = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    beyond = {name for (name,) in added if not name.startswith(("sqlite_", OWN))}
    assert beyond == set(schema)
    assert whole == ("ok",)


@pytest.fixture
def returned(
    installed: Callable[..., tuple[Installation, Gateway, StoreScp]], tmp_path: Path
) -> tuple[Installation, Gateway]:
    """Return an installation that dgate has served, stored into, and left."""
    site, gateway, _ = installed()
    gateway.start()
    objects = write_files(tmp_path / "objects", Plan(4, per_series=2))
    assert all(answer.is_success for answer in store(site.port, *(one.path for one in objects)))
    assert gateway.stop() == 0
    return site, gateway


def test_statements_of_the_original_work_after_dgate(
    returned: tuple[Installation, Gateway],
) -> None:
    site, _ = returned
    connection = site.connect()
    connection.execute("PRAGMA journal_mode = DELETE")

    # Its look-up of a record, its join for a query, its update, its insert, its deletes.
    join = (
        "SELECT DISTINCT DICOMStudies.StudyInsta, DICOMPatients.PatientNam, DICOMStudies.StudyDate "
        "FROM DICOMStudies, DICOMPatients WHERE DICOMStudies.PatientID = DICOMPatients.PatientID "
        "AND DICOMPatients.PatientNam LIKE '%' ORDER BY DICOMPatients.PatientNam"
    )
    before = len(connection.execute(join).fetchall())
    assert before == 8 + 2
    images = connection.execute(
        "SELECT ObjectFile, DeviceName FROM DICOMImages, DICOMSeries WHERE "
        "DICOMImages.SeriesInst = DICOMSeries.SeriesInst AND DICOMSeries.SeriesPat = 'P2'"
    ).fetchall()
    assert len(images) == 4
    guest = Patient("NEW1", "Ångström^Åsa", "ISO_IR 100", "Ångström^Åsa".encode("latin-1"))
    enter(connection, guest, data_set(guest, 8, 0, 0), "MAG0", "NEW1/x.dcm", WRITTEN + 9000)
    enter(connection, guest, data_set(guest, 8, 0, 0), "MAG0", "NEW1/x.dcm", WRITTEN + 9100)
    connection.execute("UPDATE DICOMPatients SET PatientNam = 'X' WHERE PatientID = 'P3'")
    worklist = {"AccessionN": b"A1", "PatientID": b"P2", "AccessTime": b"1"}
    connection.execute(insert_statement("DICOMWorkList", worklist), list(worklist.values()))
    connection.execute(
        "INSERT INTO UIDMODS (MODTime, OldUID, MODType, NewUID, Stage, Annotation) "
        "VALUES (1, '1.2', 'UID', '1.3', 's', '')"
    )
    for table, key in (("DICOMImages", "ImagePat"), ("DICOMSeries", "SeriesPat")):
        connection.execute(f"DELETE FROM {table} WHERE {key} = 'anon 4'")
    for table in ("DICOMStudies", "DICOMPatients"):
        connection.execute(f"DELETE FROM {table} WHERE PatientID = 'anon 4'")
    connection.commit()

    assert len(connection.execute(join).fetchall()) == before + 1 - 2
    assert connection.execute("PRAGMA integrity_check").fetchone() == (b"ok",)
    connection.close()


def test_what_the_original_wrote_in_between_is_found_at_once_and_later(
    returned: tuple[Installation, Gateway], tmp_path: Path
) -> None:
    """The side table of searches does not know these rows yet; queries are right all the same."""
    site, gateway = returned
    connection = site.connect()
    guest = Patient("NEW1", "Ångström^Åsa", "ISO_IR 100", "Ångström^Åsa".encode("latin-1"))
    enter(connection, guest, data_set(guest, 8, 0, 0), "MAG0", "NEW1/x.dcm", WRITTEN + 9000)
    for table in ("DICOMPatients", "DICOMStudies"):
        connection.execute(f"UPDATE {table} SET PatientNam = 'Huber' WHERE PatientID = 'P2'")
    connection.commit()
    connection.close()

    gateway.start()

    def studies(name: str) -> int:
        keys = {"PatientName": name, "StudyInstanceUID": ""}
        options = ("-k", "SpecificCharacterSet=ISO_IR 192")
        return len(find(site.port, keys, tmp_path, options=options))

    for _ in range(2):
        assert studies("angstrom*") == 1
        assert studies("Müller^Jürgen") == 0
        assert studies("huber") == 2
        wait_until(lambda: "search forms entered" in gateway.log, "the side table to be complete")
    assert "removed" in gateway.log


def test_killed_server_leaves_a_database_that_the_original_opens(
    installed: Callable[..., tuple[Installation, Gateway, StoreScp]], tmp_path: Path
) -> None:
    site, gateway, _ = installed()
    gateway.start()
    objects = write_files(tmp_path / "objects", Plan(4))
    assert all(answer.is_success for answer in store(site.port, *(one.path for one in objects)))
    gateway.kill()

    connection = site.connect()
    count = connection.execute("SELECT count(*) FROM DICOMImages").fetchone()[0]
    mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    connection.close()

    assert count == 20
    assert mode == b"delete"
