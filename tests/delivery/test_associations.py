"""The open associations of a worker: which debts share one, when it ends, how many there are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.archive.records import DebtKind
from dgate.config.nodes import NodeMap
from dgate.config.settings import default_settings
from dgate.delivery.associations import MOST_SENDERS, Associations
from dgate.delivery.destination import Destination
from dgate.delivery.records import Debt
from dgate.errors import ConfigError
from tests.delivery.kit import CT, MR, ref
from tests.delivery.twins import TwinSender

LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE", "SOPCLASS", "GLOBAL")


def debt(number: int = 1, **changes: Any) -> Debt:
    """Return a delivery of object `number` to SINK."""
    values: dict[str, Any] = {
        "id": number,
        "kind": DebtKind.DELIVER,
        "destination": "SINK",
        "rule": "r",
        "calling": "",
        "called": "",
        "compression": "",
        "script": "",
        "ref": ref(number),
        "context": "",
        "attempts": 0,
    }
    return Debt(**(values | changes))


class Office:
    """Associations over twin senders."""

    def __init__(self, folder: Path = Path("/none"), **settings: Any) -> None:
        self.folder = folder
        self.journal: list[tuple[str, ...]] = []
        self.made: list[TwinSender] = []
        self.associations = Associations(*self.tools(**settings))

    def tools(self, nodes: str = "SINK 127.0.0.1 104 as\n", **settings: Any) -> Any:
        """Return what a configuration gives."""
        found, _ = NodeMap.parse(nodes.encode(), "acrnema.map")
        return found, default_settings(self.folder, **settings), self.make

    def make(self, destination: Destination) -> Any:
        self.made.append(TwinSender(destination, self.journal))
        return self.made[-1]

    def send(self, *debts: Debt) -> None:
        """Deliver debts one after another, as a worker does."""
        for place, each in enumerate(debts):
            sender = self.associations.ready(each, debts[place:])
            sender.send(each.ref)
            self.associations.finished(each)

    def steps(self) -> list[str]:
        """Return what happened to connections."""
        return [step[0] for step in self.journal if step[0] not in ("prepare", "send")]


@pytest.mark.parametrize(
    ("level", "opened"),
    [("GLOBAL", 1), ("PATIENT", 2), ("STUDY", 3), ("SERIES", 4), ("IMAGE", 5), ("SOPCLASS", 2)],
)
def test_association_ends_where_its_level_does(level: str, opened: int) -> None:
    office = Office(forward_association_level=level)
    debts = [
        debt(1, ref=ref(1)),
        debt(2, ref=ref(2)),
        debt(3, ref=ref(3, series="s2")),
        debt(4, ref=ref(4, series="s3", study="1.9")),
        debt(5, ref=ref(5, series="s4", study="1.8", patient_id="P2", sop_class=MR)),
    ]
    office.send(*debts)

    assert office.steps().count("open") == opened
    follows = office.associations.follows
    assert 1 + sum(not follows(one, following) for one, following in pairwise(debts)) == opened


@given(
    st.lists(
        st.tuples(st.sampled_from("AB"), st.sampled_from("XY"), st.sampled_from("12")), max_size=12
    ),
    st.sampled_from(LEVELS),
)
def test_arranged_debts_are_the_same_ones_with_each_association_together(
    given_debts: list[tuple[str, str, str]], level: str
) -> None:
    office = Office(forward_association_level=level)
    debts = [
        debt(number, calling=calling, ref=ref(number, study=study, patient_id=patient))
        for number, (calling, study, patient) in enumerate(given_debts)
    ]
    arranged = office.associations.arranged(debts)

    assert sorted(arranged, key=lambda each: each.id) == debts
    breaks = sum(
        not office.associations.follows(one, following) for one, following in pairwise(arranged)
    )
    kinds = {(each.calling, office.associations._level_of(each.ref)) for each in debts}
    if level != "IMAGE":
        assert breaks == max(0, len(kinds) - 1)
    for kind in kinds:
        own = [
            each.id
            for each in arranged
            if (each.calling, office.associations._level_of(each.ref)) == kind
        ]
        assert own == sorted(own)


def test_what_follows_is_announced_up_to_the_first_that_does_not() -> None:
    office = Office(forward_association_level="STUDY")
    debts = [
        debt(1),
        debt(2),
        debt(3, compression="j2"),
        debt(4, ref=ref(4, study="1.9")),
        debt(5),
    ]
    office.associations.ready(debts[0], debts)

    assert office.journal == [("prepare", "", "1.2.3.2"), ("prepare", "j2", "1.2.3.3")]


def test_titles_of_a_debt_have_an_association_of_their_own() -> None:
    office = Office(ae_title="GATE")
    office.send(debt(1), debt(2, calling="OTHER"), debt(3, called="THERE"), debt(4))

    assert [sender.destination.calling for sender in office.made] == ["GATE", "OTHER", "GATE"]
    assert [sender.destination.called for sender in office.made] == ["SINK", "SINK", "THERE"]
    assert office.steps() == ["open"] * 3


def test_number_of_open_associations_is_bounded() -> None:
    office = Office()
    office.send(*(debt(number, calling=f"C{number}") for number in range(3 * MOST_SENDERS)))

    open_now = [sender for sender in office.made if sender.is_open]
    assert len(open_now) == MOST_SENDERS
    office.associations.close()
    assert [sender for sender in office.made if sender.is_open] == []


def test_connection_ends_without_release_where_that_is_wanted() -> None:
    office = Office(forward_association_release=False)
    office.send(debt(1))
    office.associations.close()
    assert office.steps() == ["open", "drop"]


def test_target_that_cannot_be_resolved_is_looked_up_once_a_batch() -> None:
    office = Office()
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            office.associations.ready(debt(destination="NOBODY"), [debt(destination="NOBODY")])
    first = caught.value
    with pytest.raises(ConfigError) as again:
        office.associations.ready(debt(destination="NOBODY"), [])
    assert again.value is first
    office.associations.forget_addresses()
    with pytest.raises(ConfigError) as fresh:
        office.associations.ready(debt(destination="NOBODY"), [])
    assert fresh.value is not first


@pytest.mark.parametrize(
    ("nodes", "steps"),
    [
        ("SINK 127.0.0.1 104 as\nNEW 127.0.0.1 105 as\n", ["open"]),
        ("SINK 127.0.0.1 105 as\n", ["open", "release", "open"]),
        ("SINK 127.0.0.1 104 j2\n", ["open", "release", "open"]),
    ],
    ids=["same", "other port", "other code"],
)
def test_changed_configuration_closes_only_what_it_concerns(nodes: str, steps: list[str]) -> None:
    office = Office()
    office.send(debt(1))
    office.associations.change(*office.tools(nodes))
    office.send(debt(2))

    assert office.steps() == steps


def test_node_that_was_removed_loses_its_association() -> None:
    office = Office()
    office.send(debt(1))
    office.associations.change(*office.tools("OTHER 127.0.0.1 104 as\n"))

    assert office.steps() == ["open", "release"]
    with pytest.raises(ConfigError):
        office.associations.ready(debt(2), [debt(2)])


def test_changed_level_counts_from_the_next_object_on() -> None:
    office = Office(forward_association_level="GLOBAL")
    office.send(debt(1), debt(2, ref=ref(2, study="1.9")))
    assert office.steps() == ["open"]
    office.associations.change(*office.tools(forward_association_level="STUDY"))
    office.send(debt(3, ref=ref(3, study="1.9")), debt(4, ref=ref(4, study="1.9")))

    assert office.steps() == ["open", "release", "open"]


def test_every_connection_is_cut() -> None:
    office = Office()
    office.send(debt(1), debt(2, calling="OTHER"))
    office.associations.cut()
    assert [sender.was_cut for sender in office.made] == [True, True]


def test_only_deliveries_follow() -> None:
    office = Office()
    assert office.associations.follows(debt(1), debt(2))
    assert not office.associations.follows(debt(1), debt(2, kind=DebtKind.EXPORT))
    assert debt(1).ref.sop_class == CT
