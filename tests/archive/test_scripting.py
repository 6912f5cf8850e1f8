"""The own archive as scripts use it, behind a real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.levels import Level
from dgate.archive.scripting import Archive
from dgate.errors import RuleError
from tests.acceptance.processes import Ports
from tests.archive.intake_kit import LARGE_PIXELS, data_set
from tests.sites import Site, instance, query, running_site

pytestmark = pytest.mark.integration

SOP = 0x00080018
COMMENTS = 0x00104000


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    ports = Ports()
    yield ports
    ports.close()


@pytest.fixture
def site(tmp_path: Path, ports: Ports) -> Iterator[Site]:
    """A gateway with three images in two series of one study."""
    with running_site(tmp_path / "site", ports) as site:
        site.add(1)
        site.add(2)
        site.add(3, SeriesInstanceUID="1.2.3.1.2")
        yield site


def uids(*numbers: int) -> list[str]:
    return [f"1.2.3.1.1.{number}" for number in numbers]


# load


@pytest.mark.parametrize(
    "name",
    [
        "P1:1.2.3.1.1.1",
        ":1.2.3.1.1.1",
        "P1|1.2.3.1.1.1",
        "P1?1.2.3.1.1.1",
        "P1*1.2.3.1.1.1",
        "1.2.3.1\\1.2.3.1.1\\1.2.3.1.1.1",
    ],
)
def test_stored_object_is_loaded_by_its_names(site: Site, name: str) -> None:
    assert site.archive.load(name).text(SOP) == "1.2.3.1.1.1"


def test_file_is_loaded_by_its_path(site: Site) -> None:
    (site.folder / "in.dcm").write_bytes(data_set(SOPInstanceUID="1.5"))

    assert site.archive.load("in.dcm").text(SOP) == "1.5"
    assert site.archive.load(str(site.folder / "in.dcm")).text(SOP) == "1.5"


def test_long_file_may_be_cut_short_while_it_is_used(site: Site) -> None:
    path = site.folder / "large.v2"
    path.write_bytes(data_set(PixelData=LARGE_PIXELS * 5))
    table = site.archive.load("large.v2")

    path.write_bytes(b"")

    assert table.raw(0x7FE00010) == LARGE_PIXELS * 5


@pytest.mark.parametrize(
    "name",
    [
        "P9:1.2.3.1.1.1",
        ":9.9.9",
        "9\\1.2.3.1.1\\1.2.3.1.1.1",
        "nosuchfile.dcm",
        "acrnema.map",
        ".",
        "",
    ],
)
def test_what_is_not_there_cannot_be_loaded(site: Site, name: str) -> None:
    with pytest.raises(RuleError):
        site.archive.load(name)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../etc/passwd", "/proc/self/environ"])
def test_files_outside_the_folders_cannot_be_loaded(site: Site, name: str) -> None:
    with pytest.raises(RuleError, match="outside"):
        site.archive.load(name)


# read


def test_read_yields_whole_objects(site: Site) -> None:
    found = list(site.archive.read(query(SeriesInstanceUID="1.2.3.1.1")))

    assert sorted(table.text(SOP) for table in found) == uids(1, 2)
    assert found[0].raw(0x7FE00010) == bytes(range(32))


def test_read_matches_wildcards(site: Site) -> None:
    found = list(site.archive.read(query(PatientName="smi*", SOPInstanceUID="")))

    assert len(found) == 3


def test_read_orders_and_limits(site: Site) -> None:
    asked = query(PatientID="P1", x99990C00="ImageNumbe", x99990C01="2", x99990C02="1")

    assert [table.text(SOP) for table in site.archive.read(asked)] == uids(2, 3)


def test_read_of_the_beginning_leaves_pixels_out(site: Site) -> None:
    site.add(4, Rows=768, Columns=768, PixelData=LARGE_PIXELS)

    [table] = site.archive.read(query(SOPInstanceUID="1.2.3.1.1.4"), 1000)

    assert table.text(0x00280010) == "768"
    assert table.size == 1000


def test_object_without_rows_in_its_beginning_is_read_whole(site: Site) -> None:
    [table] = site.archive.read(query(SOPInstanceUID="1.2.3.1.1.1"), 40)

    assert table.raw(0x7FE00010) == bytes(range(32))


def test_more_long_objects_than_there_may_be_open_files_are_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (7, 8):
        site.add(number, PixelData=LARGE_PIXELS * 5)
    question = query(StudyInstanceUID="1.2.3.1", SOPInstanceUID="")
    assert len(list(site.archive.read(question))) == 5

    monkeypatch.setattr("dgate.archive.scripting._MOST_LONG", 1)
    with pytest.raises(RuleError, match="more than 1 objects of over 4 MiB"):
        list(site.archive.read(question))


def test_more_than_the_memory_takes_is_refused(site: Site) -> None:
    small = _with_memory(site, 300)

    with pytest.raises(RuleError, match="memory"):
        list(small.read(query(PatientID="P1")))


def _with_memory(site: Site, limit: int) -> Archive:
    archive = site.archive
    copy = object.__new__(Archive)
    copy.__dict__.update(archive.__dict__)
    copy._limit_bytes = limit
    return copy


# add, delete


def test_added_object_is_stored(site: Site) -> None:
    site.archive.add(instance(9, PatientName="NEW"))

    assert site.archive.load(":1.2.3.1.1.9").text(0x00100010) == "NEW"


def test_object_that_cannot_be_stored_is_an_error(site: Site) -> None:
    with pytest.raises(RuleError, match="not stored"):
        site.archive.add(query(PatientID="P1"))


def test_image_series_and_study_are_deleted(site: Site) -> None:
    assert site.archive.delete(query(SOPInstanceUID="1.2.3.1.1.1")) == 1
    assert site.instances() == uids(2, 3)
    assert site.archive.delete(query(SeriesInstanceUID="1.2.3.1.2")) == 1
    assert site.instances() == uids(2)
    assert site.archive.delete(query(PatientID="P1", StudyInstanceUID="1.2.3.1")) == 1
    assert site.instances() == []
    assert not [path for path in (site.folder / "data").rglob("*.dcm")]


def test_deletion_needs_all_keys_to_match(site: Site) -> None:
    assert site.archive.delete(query(PatientID="P2", StudyInstanceUID="1.2.3.1")) == 0
    assert len(site.instances()) == 3


@pytest.mark.parametrize("asked", [{}, {"PatientID": "*"}, {"StudyDate": "20240131"}], ids=str)
def test_nobody_deletes_or_changes_everything(site: Site, asked: dict[str, str]) -> None:
    with pytest.raises(RuleError, match="everything"):
        site.archive.delete(query(**asked))
    with pytest.raises(RuleError, match="everything"):
        site.archive.modify(query(**asked), "nop", copy=False)
    assert len(site.instances()) == 3


def test_object_with_open_deliveries_stays(tmp_path: Path, ports: Ports) -> None:
    dead = f"DEAD 127.0.0.1 {ports.take()} as"
    with running_site(
        tmp_path / "owing", ports, dead, ExportConverters="1", ExportConverter0="forward to DEAD"
    ) as site:
        answers = site.peers.store("SITE", [instance(1)])
        assert not isinstance(answers, str)
        assert answers[0].status == 0

        with pytest.raises(RuleError, match="still open"):
            site.archive.delete(query(SOPInstanceUID="1.2.3.1.1.1"))
        with pytest.raises(RuleError, match="still open"):
            site.archive.modify(
                query(SOPInstanceUID="1.2.3.1.1.1"),
                'set 0008,0018 to "1.7.7"',
                copy=False,
            )
        assert site.instances() == uids(1)


# Identifiers are taken as they are: what stands in a header is no pattern.


@pytest.fixture
def ward(site: Site) -> Site:
    """The site with images of two more patients."""
    for number, patient in ((1, "PX1"), (2, "PX2")):
        site.add(
            number,
            PatientID=patient,
            StudyInstanceUID=f"1.8.{number}",
            SeriesInstanceUID=f"1.8.{number}.1",
            SOPInstanceUID=f"1.8.{number}.1.1",
        )
    return site


PATTERNS = [
    {"PatientID": "PX*"},
    {"PatientID": "PX?"},
    {"PatientID": "PX1\\PX2"},
    {"PatientID": "PX1", "StudyInstanceUID": "1.8.*"},
    {"StudyInstanceUID": "1.8.1\\1.8.2"},
    {"StudyInstanceUID": "1.8.?"},
    {"SeriesInstanceUID": "1.8.*"},
    {"SOPInstanceUID": "1.8.1.1.1\\1.8.2.1.1"},
]


@pytest.mark.parametrize("asked", PATTERNS, ids=str)
def test_pattern_in_an_identifier_deletes_and_changes_nothing(
    ward: Site, asked: dict[str, str]
) -> None:
    with pytest.raises(RuleError, match="has a wildcard or a backslash"):
        ward.archive.delete(query(**asked))
    with pytest.raises(RuleError, match="has a wildcard or a backslash"):
        ward.archive.modify(query(**asked), 'set 0010,4000 to "x"', copy=False)

    assert len(ward.instances()) == 5
    assert {ward.archive.load(f":{uid}").text(COMMENTS) for uid in ward.instances()} == {""}


def test_header_of_one_patient_deletes_no_other(ward: Site) -> None:
    ward.add(9, PatientID="PX*", StudyInstanceUID="1.8.9", SeriesInstanceUID="1.8.9.1")
    stored = ward.archive.load(":1.2.3.1.1.9")

    with pytest.raises(RuleError, match="wildcard"):
        ward.archive.delete(query(PatientID=stored.text(0x00100020)))

    assert len(ward.instances()) == 6
    assert ward.archive.delete(query(SOPInstanceUID="1.2.3.1.1.9")) == 1


@pytest.mark.parametrize("patient", ["px1", "Px1"])
def test_letter_case_of_an_identifier_counts(ward: Site, patient: str) -> None:
    assert ward.archive.delete(query(PatientID=patient)) == 0
    assert ward.archive.modify(query(PatientID=patient), "newuids", copy=False) == 0
    assert len(ward.instances()) == 5


@pytest.mark.parametrize("patient", ["\t", "\u3000"])
def test_identifier_that_is_blank_names_nothing(ward: Site, patient: str) -> None:
    asked = query(PatientID=patient, SpecificCharacterSet="ISO_IR 192")
    asked.set_raw(0x00100020, "LO", patient.encode())

    with pytest.raises(RuleError, match="everything"):
        ward.archive.delete(asked)
    assert len(ward.instances()) == 5


def test_padding_of_an_identifier_does_not_count(ward: Site) -> None:
    asked = query(StudyInstanceUID="1.8.1")
    asked.set_raw(0x00100020, "LO", b"PX1 ")

    assert ward.archive.delete(asked) == 1


def test_other_keys_still_match_as_in_queries(ward: Site) -> None:
    assert ward.archive.delete(query(PatientID="P1", InstanceNumber="2")) == 1
    assert ward.archive.delete(query(PatientID="P1", StudyDate="19000101-19000102")) == 0
    assert ward.archive.delete(query(PatientID="P1", PatientName="smi*")) == 2


def test_patterns_are_for_reading(ward: Site) -> None:
    assert len(list(ward.archive.read(query(PatientID="PX*")))) == 2
    listed = query(SOPInstanceUID="1.8.1.1.1\\1.8.2.1.1")
    assert len(list(ward.archive.read(listed))) == 2


# modify


def test_objects_are_changed_in_place(site: Site) -> None:
    changed = site.archive.modify(
        query(SeriesInstanceUID="1.2.3.1.1"), 'set 0010,4000 to "seen"', copy=False
    )

    assert changed == 2
    comments = [site.archive.load(f":{uid}").text(COMMENTS) for uid in site.instances()]
    assert comments == ["seen", "seen", ""]


def test_object_that_gets_another_uid_takes_the_place_of_the_old_one(site: Site) -> None:
    changed = site.archive.modify(
        query(SOPInstanceUID="1.2.3.1.1.1"), 'set 0008,0018 to "1.7.7"', copy=False
    )

    assert changed == 1
    assert site.instances() == [*uids(2, 3), "1.7.7"]


def test_copy_keeps_the_original(site: Site) -> None:
    changed = site.archive.modify(
        query(SOPInstanceUID="1.2.3.1.1.1"),
        'set 0008,0018 to "1.7.7"; set 0010,4000 to "copy"',
        copy=True,
    )

    assert changed == 1
    assert site.archive.load(":1.7.7").text(COMMENTS) == "copy"
    assert site.archive.load(":1.2.3.1.1.1").text(COMMENTS) == ""


def test_copy_without_a_uid_of_its_own_is_refused(site: Site) -> None:
    with pytest.raises(RuleError, match="SOPInstanceUID of the original"):
        site.archive.modify(query(SOPInstanceUID="1.2.3.1.1.1"), 'set 0010,4000 to "x"', copy=True)
    assert site.archive.load(":1.2.3.1.1.1").text(COMMENTS) == ""


@pytest.mark.parametrize("script", ["destroy", "reject", "nop"])
def test_object_that_the_script_refuses_is_left_as_it_was(site: Site, script: str) -> None:
    assert site.archive.modify(query(PatientID="P1"), script, copy=False) == 0
    assert site.instances() == uids(1, 2, 3)


@pytest.mark.parametrize("script", ["forward to SITE", "no such statement", 'set "'])
def test_script_that_cannot_be_run_is_an_error(site: Site, script: str) -> None:
    with pytest.raises(RuleError):
        site.archive.modify(query(PatientID="P1"), script, copy=False)
    assert site.instances() == uids(1, 2, 3)


@pytest.mark.parametrize("copy", [False, True], ids=["change", "copy"])
def test_uid_of_another_stored_object_is_refused(site: Site, copy: bool) -> None:
    other = site.archive.load(":1.2.3.1.1.2").tobytes()

    with pytest.raises(RuleError, match=r"an object 1\.2\.3\.1\.1\.2 already"):
        site.archive.modify(
            query(SOPInstanceUID="1.2.3.1.1.1"), 'set 0008,0018 to "1.2.3.1.1.2"', copy=copy
        )

    assert site.instances() == uids(1, 2, 3)
    assert site.archive.load(":1.2.3.1.1.2").tobytes() == other


@pytest.mark.parametrize("copy", [False, True], ids=["change", "copy"])
def test_objects_do_not_collapse_into_one(site: Site, copy: bool) -> None:
    with pytest.raises(RuleError, match=r"an object 1\.7\.7 already"):
        site.archive.modify(query(PatientID="P1"), 'set 0008,0018 to "1.7.7"', copy=copy)

    assert len(site.instances()) == (4 if copy else 3)


def test_change_that_the_archive_ignores_is_an_error(tmp_path: Path, ports: Ports) -> None:
    with running_site(tmp_path / "keeping", ports, IgnoreRewrite="1") as site:
        site.add(1)

        with pytest.raises(RuleError, match="IgnoreRewrite"):
            site.archive.modify(query(PatientID="P1"), 'set 0010,4000 to "x"', copy=False)
        assert site.archive.load(":1.2.3.1.1.1").text(COMMENTS) == ""


# the record of change


@pytest.fixture
def logged(tmp_path: Path, ports: Ports) -> Iterator[Site]:
    """A gateway that records changes, with one image."""
    with running_site(tmp_path / "logged", ports, ChangeLog="1") as site:
        site.add(1)
        yield site


def records(site: Site) -> list[list[str]]:
    return site.archive.query("dgate_changes", "sop, former, rules", "", "made") or []


def restored(site: Site, sop_instance: str) -> None:
    restorer = site.archive._caretaker().restorer
    for _ in restorer.restore(restorer.plan(Level.IMAGE, sop_instance), who="a test"):
        pass


def test_change_by_a_script_is_recorded_and_taken_back(logged: Site) -> None:
    before = logged.archive.load(":1.2.3.1.1.1").tobytes()
    asked = query(SOPInstanceUID="1.2.3.1.1.1")
    script = 'set 0010,4000 to "seen"; delete 0010,0040'
    assert records(logged) == []

    assert logged.archive.modify(asked, script, copy=False) == 1
    assert records(logged) == [["1.2.3.1.1.1", "1.2.3.1.1.1", "a script"]]
    assert logged.archive.load(":1.2.3.1.1.1").text(COMMENTS) == "seen"

    restored(logged, "1.2.3.1.1.1")
    assert logged.archive.load(":1.2.3.1.1.1").tobytes() == before
    assert records(logged) == []


def test_changes_one_after_the_other_are_taken_back_one_by_one(logged: Site) -> None:
    asked = query(SOPInstanceUID="1.2.3.1.1.1")
    logged.archive.modify(asked, 'set 0010,4000 to "one"', copy=False)
    logged.archive.modify(asked, 'set 0010,4000 to "two"', copy=False)
    assert len(records(logged)) == 2

    restored(logged, "1.2.3.1.1.1")
    assert logged.archive.load(":1.2.3.1.1.1").text(COMMENTS) == "one"
    restored(logged, "1.2.3.1.1.1")
    assert logged.archive.load(":1.2.3.1.1.1").text(COMMENTS) == ""


def test_new_uid_of_a_script_is_recorded_and_taken_back(logged: Site) -> None:
    before = logged.archive.load(":1.2.3.1.1.1").tobytes()
    logged.archive.modify(
        query(SOPInstanceUID="1.2.3.1.1.1"), 'set 0008,0018 to "1.7.7"', copy=False
    )
    assert records(logged) == [["1.7.7", "1.2.3.1.1.1", "a script"]]

    restored(logged, "1.7.7")
    assert logged.instances() == ["1.2.3.1.1.1"]
    assert logged.archive.load(":1.2.3.1.1.1").tobytes() == before


def test_copy_changes_nothing_and_is_not_recorded(logged: Site) -> None:
    logged.archive.modify(
        query(SOPInstanceUID="1.2.3.1.1.1"), 'set 0008,0018 to "1.7.7"', copy=True
    )

    assert logged.instances() == ["1.2.3.1.1.1", "1.7.7"]
    assert records(logged) == []


def test_added_object_that_replaces_another_is_recorded(logged: Site) -> None:
    changed = logged.archive.load(":1.2.3.1.1.1")
    changed.set_text(COMMENTS, "added")

    logged.archive.add(changed)
    assert records(logged) == [["1.2.3.1.1.1", "1.2.3.1.1.1", "a script"]]

    restored(logged, "1.2.3.1.1.1")
    assert logged.archive.load(":1.2.3.1.1.1").text(COMMENTS) == ""


def test_lost_object_can_be_added_again_without_a_record(logged: Site) -> None:
    table = logged.archive.load(":1.2.3.1.1.1")
    [file] = logged.archive.files_of("1.2.3.1.1")
    Path(file).unlink()
    table.set_text(COMMENTS, "again")

    logged.archive.add(table)

    assert logged.archive.load(":1.2.3.1.1.1").text(COMMENTS) == "again"
    assert records(logged) == []


def test_without_the_setting_nothing_is_recorded(site: Site) -> None:
    site.archive.modify(query(PatientID="P1"), 'set 0010,4000 to "seen"', copy=False)

    assert records(site) == []


# lists


def test_studies_are_listed_by_date(site: Site) -> None:
    assert site.archive.studies_of("20240101-20240201") == ["1.2.3.1"]
    assert site.archive.studies_of("20230101") == []


def test_files_of_a_series_are_where_they_are(site: Site) -> None:
    files = site.archive.files_of("1.2.3.1.1")

    assert len(files) == 2
    assert all(Path(file).is_file() for file in files)
    assert len(site.archive.files_of("1.9.9")) == 0
