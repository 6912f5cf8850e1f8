"""The own archive as scripts use it, behind a real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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


# lists


def test_studies_are_listed_by_date(site: Site) -> None:
    assert site.archive.studies_of("20240101-20240201") == ["1.2.3.1"]
    assert site.archive.studies_of("20230101") == []


def test_files_of_a_series_are_where_they_are(site: Site) -> None:
    files = site.archive.files_of("1.2.3.1.1")

    assert len(files) == 2
    assert all(Path(file).is_file() for file in files)
    assert len(site.archive.files_of("1.9.9")) == 0
