"""De-identification on the real server: what it stores, what it refuses, and the way back."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pydicom
import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import find, run_dcmtk, store
from tests.generate import Plan, write_files

PATIENT, NAME, ACCESSION = "PAT-0815-4711", "Zumsteg^Quirin", "ACC-77-99"
RULE = "deidentify profile basic stage trial1"


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """Return three CT objects of one study that say who the patient is."""
    made = write_files(tmp_path / "study", Plan(3, per_series=3, studies_per_patient=1))
    for item in made:
        data_set = pydicom.dcmread(item.path)
        data_set.PatientID, data_set.PatientName = PATIENT, NAME
        data_set.AccessionNumber, data_set.Modality = ACCESSION, "CT"
        data_set.StudyDescription = f"Knee of {NAME}"
        data_set.save_as(item.path)
    return [item.path for item in made]


def serving(farm: Farm, rule: str = RULE, **settings: object) -> Gateway:
    """Return a server with a key and one import rule."""
    gateway = farm.gateway(settings={"ImportConverter0": rule, **settings}, start=False)
    gateway.command("deidentify", "key")
    return gateway.start()


def originals(paths: list[Path]) -> list[bytes]:
    """Return what must not be in any byte of the result."""
    sought = {PATIENT, "Zumsteg", "Quirin", ACCESSION}
    for path in paths:
        data_set = pydicom.dcmread(path)
        sought |= {
            str(data_set.SOPInstanceUID),
            str(data_set.StudyInstanceUID),
            str(data_set.SeriesInstanceUID),
        }
    return [each.encode() for each in sought]


def test_what_is_stored_does_not_say_who_the_patient_is(
    farm: Farm, study: list[Path], tmp_path: Path
) -> None:
    gateway = serving(farm)

    answers = store(gateway.port, *study)

    assert all(answer.is_success for answer in answers)
    stored = gateway.stored_files()
    assert len(stored) == 3
    for path in stored:
        content = path.read_bytes()
        assert [each for each in originals(study) if each in content] == []
        assert not any(each.decode() in str(path) for each in originals(study))
        found = pydicom.dcmread(path)
        assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID
        assert "SourceApplicationEntityTitle" not in found.file_meta
        assert found.PatientIdentityRemoved == "YES"
        run_dcmtk("dcmdump", "-q", path)
    studies = find(gateway.port, {"StudyInstanceUID": "", "PatientID": ""}, tmp_path)
    assert len({str(each.StudyInstanceUID) for each in studies}) == 1
    assert {len(str(each.PatientID)) for each in studies} == {16}


def test_neither_database_nor_log_says_who_the_patient_is(farm: Farm, study: list[Path]) -> None:
    gateway = serving(farm)
    store(gateway.port, *study)

    gateway.stop()

    written = [
        path for path in gateway.database.parent.glob(f"{gateway.database.name}*") if path.is_file()
    ]
    content = b"".join(path.read_bytes() for path in written) + gateway.log.encode()
    assert b"dgate_reidentification" in content
    assert [each for each in originals(study) if each in content] == []


def test_the_same_object_gets_the_same_uids_after_a_restart(farm: Farm, study: list[Path]) -> None:
    gateway = serving(farm)
    store(gateway.port, *study)
    before = {path: path.read_bytes() for path in gateway.stored_files()}

    gateway.restart()
    store(gateway.port, *study)

    assert {path: path.read_bytes() for path in gateway.stored_files()} == before


def test_a_pseudonym_and_a_uid_lead_back_and_the_look_up_is_written_down(
    farm: Farm, study: list[Path]
) -> None:
    gateway = serving(farm, "deidentify profile basic retain modified-dates stage trial1")
    store(gateway.port, study[0])
    found = pydicom.dcmread(gateway.stored_files()[0])
    before = pydicom.dcmread(study[0])

    said = gateway.command("reidentify", str(found.PatientID), "--why", "withdrawn consent")
    line = gateway.command("reidentify", str(found.SOPInstanceUID), "--json")

    assert PATIENT in said.stdout
    assert NAME in said.stdout
    answer = json.loads(line.stdout)
    assert answer["old"] == str(before.SOPInstanceUID)
    assert answer["stage"] == "trial1"
    assert answer["patient"]["PatientID"] == PATIENT
    assert answer["shift_days"] > 0
    record = gateway.folder / "dgate" / "reidentification.log"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    looked = [json.loads(each) for each in record.read_text().splitlines()]
    assert looked[0]["why"] == "withdrawn consent"
    assert all(each["who"] for each in looked)
    assert PATIENT not in record.read_text()


def test_an_unknown_value_is_an_error_and_written_down_too(farm: Farm) -> None:
    gateway = serving(farm)

    result = gateway.command("reidentify", "NOBODY", check=False)

    assert result.returncode == 1
    assert "nothing is known of NOBODY" in result.stdout
    assert "NOBODY" in (gateway.folder / "dgate" / "reidentification.log").read_text()


@pytest.mark.parametrize("errors", ["reject", "ignore"])
def test_without_a_key_nothing_is_stored(farm: Farm, study: list[Path], errors: str) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": RULE, "ScriptErrors": errors})

    answers = store(gateway.port, study[0])

    assert not any(answer.is_success for answer in answers)
    assert gateway.stored_files() == []


def test_the_key_lies_where_the_setting_says(farm: Farm, study: list[Path], tmp_path: Path) -> None:
    key = tmp_path / "safe" / "site.key"
    key.parent.mkdir()
    gateway = farm.gateway(
        settings={"ImportConverter0": RULE, "ReidentificationKey": key}, start=False
    )

    gateway.command("deidentify", "key")

    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    gateway.start()
    assert all(answer.is_success for answer in store(gateway.port, study[0]))
    again = gateway.command("deidentify", "key", check=False)
    assert again.returncode == 1
    assert "a key already" in again.stdout


def test_what_may_show_text_is_held_back_until_a_mask_fits(farm: Farm, study: list[Path]) -> None:
    data_set = pydicom.dcmread(study[0])
    data_set.Modality = "US"
    data_set.save_as(study[0])
    rule = "deidentify profile basic clean pixels mask masks.txt"
    gateway = farm.gateway(settings={"ImportConverter0": rule}, start=False)
    gateway.command("deidentify", "key")
    masks = gateway.folder / "masks.txt"
    masks.write_text("modality=XA : 0,0,-1,9\n")
    gateway.start()
    assert not any(answer.is_success for answer in store(gateway.port, study[0]))
    assert gateway.stored_files() == []

    masks.write_text("modality=US : 0,0,-1,1\n")
    gateway.restart()

    assert all(answer.is_success for answer in store(gateway.port, study[0]))
    found = pydicom.dcmread(gateway.stored_files()[0])
    row = found.Columns * found.BitsAllocated // 8 * found.SamplesPerPixel
    assert found.PixelData[: 2 * row] == bytes(2 * row)
    assert found.BurnedInAnnotation == "NO"


def test_a_copy_is_deidentified_on_its_way_out(farm: Farm, study: list[Path]) -> None:
    gateway = farm.gateway(
        settings={"RetrieveResultConverter0": "deidentify profile basic stage web"}, start=False
    )
    gateway.command("deidentify", "key")
    gateway.start()
    store(gateway.port, study[0])
    target = farm.folder / "fetched"
    target.mkdir()
    uid = str(pydicom.dcmread(study[0]).StudyInstanceUID)

    run_dcmtk(
        "getscu", "-S", "-od", target, "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={uid}", "127.0.0.1", str(gateway.port), check=False,
    )  # fmt: skip

    [copy] = target.iterdir()
    assert [each for each in originals(study[:1]) if each in copy.read_bytes()] == []
    [stored] = gateway.stored_files()
    assert pydicom.dcmread(stored).PatientID == PATIENT


def test_check_says_that_there_is_no_key(farm: Farm) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": RULE}, start=False)

    before = gateway.command("check", check=False).stdout
    gateway.command("deidentify", "key")
    after = gateway.command("check", check=False).stdout

    assert "will refuse every object" in before
    assert "dgate deidentify key" in before
    assert "will refuse every object" not in after
