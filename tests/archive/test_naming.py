"""File names of stored objects (spec dimse.md section 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from dgate.archive.naming import Naming, clean, extension, is_confined, numbered
from dgate.archive.repair import NO_ID
from dgate.archive.rows import Entry
from dgate.config.settings import V2Content, default_settings
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import ConfigError, NotDicom
from dgate.rules.session import Session
from tests.archive.intake_kit import FixedClock, data_set


def naming(syntax: str, **changes: Any) -> Naming:
    settings = default_settings(Path("/nowhere"), file_name_syntax=syntax, **changes)
    return Naming(settings, FixedClock())


ENTRY = Entry("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "P1", "1.2.3.1", "1.2.3.1.1", "CT")


def name_of(
    syntax: str,
    *,
    encapsulated: bool = False,
    calling: str = "CT1",
    called: str = "PACS",
    patient_id: str | None = None,
    settings: dict[str, Any] | None = None,
    **elements: Any,
) -> str:
    """Return the name that a syntax gives an object with these elements."""
    table = ElementTable(data_set(**elements), EXPLICIT_LE)
    text = table.text
    entry = Entry(
        sop_class=text(0x00080016),
        sop_instance=text(0x00080018),
        patient_id=(text(0x00100020) or NO_ID) if patient_id is None else patient_id,
        study=text(0x0020000D),
        series=text(0x0020000E),
        modality=text(0x00080060),
    )
    made = naming(syntax, **(settings or {}))
    return made.name(table, entry, calling, called, encapsulated=encapsulated)


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        ("0", "SMITH^JO_PATIENT-/2_3_1700000000.v2"),
        ("1", "SMITH^JO_PATIENT-/0002_000003_17000000000000.v2"),
        ("2", "SMITH^JO_PATIENT-/1.2.3.1.1_0002_000003_17000000000000.v2"),
        ("3", "PATIENT-12345678/1.2.3.1.1_0002_000003_17000000000000.v2"),
        ("4", "PATIENT-12345678/1.2.3.1.1_0002_000003_17000000000000.dcm"),
        ("5", "SMITH^JOHN/1.2.3.1.1_0002_000003_17000000000000.v2"),
        ("6", "PATIENT-1234567890/1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.v2"),
        ("7", "1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.v2"),
        ("8", "PATIENT-1234567890/1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.dcm"),
        ("9", "1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.dcm"),
        ("10", "Images/1.2.3.1.1.1.dcm"),
        ("11", "SMITH^JOHN/1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.dcm"),
        ("12", "SMITH^JOHN_PATIENT-1234567890/CT_S1/2/1.2.3.1.1.1.dcm"),
        ("13", "SMITH^JO_PATIENT-/2_3_1700000000.v2"),
        ("nonsense", "SMITH^JO_PATIENT-/2_3_1700000000.v2"),
    ],
)
def test_fixed_syntaxes(syntax: str, expected: str) -> None:
    assert name_of(syntax, PatientID="PATIENT-1234567890") == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("%name/%id.dcm", "SMITH^JOHN/P1.dcm"),
        ("%modality_%studyid_%studydesc.dcm", "CT_S1_Thorax.dcm"),
        ("%studyuid/%seriesuid/%sopuid.dcm", "1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.dcm"),
        ("%seriesid_%series.dcm", "2_0002.dcm"),
        ("%imagenum_%image.dcm", "3_000003.dcm"),
        ("%imageid.dcm", "empty.dcm"),
        ("%studydate-%time-%counter.dcm", "20240131-1700000000-0000.dcm"),
        ("%calledae/%callingae.dcm", "PACS/CT1.dcm"),
        ("%v0010,0020.dcm", "P1.dcm"),
        ("%VPatientName.dcm", "SMITH^JOHN.dcm"),
        ("%V0008,0060/%v0020,0013.dcm", "CT/3.dcm"),
        ("%V0008,1140/%sopuid.dcm", "empty/1.2.3.1.1.1.dcm"),
        ("%name[0,2]/%id[0,63].dcm", "SMI/P1.dcm"),
        ("%name[2,2].dcm", "I.dcm"),
        ("%name[3,1].dcm", "SMITH^JOHN.dcm"),
        ("%name[,3].dcm", "SMITH^JOHN[,3].dcm"),
        ("%VModality[0,0].dcm", "C.dcm"),
        ("%xyz_%sopuid.dcm", "xyz_1.2.3.1.1.1.dcm"),
        ("%Name.dcm", "Name.dcm"),
        ("%v_%id.dcm", "v_P1.dcm"),
        ("%seriesplain.dcm", "0002plain.dcm"),
        ("%name[70,80]/%id.dcm", "P1.dcm"),
        ("%V/nothing/%id.dcm", "empty/P1.dcm"),
        ("%V/%id.dcm", "V/P1.dcm"),
        ("%VReferencedImageSequence/%id.dcm", "empty/P1.dcm"),
        ("%V/ReferencedImageSequence.0.dcm", "empty.dcm"),
        (r"%id\%sopuid.dcm", "P1/1.2.3.1.1.1.dcm"),
        ("%id//%sopuid.dcm", "P1/1.2.3.1.1.1.dcm"),
        ("100%%/%id.dcm", "100/P1.dcm"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    assert name_of(template) == expected


def test_template_date_is_the_present_local_day() -> None:
    name = name_of("%date.dcm")

    assert name in ("20231114.dcm", "20231115.dcm")


def test_element_inside_a_sequence_names_the_file() -> None:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.777"
    template = "%V/ReferencedImageSequence.0/ReferencedSOPInstanceUID/x.dcm"

    assert name_of(template, ReferencedImageSequence=[item]) == "1_2_777/x.dcm"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DOE^JANE", "DOE^JANE"),
        (r'a/b\c;d>e<f|g,h.i j:k?l*m"n', "a_b_c_d_e_f_g_h_i_j_k_l_m_n"),
        ("ends at\ncontrol", "ends_at"),
        ("nul\0behind", "nul"),
        ("trailing. ", "trailing"),
        ("...", "unknown"),
        ("\n", "unknown"),
        ("", "unknown"),
        ("../../etc", "______etc"),
        ("x" * 100, "x" * 64),
        ("Müller^Jürgen", "Müller^Jürgen"),
    ],
)
def test_cleaning_of_parts(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_absent_attributes_are_called_empty_and_count_as_zero() -> None:
    name = name_of("12", StudyID=None, Modality=None, SeriesNumber=None, PatientName=None)

    assert name == "NO_NAME_P1/empty_empty/empty/1.2.3.1.1.1.dcm"
    assert name_of("0", SeriesNumber=None, InstanceNumber="") == "SMITH^JO_P1/0_0_1700000000.v2"


def test_absent_uids_are_called_empty() -> None:
    assert name_of("9", StudyInstanceUID=None) == "empty/1.2.3.1.1/1.2.3.1.1.1.dcm"


def test_patient_id_is_the_repaired_one() -> None:
    assert name_of("4", PatientID=None).startswith("00000000/")


def test_counter_tells_names_of_the_same_second_apart() -> None:
    made = naming("4")
    table = ElementTable(data_set(), EXPLICIT_LE)
    entry = Entry("", "1.2", "P1", "1.2.1", "1.2.2", "CT")

    names = {made.name(table, entry, "", "", encapsulated=False) for _ in range(3)}

    assert len(names) == 3


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        ("7", "1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.dcm"),
        ("%sopuid.img", "1.2.3.1.1.1.dcm"),
        ("9", "1.2.3.1/1.2.3.1.1/1.2.3.1.1.1.dcm"),
    ],
)
def test_compressed_data_gets_a_dcm_name(syntax: str, expected: str) -> None:
    assert name_of(syntax, encapsulated=True) == expected


@pytest.mark.parametrize(
    ("template", "changes"),
    [
        ("%callingae/%sopuid.dcm", {"calling": ".."}),
        ("%studydate/%sopuid.dcm", {"StudyDate": ".."}),
        ("%studyuid/%sopuid.dcm", {"StudyInstanceUID": "../../x"}),
        ("%seriesuid/%sopuid.dcm", {"SeriesInstanceUID": "/etc"}),
        ("4", {"SeriesInstanceUID": "1.2/../../x"}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_object_cannot_lead_its_file_out_of_the_device(
    template: str, changes: dict[str, str]
) -> None:
    with pytest.raises(NotDicom):
        name_of(template, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("title", ["a/b", "a\\b", "a\nb", "a\0b"])
def test_titles_with_separators_or_control_characters_stay_one_part(title: str) -> None:
    assert name_of("%callingae/%id.dcm", calling=title) == "a_b/P1.dcm"


@pytest.mark.parametrize("patient_id", ["dgate", "Incoming", "printer_files", "BIN"])
def test_folders_that_dgate_uses_itself_are_left_alone(patient_id: str) -> None:
    assert name_of("8", patient_id=patient_id).startswith(f"{patient_id}_/")


@pytest.mark.parametrize("syntax", ["%id/%sopuid", "/%id.dcm", "../%id.dcm", "%id.d/x"])
def test_syntax_that_cannot_name_files_is_a_configuration_error(syntax: str) -> None:
    with pytest.raises(ConfigError):
        naming(syntax)


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ("a/b.dcm", "a/b.dcm"),
        ("a\\b", "a/b.dcm"),
        ("/etc/x.dcm", "etc/x.dcm"),
        ("incoming/x.dcm", "incoming_/x.dcm"),
        ("x\ny.v2", "x_y.v2"),
        ("CT/1.2.840.7", "CT/1.2.840.7.dcm"),
        ("../x.dcm", None),
        ("a/../../x", None),
        ("  ", None),
        (None, None),
    ],
)
def test_name_of_a_lua_expression_stays_below_the_device(
    found: str | None, name: str | None
) -> None:
    settings = default_settings(Path("/nowhere"), file_name_syntax=" LUA:x")
    made = Naming(settings, FixedClock(), lambda table, calling, called, session: found)

    given = made.name(ElementTable(data_set(), EXPLICIT_LE), ENTRY, "A", "B", encapsulated=False)

    assert given == (name_of("4") if name is None else name)


def test_lua_expression_gets_the_session_of_who_brings_the_object() -> None:
    settings = default_settings(Path("/nowhere"), file_name_syntax="lua:x")
    seen: list[Session | None] = []

    def evaluate(table: ElementTable, calling: str, called: str, session: Session | None) -> str:
        seen.append(session)
        return "a.dcm"

    made = Naming(settings, FixedClock(), evaluate)
    session = Session("A", "B")
    table = ElementTable(data_set(), EXPLICIT_LE)

    made.name(table, ENTRY, "A", "B", encapsulated=False, session=session)
    made.name(table, ENTRY, "A", "B", encapsulated=False)

    assert seen == [session, None]


def test_names_are_those_of_syntax_4_where_there_is_no_lua() -> None:
    assert name_of("lua:x") == name_of("4")


def test_long_names_lose_leading_characters_below_their_root_folder() -> None:
    short = name_of("9", settings={"max_file_name_length": 12})

    assert short == "1.2.3.1/3.1.1.1.dcm"


def test_long_uids_are_kept_whole_by_default() -> None:
    uid = "1.2." + "3" * 60

    name = name_of("8", StudyInstanceUID=uid, SeriesInstanceUID=uid, PatientID="P")

    assert name == f"P/{uid}/{uid}/1.2.3.1.1.1.dcm"


def test_parts_stay_below_the_limit_of_the_file_system() -> None:
    name = name_of(
        "%name%name%name%name%name/%id.dcm", PatientName="ü" * 64, SpecificCharacterSet="ISO_IR 192"
    )

    assert len(name.split("/")[0].encode()) <= 240
    assert name.endswith("P1.dcm")


def test_long_file_part_keeps_its_extension() -> None:
    name = name_of("x/%name%name%name%name%name.dcm", PatientName="N" * 64)

    assert len(name) <= 255
    assert name.endswith("N.dcm")


@pytest.mark.parametrize(
    ("name", "ending", "second"),
    [
        ("a/b.dcm", ".dcm", "a/b_1.dcm"),
        ("a.b/c", "", "a.b/c_1"),
        ("1.2.3.v2", ".v2", "1.2.3_1.v2"),
    ],
)
def test_taken_names_get_a_number_before_the_extension(name: str, ending: str, second: str) -> None:
    assert extension(name) == ending
    assert numbered(name, 1) == second


@pytest.mark.parametrize(
    ("name", "content", "no_check", "raw"),
    [
        ("a.v2", V2Content.RAW, False, True),
        ("a.V2", V2Content.RAW, False, True),
        ("a.v2", V2Content.PART10, False, False),
        ("a.v2", V2Content.RAW, True, False),
        ("a.dcm", V2Content.RAW, False, False),
    ],
)
def test_only_v2_files_hold_bare_data_sets_and_only_when_asked(
    name: str, content: V2Content, no_check: bool, raw: bool
) -> None:
    assert naming("3", v2_content=content, no_dicom_check=no_check).is_raw(name) is raw


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../b", "a\0b"])
def test_names_from_a_database_are_checked(name: str) -> None:
    assert not is_confined(name)
    assert is_confined("P1/1.2..3.dcm")


_TITLES = st.text(min_size=0, max_size=20)


@example_settings(max_examples=40)
@given(patient=st.text(max_size=80), calling=_TITLES, called=_TITLES, number=st.integers(0, 12))
def test_no_text_leads_out_of_the_device(
    patient: str, calling: str, called: str, number: int
) -> None:
    table = ElementTable(data_set(PatientName=None), EXPLICIT_LE)
    entry = Entry("", "1.2", patient, "1.2.1", "1.2.2", "CT")
    for syntax in (str(number), "%callingae/%calledae/%id.dcm"):
        try:
            name = naming(syntax).name(table, entry, calling, called, encapsulated=False)
        except NotDicom:
            continue
        path = Path("/device", name)
        assert path.is_relative_to("/device")
        assert ".." not in path.parts
        assert "\0" not in name
        assert all(len(part.encode()) <= 255 for part in path.parts)
