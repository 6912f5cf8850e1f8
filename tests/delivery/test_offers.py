"""Which contexts a C-GET proposes."""

from __future__ import annotations

from dgate.config.soplist import SopList
from dgate.delivery.offers import COMPRESSED, MOST_ASSOCIATIONS, listed_classes, storage_offers
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from tests.delivery.kit import CT, MR


def test_few_classes_are_offered_in_every_syntax_on_one_association() -> None:
    (offers,) = storage_offers([CT, MR, CT], 127)

    assert len(offers) == 2 * (1 + len(COMPRESSED))
    assert [each.abstract for each in offers[:3]] == [CT, MR, CT]
    assert [each.syntaxes for each in offers if each.abstract == CT] == [
        (EXPLICIT_LE, IMPLICIT_LE),
        *((syntax,) for syntax in COMPRESSED),
    ]
    assert all(each.scp_role for each in offers)


def test_many_classes_are_offered_uncompressed_first_and_never_too_many_at_once() -> None:
    classes = [f"1.2.{number}" for number in range(150)]

    parts = storage_offers(classes, 127)

    assert len(parts) == MOST_ASSOCIATIONS
    assert all(len(part) <= 127 for part in parts)
    everything = [each for part in parts for each in part]
    assert [each.abstract for each in everything[:150]] == classes
    assert {each.syntaxes for each in everything[:150]} == {(EXPLICIT_LE, IMPLICIT_LE)}


def test_nothing_expected_is_nothing_offered() -> None:
    assert storage_offers([], 127) == []


def test_classes_of_a_list_are_those_of_storage_the_common_ones_first() -> None:
    listed = SopList(abstract=frozenset({CT, "1.2.840.10008.1.1", f"{CT}.99999"}))

    assert listed_classes(listed) == [CT, f"{CT}.99999"]


def test_a_list_that_takes_everything_means_the_shipped_one() -> None:
    assert CT in listed_classes(None)
    assert listed_classes(SopList.accept_all()) == listed_classes(None)
