"""Compression codes: what is proposed, and what is stored."""

from __future__ import annotations

import pytest

from dgate.dicom.transcode import proposed_syntaxes, stored_syntax_for
from dgate.dicom.uids import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_PROGRESSIVE,
    JPEG_SPECTRAL,
    RLE_LOSSLESS,
)

MPEG_2 = "1.2.840.10008.1.2.4.100"


@pytest.mark.parametrize("code", ["", "as", "is", "AS", " as "])
@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (JPEG_BASELINE, [[JPEG_BASELINE], [EXPLICIT_LE, IMPLICIT_LE]]),
        (RLE_LOSSLESS, [[RLE_LOSSLESS], [EXPLICIT_LE, IMPLICIT_LE]]),
        (EXPLICIT_LE, [[EXPLICIT_LE], [IMPLICIT_LE]]),
        (IMPLICIT_LE, [[IMPLICIT_LE], [EXPLICIT_LE]]),
    ],
)
def test_objects_left_alone_are_proposed_as_stored_first(
    code: str, stored: str, expected: list[list[str]]
) -> None:
    assert proposed_syntaxes(code, stored) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("un", [IMPLICIT_LE]),
        ("ui", [IMPLICIT_LE]),
        ("n2", [IMPLICIT_LE]),
        ("k4", [IMPLICIT_LE]),
        ("v", [IMPLICIT_LE]),
        ("what", [IMPLICIT_LE]),
        ("ul", [EXPLICIT_LE, IMPLICIT_LE]),
        ("ub", [EXPLICIT_BE, IMPLICIT_LE]),
        ("ue", [EXPLICIT_LE, EXPLICIT_BE, IMPLICIT_LE]),
        ("j1", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, IMPLICIT_LE]),
        ("J2", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, IMPLICIT_LE]),
        ("ja", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, IMPLICIT_LE]),
        ("j0", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, IMPLICIT_LE]),
        ("jq", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, IMPLICIT_LE]),
        ("j", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, IMPLICIT_LE]),
        ("j!", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1]),
        ("j2!", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1]),
        ("j3", [JPEG_EXTENDED, JPEG_BASELINE, IMPLICIT_LE]),
        ("j485!", [JPEG_EXTENDED, JPEG_BASELINE]),
        ("j5", [JPEG_SPECTRAL, JPEG_EXTENDED, JPEG_BASELINE, IMPLICIT_LE]),
        ("j6", [JPEG_PROGRESSIVE, JPEG_EXTENDED, JPEG_BASELINE, IMPLICIT_LE]),
        ("js", [JPEG_LS_LOSSLESS, IMPLICIT_LE]),
        ("j790", [JPEG_LS_NEAR_LOSSLESS, JPEG_LS_LOSSLESS, IMPLICIT_LE]),
        ("jk", [JPEG_2000_LOSSLESS, IMPLICIT_LE]),
        ("jl10", [JPEG_2000, JPEG_2000_LOSSLESS, IMPLICIT_LE]),
    ],
)
def test_other_codes_propose_one_context_by_table(code: str, expected: list[str]) -> None:
    assert proposed_syntaxes(code, EXPLICIT_LE) == [expected]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (JPEG_2000, [[JPEG_2000], [EXPLICIT_LE, IMPLICIT_LE]]),
        (RLE_LOSSLESS, [[EXPLICIT_LE, IMPLICIT_LE]]),
        ("1.2.3.4", [[EXPLICIT_LE, IMPLICIT_LE]]),
        (EXPLICIT_LE, [[EXPLICIT_LE], [IMPLICIT_LE]]),
    ],
)
def test_uj_leaves_the_jpeg_family_alone(stored: str, expected: list[list[str]]) -> None:
    assert proposed_syntaxes("uj", stored) == expected


@pytest.mark.parametrize(
    ("code", "stored", "expected"),
    [
        ("as", IMPLICIT_LE, IMPLICIT_LE),
        ("", RLE_LOSSLESS, RLE_LOSSLESS),
        ("un", JPEG_BASELINE, EXPLICIT_LE),
        ("un", IMPLICIT_LE, EXPLICIT_LE),
        ("n4", JPEG_BASELINE, EXPLICIT_LE),
        ("ui", JPEG_BASELINE, IMPLICIT_LE),
        ("ub", EXPLICIT_LE, EXPLICIT_BE),
        ("ul", IMPLICIT_LE, EXPLICIT_LE),
        ("ue", IMPLICIT_LE, EXPLICIT_LE),
        ("uj", JPEG_BASELINE, JPEG_BASELINE),
        ("uj", RLE_LOSSLESS, EXPLICIT_LE),
        ("nj", IMPLICIT_LE, IMPLICIT_LE),
        ("j0", JPEG_BASELINE, EXPLICIT_LE),
        ("j0", IMPLICIT_LE, IMPLICIT_LE),
        ("ja", JPEG_BASELINE, JPEG_BASELINE),
        ("ja", MPEG_2, MPEG_2),
        ("ja", RLE_LOSSLESS, JPEG_LOSSLESS_SV1),
        ("j1", EXPLICIT_LE, JPEG_LOSSLESS_SV1),
        ("j2", EXPLICIT_LE, JPEG_LOSSLESS),
        ("j390", EXPLICIT_LE, JPEG_BASELINE),
        ("j4", EXPLICIT_LE, JPEG_EXTENDED),
        ("j5", EXPLICIT_LE, JPEG_SPECTRAL),
        ("j6", EXPLICIT_LE, JPEG_PROGRESSIVE),
        ("j7", EXPLICIT_LE, JPEG_LS_NEAR_LOSSLESS),
        ("js", EXPLICIT_LE, JPEG_LS_LOSSLESS),
        ("JK", EXPLICIT_LE, JPEG_2000_LOSSLESS),
        ("jl15", EXPLICIT_LE, JPEG_2000),
        ("jx", EXPLICIT_LE, JPEG_LOSSLESS_SV1),
        ("k1", RLE_LOSSLESS, RLE_LOSSLESS),
        ("s3", RLE_LOSSLESS, RLE_LOSSLESS),
        ("vx", RLE_LOSSLESS, RLE_LOSSLESS),
        ("what", RLE_LOSSLESS, RLE_LOSSLESS),
    ],
)
def test_incoming_compression_names_the_stored_syntax(
    code: str, stored: str, expected: str
) -> None:
    assert stored_syntax_for(code, stored) == expected
