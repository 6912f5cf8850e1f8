"""HL7 orders and JSON to worklist entries: places, names, dates, groups, and bad input."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.archive.orders import Order, read_orders
from dgate.archive.worklist import Columns, Named
from dgate.config.layout import default_layout, parse_layout
from dgate.errors import DgateError

COLUMNS = Columns(default_layout().worklist)
HEAD = "MSH|^~\\&|RIS|HOSP|DGATE|HOSP|20260301120000||ORM^O01|1|P|2.3"


def columns(*places: str) -> Columns:
    """Return columns whose 7th fields are these, after the accession number: text, then names."""
    rows = "".join(
        f'{{ 0x0010, 0x{0x4000 + place:04x}, "C{place}", 64, SQL_C_CHAR, DT_STR, "{text}" }},'
        for place, text in enumerate(places)
    )
    head = '{ 0x0008, 0x0050, "AccessionNumber", 16, SQL_C_CHAR, DT_STR, "OBR.3" },'
    layout, _ = parse_layout(f"*WorkList* {{ {head} {rows} }}".encode(), "dicom.sql")
    return Columns(layout.worklist)


def value(place: str, *segments: str) -> str | None:
    """Return what a column with this place gets out of a message."""
    data = "\r".join((HEAD, "OBR|1||A1", *segments)).encode()
    [order] = read_orders(data, columns(place))
    return order.values.get("C0")


@pytest.mark.parametrize(
    ("place", "segment", "expected"),
    [
        ("PID.3", "PID|1||P7", "P7"),
        ("pid.3", "PID|1||P7", "P7"),
        ("PID.3", "PID|1||P7^^^HOSP^MR~P8", "P7"),
        ("PID.3.3", "PID|1||P7^^^HOSP&1.2&ISO^MR", "HOSP"),
        ("PID.3.9", "PID|1||P7", None),
        ("PID.30", "PID|1||P7", None),
        ("PV1.2", "PID|1||P7", None),
        ("PID.3", "PID|1||", None),
        ("PID.3", 'PID|1||""', ""),
        ("PID.3", "PID|1||a\\T\\b\\S\\c\\F\\d\\E\\e\\R\\f", "a&b^c|d\\e~f"),
        ("PID.3", "PID|1||line\\.br\\two", "line two"),
        ("PID.3", "PID|1||\\X41C3A4\\", "Aä"),
        ("PID.3", "PID|1||odd\\Xzz\\end\\", "oddend\\"),
        ("MSH.6.DATE", "PID|1", "20260301"),
        ("MSH.6.TIME", "PID|1", "120000"),
        ("ZDG.1.DATE", "ZDG|202603021530+0100", "20260302"),
        ("ZDG.1.TIME", "ZDG|202603021530+0100", "1530"),
        ("ZDG.1.TIME", "ZDG|20260302153000.25", "153000.25"),
        ("ZDG.1.TIME", "ZDG|20260302", None),
        ("ZDG.1.DATE", "ZDG|soon", None),
        ("ZDG.1.DATE", "ZDG|202603^later", "202603"),
        ("*AN", "PID|1", "*AN"),
        ("*ui", "PID|1", "*UI"),
        ("---", "PID|1||P7", None),
    ],
)
def test_place_in_the_message(place: str, segment: str, expected: str | None) -> None:
    assert value(place, segment) == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("Doe^Jane", "Doe^Jane"),
        ("Doe^Jane^Ann^Jr^Dr", "Doe^Jane^Ann^Dr^Jr"),
        ("Doe^^^^Prof", "Doe^^^Prof"),
        ("Doe", "Doe"),
        ("Doe&van^Jane", "Doe^Jane"),
        ("M\\S\\N^Jane", "M N^Jane"),
        ('""', ""),
    ],
)
def test_names_are_put_in_the_order_of_dicom(field: str, expected: str) -> None:
    data = f"{HEAD}\rPID|1||P|P|{field}\rOBR|1||A1".encode()
    [order] = read_orders(data, COLUMNS)
    assert order.values["PatientNam"] == expected


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n", "\r\x1c\r"])
def test_every_line_ending_and_the_framing_of_mllp_are_understood(ending: str) -> None:
    text = ending.join((f"\x0b{HEAD}", "OBR|1||A1", f"{HEAD}", "OBR|1||A2", ""))
    orders = read_orders(text.encode(), COLUMNS)
    assert [order.values["AccessionN"] for order in orders] == ["A1", "A2"]


def test_batch_headers_are_skipped() -> None:
    data = "\r".join(("FHS|^~\\&", "BHS|^~\\&", HEAD, "OBR|1||A1", "BTS|1", "FTS|1")).encode()
    assert [order.values["AccessionN"] for order in read_orders(data, COLUMNS)] == ["A1"]


def test_each_order_of_a_message_is_an_entry_with_what_they_share() -> None:
    data = "\r".join(
        (
            HEAD,
            "PID|1||P|P1",
            "ORC|NW|1",
            "OBR|1||A1|STEP1",
            "ORC|CA|2",
            "OBR|2||A2|STEP2",
            "OBR|3||A3|STEP3",
        )
    ).encode()

    first, second, third = read_orders(data, COLUMNS)

    assert [each.values["PatientID"] for each in (first, second, third)] == ["P1"] * 3
    assert [each.values["AccessionN"] for each in (first, second, third)] == ["A1", "A2", "A3"]
    assert [each.ends for each in (first, second, third)] == [False, True, False]
    assert second.change(COLUMNS) == Named("A2", "STEP2")
    assert first.change(COLUMNS) == first.values


@pytest.mark.parametrize("control", ["CA", "DC", "oc", "DR"])
def test_cancelled_order_without_number_is_refused(control: str) -> None:
    [order] = read_orders(f"{HEAD}\rORC|{control}\rOBR|1||".encode(), COLUMNS)
    with pytest.raises(DgateError, match="no accession number"):
        order.change(COLUMNS)


@pytest.mark.parametrize(
    ("charset", "codec"),
    [("8859/1", "latin-1"), ("UNICODE UTF-8", "utf-8"), ("8859/5", "iso8859-5"), ("", "utf-8")],
)
def test_text_is_decoded_by_the_header(charset: str, codec: str) -> None:
    name = "Жуков" if codec == "iso8859-5" else "Müller"
    data = f"{HEAD}||||||{charset}\rPID|1||P|P|{name}\rOBR|1||A1".encode(codec)
    assert read_orders(data, COLUMNS)[0].values["PatientNam"] == name


def test_text_that_was_declared_wrongly_is_kept_as_well_as_can_be() -> None:
    data = f"{HEAD}||||||UNICODE UTF-8\rPID|1||P|P|Müller\rOBR|1||A1".encode("latin-1")
    assert read_orders(data, COLUMNS)[0].values["PatientNam"] == "Müller"


def test_other_separators_are_understood() -> None:
    data = b"MSH#!~\\&#RIS\rPID#1##P#P1!x#Doe!Jane\rOBR#1##A1"
    [order] = read_orders(data, COLUMNS)
    assert order.values["PatientNam"] == "Doe^Jane"
    assert order.values["PatientID"] == "P1"


def test_json_may_be_flat_or_nested() -> None:
    nested = {
        "AccessionNumber": "A1",
        "00100020": 7,
        "PatientName": None,
        "ScheduledProcedureStepSequence": [{"Modality": "CT", "StartDate": "20260302"}],
    }
    for content in (nested, [nested]):
        [order] = read_orders(json.dumps(content).encode(), COLUMNS)
        assert order == Order(
            {
                "AccessionN": "A1",
                "PatientID": "7",
                "PatientNam": "",
                "Modality": "CT",
                "StartDate": "20260302",
            }
        )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no HL7 message"),
        (b"\r\n\r\n", "no HL7 message"),
        (b"PID|1", "does not begin with"),
        (b"MSH", "names no separators"),
        (b"MSH|||||", "names no separators"),
        (b"MSHaaaaaa", "names no separators"),
        (b"MSH|^~\\&|\rnonsense", "line 2 is no HL7 segment: 'nonsense'"),
        (b"{", "JSON cannot be read"),
        (b"[" * 100_000, "JSON cannot be read"),
        (b"[1]", "entry 1 is not an object"),
        (b'[{}, {"Nonsense": 1}]', "entry 2: the worklist has no column 'Nonsense'"),
        (b'{"PatientID": true}', "PatientID must be a text"),
        (b'{"PatientID": [1, 2]}', "PatientID must be a text"),
    ],
)
def test_what_cannot_be_understood_names_its_place(data: bytes, message: str) -> None:
    with pytest.raises(DgateError, match=r"bad\.hl7") as raised:
        read_orders(data, COLUMNS, "bad.hl7")
    assert message in str(raised.value)


def test_without_columns_nothing_can_be_read() -> None:
    with pytest.raises(DgateError, match="no worklist"):
        read_orders(HEAD.encode(), Columns(None))


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, with_header: bool) -> None:
    try:
        orders = read_orders((HEAD.encode() + b"\r" if with_header else b"") + data, COLUMNS)
    except DgateError:
        return
    known = {column.name for column in COLUMNS.all}
    assert all(set(order.values) <= known for order in orders)


@given(
    st.text(
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='|^~\\&\x85\u2028\u2029"')
    )
)
def test_any_plain_text_arrives(text: str) -> None:
    assert (value("ZDG.1", f"ZDG|{text}") or "") == text.strip()
