from __future__ import annotations

import pytest

from dgate.config.codes import CodeKind, complaint, kind_of


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("", CodeKind.KEEP),
        ("as", CodeKind.KEEP),
        ("IS", CodeKind.KEEP),
        ("uj", CodeKind.KEEP),
        ("un", CodeKind.REENCODE),
        ("ul", CodeKind.REENCODE),
        ("n0", CodeKind.REENCODE),
        ("j2", CodeKind.REENCODE),
        ("J2!", CodeKind.REENCODE),
        ("jk", CodeKind.REENCODE),
        ("j485!", CodeKind.LOSSY),
        ("jl10", CodeKind.LOSSY),
        ("k4", CodeKind.RESIZE),
        ("s0", CodeKind.SCRIPT),
        ("vX", CodeKind.INDEX_ONLY),
        ("n4", CodeKind.RETIRED),
        ("j#3,50", CodeKind.RETIRED),
        ("zz", CodeKind.UNKNOWN),
        ("unx", CodeKind.UNKNOWN),
    ],
)
def test_code_is_classified(code: str, kind: CodeKind) -> None:
    assert kind_of(code) is kind


def test_only_codes_that_cannot_be_carried_out_are_complained_about() -> None:
    assert complaint("as") is None
    assert complaint("n4") is not None
    assert complaint("qq") is not None
