"""Specific character sets, with the standard's own examples and pydicom as judges."""

from __future__ import annotations

import pydicom.charset
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydicom.valuerep import PersonName

from dgate.dicom.charset import DoesNotFit, decode, encode
from dgate.dicom.table import ElementTable
from tests.dicom.samples import SHIPPED, by_name, read

PATIENT_NAME = 0x00100010

# PS3.5 annexes H, I, J and PS3.3 C.12: name, character set, bytes.
STANDARD = [
    pytest.param(
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        rb"\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        id="H.3.1",
    ),
    pytest.param(
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        rb"ISO 2022 IR 13\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"
        b"=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        id="H.3.2",
    ),
    pytest.param(
        "Hong^Gildong=洪^吉洞=홍^길동",
        rb"\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        id="I.2",
    ),
    pytest.param(
        "Zhang^XiaoDong=张^小东=",
        rb"\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        id="K.2",
    ),
    pytest.param(
        "Wang^XiaoDong=王^小东=",
        b"GB18030",
        b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=",
        id="J.3",
    ),
    pytest.param(
        "Wang^XiaoDong=王^小东=", b"GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", id="GBK"
    ),
    pytest.param(
        "Wang^XiaoDong=王^小東=",
        b"ISO_IR 192",
        b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1=",
        id="J.1",
    ),
    pytest.param("Buc^Jérôme", b"ISO_IR 100", b"Buc^J\xe9r\xf4me", id="latin 1"),
    pytest.param("Δανιδης", b"ISO_IR 126", b"\xc4\xe1\xed\xe9\xe4\xe7\xf2", id="greek"),
    pytest.param(
        "Жуков^Юрий", b"ISO_IR 144", b"\xb6\xe3\xda\xde\xd2^\xce\xe0\xd8\xd9", id="cyrillic"
    ),
    pytest.param(
        "שרון^דבורה", b"ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", id="hebrew"
    ),
    pytest.param(
        "قباني^لنزار", b"ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", id="arabic"
    ),
    pytest.param("Łódź", b"ISO_IR 101", b"\xa3\xf3d\xbc", id="latin 2"),
    pytest.param("Žižka €", b"ISO_IR 203", b"\xb4i\xb8ka \xa4", id="latin 9"),
    pytest.param("ไทย", b"ISO_IR 166", b"\xe4\xb7\xc2", id="thai"),
    pytest.param("İş", b"ISO_IR 148", b"\xdd\xfe", id="latin 5"),
    pytest.param("丂", rb"\ISO 2022 IR 159", b"\x1b$(D0!\x1b(B", id="JIS X 0212"),
    pytest.param(
        "Dionysios is Διονυσιος",
        rb"ISO 2022 IR 100\ISO 2022 IR 126",
        b"Dionysios is \x1b-F\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2",
        id="latin 1 and greek",
    ),
]


@pytest.mark.parametrize(("text", "charset", "raw"), STANDARD)
def test_examples_of_the_standard_are_read(text: str, charset: bytes, raw: bytes) -> None:
    assert decode(raw, charset, "PN") == text


@pytest.mark.parametrize(("text", "charset", "raw"), STANDARD)
def test_examples_of_the_standard_are_written(text: str, charset: bytes, raw: bytes) -> None:
    assert encode(text, charset, "PN") == raw


FILES = sorted(path.name for path in (SHIPPED / "charset_files").glob("*.dcm"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_names_in_shipped_files_are_those_that_pydicom_reads(name: str) -> None:
    file = by_name(name)
    table = ElementTable(file.data, file.syntax)
    judge = read(file.head + file.data)
    judge.decode()
    if "PatientName" in judge:
        assert table.text(PATIENT_NAME).rstrip("=") == str(judge.PatientName).rstrip("= ")


@pytest.mark.parametrize("charset", [None, b"", b"ISO_IR 6", b"ISO 2022 IR 6", b"no such set"])
def test_undeclared_text_is_read_as_utf_8_else_as_latin_1(charset: bytes | None) -> None:
    assert decode("Müller".encode(), charset, "PN") == "Müller"
    assert decode("Müller".encode("latin_1"), charset, "PN") == "Müller"


def test_wrongly_declared_text_is_not_lost() -> None:
    assert decode("Müller".encode("latin_1"), b"ISO_IR 192", "PN") == "Müller"
    assert decode("山田".encode(), b"ISO_IR 127", "PN") == "山田"


@pytest.mark.parametrize(
    "term",
    [
        b"ISO_IR 100",
        b"ISO-IR 100",
        b"ISO IR 100",
        b"iso_ir 100",
        b"ISO_IR100",
        b" ISO_IR 100 ",
        b"ISO_IR 100\0",
    ],
)
def test_common_spellings_of_a_term_are_understood(term: bytes) -> None:
    assert decode(b"\xe9", term, "LO") == "é"
    assert encode("é", term, "LO") == b"\xe9"


def test_switch_ends_at_a_delimiter() -> None:
    raw = b"\x1b-F\xc4\\\xe9^\xe9"
    assert decode(raw, rb"ISO 2022 IR 100\ISO 2022 IR 126", "LO") == "Δ\\é^é"
    assert decode(raw, rb"ISO 2022 IR 100\ISO 2022 IR 126", "PN") == "Δ\\é^é"
    assert (
        decode(b"\x1b-F\xc4^\xe9", rb"ISO 2022 IR 100\ISO 2022 IR 126", "LO")
        == "Δ^\N{GREEK SMALL LETTER IOTA}"
    )


def test_korean_without_a_second_switch_is_understood() -> None:
    raw = b"Hong=\x1b$)C\xfb\xf3^\xd1\xce\xd4\xd7"
    assert decode(raw, rb"\ISO 2022 IR 149", "PN") == "Hong=洪^吉洞"


def test_escape_sequences_are_followed_even_where_not_declared() -> None:
    assert decode(b"\x1b$B;3ED\x1b(B", b"ISO_IR 6", "LO") == "山田"
    assert decode(b"\x1b$B;3ED\x1b(B", None, "LO") == "山田"


def test_second_byte_of_a_chinese_character_is_no_delimiter() -> None:
    assert decode(b"\x81\\", b"GBK", "LO") == "乗"


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        ("é", None),
        ("é", b"ISO_IR 6"),
        ("Ж", b"ISO_IR 100"),
        ("山", b"ISO_IR 13"),
        ("山田", rb"\ISO 2022 IR 149\nonsense"[:3]),
        ("é", rb"\ISO 2022 IR 87"),
        ("😀", b"GBK"),
    ],
)
def test_text_that_does_not_fit_is_an_error(text: str, charset: bytes | None) -> None:
    with pytest.raises(DoesNotFit):
        encode(text, charset, "LO")


def test_plain_text_needs_no_character_set() -> None:
    assert encode("Doe^John", b"nonsense", "PN") == b"Doe^John"
    assert decode(b"Doe^John", b"nonsense", "PN") == "Doe^John"


CHARSETS = st.sampled_from(
    [
        b"ISO_IR 100",
        b"ISO_IR 192",
        b"GB18030",
        b"GBK",
        b"ISO_IR 13",
        rb"\ISO 2022 IR 87",
        rb"ISO 2022 IR 13\ISO 2022 IR 87",
        rb"\ISO 2022 IR 87\ISO 2022 IR 159",
        rb"\ISO 2022 IR 149",
        rb"\ISO 2022 IR 58",
        rb"ISO 2022 IR 100\ISO 2022 IR 126\ISO 2022 IR 144",
    ]
)
ALPHABET = "aZ 1^=\\éüΔЖ山田やまだﾔﾏ洪홍길张东丂"


@given(text=st.text(ALPHABET, max_size=12), charset=CHARSETS, vr=st.sampled_from(["PN", "LO"]))
def test_what_can_be_written_is_read_again(text: str, charset: bytes, vr: str) -> None:
    try:
        raw = encode(text, charset, vr)
    except DoesNotFit:
        return
    assert decode(raw, charset, vr) == text


@given(text=st.text(ALPHABET.replace("\\", ""), max_size=12), charset=CHARSETS)
def test_what_is_written_is_read_the_same_by_pydicom(text: str, charset: bytes) -> None:
    # pydicom leaves the escape sequence of GB 2312 in the text.
    assume(charset != rb"\ISO 2022 IR 58")
    try:
        raw = encode(text, charset, "LO")
    except DoesNotFit:
        return
    encodings = pydicom.charset.convert_encodings(charset.decode().split("\\"))
    assert pydicom.charset.decode_bytes(raw, encodings, set("\\\r\n\t\f")) == text


@given(
    text=st.text("aé山やΔ홍^=", min_size=1, max_size=12).filter(lambda text: text.count("=") < 3)
)
def test_names_written_by_pydicom_are_read(text: str) -> None:
    charset = rb"ISO 2022 IR 100\ISO 2022 IR 87\ISO 2022 IR 149\ISO 2022 IR 126"
    encodings = pydicom.charset.convert_encodings(charset.decode().split("\\"))
    try:
        raw = PersonName(text).encode(encodings)
    except UnicodeError:
        return
    assert decode(raw, charset, "PN").rstrip("=") == text.rstrip("=")


@given(
    raw=st.binary(max_size=40),
    charset=CHARSETS | st.binary(max_size=20),
    vr=st.sampled_from(["PN", "UT"]),
)
def test_any_bytes_are_some_text(raw: bytes, charset: bytes, vr: str) -> None:
    decode(raw, charset, vr).encode("utf_8")
