"""The worklist table on every engine: entering, correcting, removing, matching; what rules read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from dgate.archive.coercion import Coercion
from dgate.archive.lookup import Lookup
from dgate.archive.query import Finder
from dgate.archive.worklist import Entered, Named, Worklist, WorklistKey
from dgate.config.layout import default_layout, parse_layout
from dgate.errors import DgateError, Refused
from dgate.rules.run import Record
from tests.archive.database_kit import (
    ALL_ENGINES,
    Archive,
    Place,
    Setup,
    image,
    open_archive,
    place_of,
    setup,
)
from tests.archive.intake_kit import FixedClock

STEP = (0x00400100,)
ACCESSION, PATIENT_ID, NAME, STUDY = 0x00080050, 0x00100020, 0x00100010, 0x0020000D
MODALITY, AE, DATE, TIME = 0x00080060, 0x00400001, 0x00400002, 0x00400003
DESCRIPTION, COMMENTS = 0x00321060, 0x00400400

ENTRIES = (
    {
        "AccessionN": "A1",
        "PatientID": "P1",
        "PatientNam": "Adams^John",
        "StudyInsta": "1.2.1",
        "Modality": "CT",
        "ScheduledA": "CT1",
        "StartDate": "20260302",
        "StartTime": "0900",
        "SchedPSID": "S1",
        "ReqProcDes": "Head 50%",
    },
    {
        "AccessionN": "A2",
        "PatientID": "P2",
        "PatientNam": "Müller^Jörg",
        "StudyInsta": "1.2.2",
        "Modality": "MR",
        "ScheduledA": "MR_1",
        "StartDate": "20260303",
        "StartTime": "103000",
        "SchedPSID": "S2",
        "ReqProcDes": "Knee_left",
    },
    {
        "AccessionN": "A3",
        "PatientID": "P3",
        "PatientNam": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "StudyInsta": "1.2.3",
        "Modality": "CT",
        "StartDate": "20260304",
        "StartTime": "1415",
    },
)


def worklist(archive: Archive, **changes: bool) -> Worklist:
    """Return the worklist of an open archive."""
    numbers = count(1)
    settings = archive.settings
    for name, value in changes.items():
        object.__setattr__(settings, name, value)
    return Worklist(
        archive.database,
        archive.schema,
        default_layout().worklist,
        archive.writer,
        settings,
        FixedClock(),
        lambda: f"9.9.{next(numbers)}",
    )


@pytest.fixture(params=ALL_ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request, tmp_path)


@pytest.fixture
def archive(place: Place) -> Iterator[Archive]:
    opened = open_archive(place())
    yield opened
    opened.close()


@pytest.fixture
def filled(archive: Archive) -> Worklist:
    made = worklist(archive)
    made.change(ENTRIES)
    return made


@pytest.fixture(scope="module", params=ALL_ENGINES)
def standing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worklist]:
    """Return a worklist that tests only read."""
    opened = open_archive(place_of(request, tmp_path_factory.mktemp("standing"))())
    made = worklist(opened)
    made.change(ENTRIES)
    yield made
    opened.close()


def key(tag: int, value: str | None = None, path: tuple[int, ...] = ()) -> WorklistKey:
    return WorklistKey(path, tag, value)


def found(made: Worklist, *keys: WorklistKey) -> list[str | None]:
    return [entry["AccessionN"] for entry in made.find(keys)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((), ["A1", "A2", "A3"]),
        ((key(ACCESSION, "A2"),), ["A2"]),
        ((key(ACCESSION, "A?"),), ["A1", "A2", "A3"]),
        ((key(ACCESSION, "*"),), ["A1", "A2", "A3"]),
        ((key(NAME, "adams^JOHN"),), ["A1"]),
        ((key(NAME, "MULLER*"),), ["A2"]),
        ((key(NAME, "*j?rg"),), ["A2"]),
        ((key(NAME, "山田^太郎"),), ["A3"]),
        ((key(NAME, "*a*a*"),), ["A1", "A3"]),
        ((key(NAME, "a" * 60 + "*a" * 60),), []),
        ((key(DESCRIPTION, "Head 50%"),), ["A1"]),
        ((key(DESCRIPTION, "knee_*"),), ["A2"]),
        ((key(DESCRIPTION, "Kneexleft"),), []),
        ((key(AE, "MR_*", STEP),), ["A2"]),
        ((key(AE, "MR?1", STEP),), ["A2"]),
        ((key(MODALITY, "CT", STEP),), ["A1", "A3"]),
        ((key(MODALITY, "CT"),), ["A1", "A3"]),
        ((key(MODALITY, "CT", (0x00321064,)),), ["A1", "A3"]),
        ((key(DATE, "20260303-", STEP),), ["A2", "A3"]),
        ((key(DATE, "-20260303", STEP),), ["A1", "A2"]),
        ((key(DATE, "2026.03.03", STEP),), ["A2"]),
        ((key(TIME, "1000-1030", STEP),), ["A2"]),
        ((key(STUDY, "1.2.1\\1.2.3"),), ["A1", "A3"]),
        ((key(0x00101030, "70"),), ["A1", "A2", "A3"]),
        ((key(MODALITY, "CT", STEP), key(DATE, "20260304", STEP)), ["A3"]),
        ((key(ACCESSION, "A1' OR '1'='1"),), []),
    ],
)
def test_matching(standing: Worklist, wanted: tuple[WorklistKey, ...], expected: list[str]) -> None:
    assert found(standing, *wanted) == expected


def test_case_counts_where_it_is_wanted(archive: Archive) -> None:
    made = worklist(archive, match_case=True)
    made.change(ENTRIES)

    assert found(made, key(NAME, "adams^john")) == []
    assert found(made, key(NAME, "Adams^J*")) == ["A1"]


def test_names_decide_the_order_when_they_are_asked_for(archive: Archive) -> None:
    made = worklist(archive)
    made.change(
        [
            {"AccessionN": "A1", "PatientNam": "Zed"},
            {"AccessionN": "A2", "PatientNam": "Abel"},
        ]
    )

    assert found(made) == ["A1", "A2"]
    assert found(made, key(NAME)) == ["A2", "A1"]


def test_the_same_step_is_corrected_and_another_one_is_added(filled: Worklist) -> None:
    results = filled.change(
        [
            {"AccessionN": "A1", "SchedPSID": "S1", "Modality": "MR", "ReqProcDes": ""},
            {"AccessionN": "A1", "SchedPSID": "S9", "Modality": "US"},
            {"AccessionN": "A3", "Modality": "NM"},
        ]
    )

    assert results == [
        Entered("A1", "S1", is_new=False),
        Entered("A1", "S9", is_new=True),
        Entered("A3", "", is_new=False),
    ]
    first, second = filled.find([key(ACCESSION, "A1")])
    assert (first["Modality"], first["ReqProcDes"], first["PatientID"]) == ("MR", None, "P1")
    assert (second["Modality"], second["PatientID"]) == ("US", None)
    assert filled.count() == 4


def test_nothing_is_entered_when_one_entry_cannot_be(filled: Worklist) -> None:
    with pytest.raises(DgateError, match="no accession number"):
        filled.change([{"AccessionN": "B1"}, {"PatientID": "P9"}])

    assert filled.count() == 3


def test_numbers_and_uids_are_made(archive: Archive) -> None:
    made = worklist(archive)
    first, second = made.change([{"AccessionN": "*AN", "StudyInsta": "*UI"}] * 2)
    assert isinstance(first, Entered)
    assert isinstance(second, Entered)
    assert len({first.accession, second.accession}) == 2
    assert all(len(each.accession) <= 16 for each in (first, second))
    before = [entry["StudyInsta"] for entry in made.find(())]
    assert before == ["9.9.1", "9.9.2"]

    made.change([{"AccessionN": first.accession, "StudyInsta": "*UI"}])

    assert [entry["StudyInsta"] for entry in made.find(())] == before


def test_values_are_cut_to_their_columns_and_dates_lose_their_marks(archive: Archive) -> None:
    made = worklist(archive)
    [done] = made.change(
        [
            {
                "AccessionN": "A1",
                "PatientNam": "ä" * 70,
                "PatientBir": "1970-01-31",
                "StartDate": "2026/03/02",
                "PatientID": " P1\0 ",
            }
        ]
    )

    assert isinstance(done, Entered)
    assert done.truncated == ("PatientName",)
    entry = made.first("A1")
    assert entry is not None
    assert entry["PatientNam"] == "ä" * 64
    assert (entry["PatientBir"], entry["StartDate"]) == ("19700131", "20260302")
    assert entry["PatientID"] == "P1"


@pytest.mark.parametrize(
    ("named", "left"),
    [
        (Named("A1"), ["A2", "A3"]),
        (Named("A1", "S1"), ["A2", "A3"]),
        (Named("A1", "other"), ["A1", "A2", "A3"]),
        (Named("A3", ""), ["A1", "A2"]),
        (Named(patient_id="P2"), ["A1", "A3"]),
        (Named("A2", patient_id="P1"), ["A1", "A2", "A3"]),
        (Named("A2' OR 1=1 --"), ["A1", "A2", "A3"]),
        (Named(), []),
    ],
)
def test_removing(filled: Worklist, named: Named, left: list[str]) -> None:
    assert filled.change([named]) == [3 - len(left)]
    assert found(filled) == left


def test_columns_are_known_by_every_name(filled: Worklist) -> None:
    for name in ("ReqProcDes", "reqprocdescription", "RequestedProcedureDescription", "0032,1060"):
        column = filled.columns.named(name)
        assert column is not None
        assert column.tag == DESCRIPTION
    assert filled.columns.named("Nonsense") is None


def test_without_a_table_there_is_no_worklist(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path))
    made = Worklist(
        archive.database, archive.schema, None, archive.writer, archive.settings, FixedClock(), str
    )

    assert not made
    assert found(made) == []
    assert made.first("A1") is None
    with pytest.raises(DgateError, match="no worklist"):
        made.change([{"AccessionN": "A1"}])
    archive.close()


def test_step_that_no_column_has_removes_nothing(tmp_path: Path) -> None:
    layout, _ = parse_layout(
        b'*WorkList* { { 0x0008, 0x0050, "AccessionNumber", 16, SQL_C_CHAR, DT_STR, "OBR.3" } }',
        "dicom.sql",
    )
    archive = open_archive(setup(tmp_path), layout)
    made = Worklist(
        archive.database,
        archive.schema,
        layout.worklist,
        archive.writer,
        archive.settings,
        FixedClock(),
        str,
    )
    made.change([{"AccessionN": "A1"}])

    assert made.change([Named("A1", "S1"), Named(patient_id="P1")]) == [0, 0]
    assert made.change([Named("A1", "")]) == [1]
    archive.close()


# WorkListMode.


def test_object_takes_what_it_has_an_element_for(filled: Worklist) -> None:
    table = image(AccessionNumber="A2", PatientID="OLD", RequestedProcedureDescription="")

    assert Coercion(filled, demanding=False).fill(table)

    assert table.text(PATIENT_ID) == "P2"
    assert table.text(NAME) == "Müller^Jörg"
    assert table.text(STUDY) == "1.2.2"
    assert table.text(MODALITY) == "MR"
    assert table.text(DESCRIPTION) == "Knee_left"
    assert table.text(0x00100040) == "M"
    assert AE not in table


@pytest.mark.parametrize("accession", [None, "", "B1", "A2*", "a?"])
def test_object_without_entry_stays_as_it_is(filled: Worklist, accession: str | None) -> None:
    table = image(AccessionNumber=accession)

    assert not Coercion(filled, demanding=True).fill(table)
    assert table.revision == 0


def test_object_that_says_the_same_stays_byte_for_byte(filled: Worklist) -> None:
    table = image(
        AccessionNumber="A1", PatientID="P1", PatientName="Adams^John", StudyInstanceUID="1.2.1"
    )

    assert Coercion(filled, demanding=True).fill(table)
    assert table.revision == 0


def test_value_that_an_element_cannot_hold_refuses_the_object(tmp_path: Path) -> None:
    layout, _ = parse_layout(
        b'*WorkList* { { 0x0008, 0x0050, "AccessionNumber", 16, SQL_C_CHAR, DT_STR, "OBR.3" } '
        b'{ 0x0028, 0x0010, "QRows", 16, SQL_C_CHAR, DT_STR, "---" } }',
        "dicom.sql",
    )
    archive = open_archive(setup(tmp_path), layout)
    made = Worklist(
        archive.database,
        archive.schema,
        layout.worklist,
        archive.writer,
        archive.settings,
        FixedClock(),
        str,
    )
    made.change([{"AccessionN": "A1", "QRows": "99999999"}])

    with pytest.raises(Refused, match="QRows that the object cannot hold"):
        Coercion(made, demanding=False).fill(image(AccessionNumber="A1"))
    archive.close()


# What rules read.


def lookup(archive: Archive, made: Worklist) -> Lookup:
    settings: Setup = archive.settings
    finder = Finder(archive.database, archive.schema, settings)
    return Lookup(archive.database, archive.schema, finder, made, settings)


def test_rows_of_an_object_can_be_read(archive: Archive, filled: Worklist) -> None:
    archive.store(image(PatientName="Müller^Jörg", StudyDescription="Old", SeriesNumber="7"))
    look = lookup(archive, filled)
    new = image(SOPInstanceUID="1.2.3.9", AccessionNumber="A1", PatientName="Other")

    assert look.value(Record.PATIENT, new, NAME) == "Müller^Jörg"
    assert look.value(Record.STUDY, new, 0x00081030) == "Old"
    assert look.value(Record.SERIES, new, 0x00200011) == "7"
    assert look.value(Record.WORKLIST, new, NAME) == "Adams^John"
    assert look.value(Record.WORKLIST, new, AE) == "CT1"
    assert look.value(Record.PATIENT, new, 0x00081030) == ""


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        (Record.PATIENT, {"PatientID": "P2"}),
        (Record.PATIENT, {"PatientID": "*"}),
        (Record.PATIENT, {"PatientID": "P1' OR '1'='1"}),
        (Record.STUDY, {"PatientID": "P2"}),
        (Record.STUDY, {"StudyInstanceUID": "1.9"}),
        (Record.SERIES, {"PatientID": "P2"}),
        (Record.SERIES, {"StudyInstanceUID": "1.9"}),
        (Record.SERIES, {"SeriesInstanceUID": "1.9"}),
        (Record.WORKLIST, {"AccessionNumber": "A9"}),
        (Record.WORKLIST, {"AccessionNumber": None}),
    ],
)
def test_rows_of_others_are_not_read(
    archive: Archive, filled: Worklist, record: Record, changes: dict[str, str]
) -> None:
    archive.store(image())
    look = lookup(archive, filled)
    tags = {Record.SERIES: 0x00080060, Record.STUDY: 0x00080020}

    assert look.value(record, image(**changes), tags.get(record, NAME)) == ""


def test_objects_of_the_same_patient_are_found(archive: Archive, filled: Worklist) -> None:
    archive.store(image())
    look = lookup(archive, filled)

    ref = look.of_patient("1.2.3.1.1.1", "P1")
    assert ref is not None
    assert ref.sop_instance == "1.2.3.1.1.1"
    assert look.of_patient("1.2.3.1.1.1", "P2") is None
    assert look.of_patient("1.2.3.1.1.9", "P1") is None


def test_ids_are_looked_up_as_the_index_has_them(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path, fix_kodak=True))
    archive.store(image(PatientID="01234567", PatientName="Zero"))
    archive.store(
        image(
            SOPInstanceUID="1.5",
            SeriesInstanceUID="1.5.1",
            StudyInstanceUID="1.5.2",
            PatientID="X",
            PatientName="Short",
        )
    )
    look = lookup(archive, worklist(archive))

    assert look.value(Record.PATIENT, image(PatientID="01234567"), NAME) == "Zero"
    assert look.value(Record.PATIENT, image(PatientID="X"), NAME) == "Short"
    assert look.value(Record.PATIENT, image(PatientID=None), NAME) == "Short"
    archive.close()
