"""The dictionary says what pydicom says of it."""

from __future__ import annotations

import subprocess
import sys

from pydicom import datadict

from dgate.dicom import dictionary
from dgate.dicom.element import keyword_of, tag_of, vr_of

REPEATING = [group << 16 | element for group in range(0x5000, 0x6020) for element in (0x10, 0x3000)]


def test_elements_are_those_of_pydicom() -> None:
    assert dict(dictionary.ROWS) == datadict.DicomDictionary
    for tag in datadict.DicomDictionary:
        assert keyword_of(tag) == datadict.keyword_for_tag(tag)


def test_keywords_lead_to_their_tags() -> None:
    for keyword, tag in datadict.keyword_dict.items():
        assert tag_of(keyword) == (tag if keyword else None)


def test_repeating_groups_are_known() -> None:
    for tag in REPEATING:
        assert keyword_of(tag) == datadict.keyword_for_tag(tag)
    assert vr_of(0x60100010) == "US"
    assert vr_of(0x60100011) == "US"
    assert vr_of(0x70000010) == "UN"


def test_looking_at_rules_does_not_load_pydicom() -> None:
    code = "import sys, dgate.inspection; sys.exit('pydicom' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
