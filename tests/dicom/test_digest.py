"""The digest of the original, against values that its server has computed (anonymization.md 3)."""

from __future__ import annotations

import pytest

from dgate.dicom.digest import old_digest


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", "ee7ee7f6775a4a345175ce996256f6ee"),
        ("a", "0c49375b7b36fc8f7e5d3cfd735d5bfa"),
        ("hello", "ff04e00080d43fba48546148680c0d18"),
        ("The quick brown fox jumps over the lazy dog", "4e2069342799f3f5c201fb8ed585cc56"),
    ],
)
def test_digest_is_that_of_the_original(text: str, digest: str) -> None:
    assert old_digest(text.encode()).hex() == digest


@pytest.mark.parametrize("length", [55, 56, 63, 64, 65, 119, 120])
def test_every_byte_of_a_long_text_counts(length: int) -> None:
    digests = {old_digest(b"x" * place + b"y" + b"x" * (length - place)) for place in range(length)}

    assert len(digests) == length
