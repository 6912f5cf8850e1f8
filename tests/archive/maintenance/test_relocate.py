"""Keeping other gateways from objects that are on their way to another place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dgate.archive import reservations
from dgate.archive.devices import Devices
from dgate.archive.maintenance.relocate import Relocator
from dgate.archive.maintenance.removals import Removals
from dgate.archive.ownership import Owner
from dgate.archive.reservations import Names, Turns
from dgate.archive.schema import prepare
from dgate.clock import SystemClock
from dgate.config.layout import default_layout
from dgate.errors import StoreError
from tests.archive.intake_kit import Station, data_set, open_station


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    # Where a name is held here, it stays held.
    monkeypatch.setattr(reservations, "OTHERS_WAIT_S", 0.0)
    made = open_station(tmp_path, owner=Owner.named("one", shared=True))
    made.send(data_set())
    yield made
    made.close()


@pytest.fixture
def other(station: Station) -> Devices:
    """Return the devices as another gateway has them."""
    owner = Owner.named("other", shared=True)
    return Devices.from_settings(station.settings, SystemClock(), owner=owner)


def relocator_of(station: Station) -> Relocator:
    settings, database, turns = station.settings, station.database, Turns()
    layout = default_layout(settings.truncate_field_names, settings.max_field_length)
    schema = prepare(database, layout, settings)
    removals = Removals(database, schema, station.index, station.writer, station.devices, turns)
    return Relocator(station.writer, removals, station.devices, Names(), turns)


def test_file_that_is_being_moved_is_replaced_by_no_other_gateway(
    station: Station, other: Devices
) -> None:
    ref, names = station.ref(), Names()
    (device,) = other

    with relocator_of(station).holding([ref, replace(ref, sop_instance="1.2.9")]):
        assert not names.keep(device, ref.name)

    assert names.keep(device, ref.name)


def test_object_that_another_gateway_is_storing_is_not_moved(
    station: Station, other: Devices
) -> None:
    ref = station.ref()
    (device,) = other
    assert device.hold(ref.name, existing=True)
    relocator = relocator_of(station)

    with pytest.raises(StoreError, match="another gateway"), relocator.holding([ref]):
        pass

    contested: set[str] = set()
    with relocator.holding([ref], contested):
        assert contested == {ref.sop_instance}
    assert not device.hold(ref.name, existing=True)

    device.let_go(ref.name)
    with relocator.holding([ref]):
        assert not device.hold(ref.name, existing=True)
