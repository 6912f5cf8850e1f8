"""Leases in a database that gateways share; who they belong to, and what copies of a folder do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.database import Database
from dgate.archive.schema import prepare
from dgate.archive.writer import Writer
from dgate.clock import SystemClock
from dgate.config.layout import default_layout
from dgate.config.settings import Durability
from dgate.delivery.leases import LEASE_S, refuse_twin
from dgate.delivery.ledger import Ledger
from dgate.delivery.records import Debt, Settlement, State
from dgate.errors import DgateError
from tests.archive.database_kit import ALL_ENGINES, Place, open_archive, place_of
from tests.delivery.kit import Books, draft, ref


class Start:
    """One start of a gateway on a base folder, as far as the ledger goes."""

    def __init__(self, place: Place, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.settings = place(base_folder=folder)
        self.clock = SystemClock()
        self.database = Database(self.settings)
        self.database.open()
        self.database.identify()
        prepare(self.database, default_layout(), self.settings)
        self.writer = Writer(self.database, Durability.NONE)
        self.ledger = Ledger(
            self.database, self.writer, self.clock, lambda *what: None, lambda name: None
        )

    def claim(self) -> list[Debt]:
        return self.ledger.exchange([], "SINK", 10)

    def age_leases(self, seconds: float) -> None:
        """Let all leases be older."""
        sql = self.database.sql("UPDATE dgate_debts SET lease_until = lease_until - ?")
        self.writer.transact(lambda transaction: transaction.execute(sql, (seconds,)))

    def states(self) -> list[str]:
        with self.database.reader() as connection:
            sql = "SELECT state FROM dgate_debts ORDER BY id"
            return [row[0] for row in connection.execute(sql).fetchall()]

    def close(self) -> None:
        self.writer.close()
        self.database.close()


class Site:
    """Gateways that share one database, which owes two deliveries."""

    def __init__(self, place: Place, books: Books, folder: Path) -> None:
        self.folder = folder
        self._place = place
        self._starts: list[Start] = []
        for number in (1, 2):
            books.owe(draft(), to=ref(number))

    def start(self, name: str) -> Start:
        """Return a start of the gateway in a folder; a living one is left alone."""
        made = Start(self._place, self.folder / name)
        self._starts.append(made)
        return made

    def close(self) -> None:
        for start in self._starts:
            start.close()


@pytest.fixture(params=[name for name in ALL_ENGINES if name != "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    place = place_of(request, tmp_path)
    books = Books(open_archive(place()), SystemClock())
    made = Site(place, books, tmp_path)
    yield made
    made.close()
    books.archive.close()


def done(debts: list[Debt]) -> list[Settlement]:
    return [Settlement(debt, State.DONE, 0) for debt in debts]


def test_living_gateway_keeps_its_leases_whatever_machine_and_folder_are_called(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "raspberrypi")
    first = site.start("srv")
    first.ledger.recover(starting=True)
    debts = first.claim()
    assert len(debts) == 2
    # Another machine has a folder of the same name.
    (site.folder / "srv").rename(site.folder / "elsewhere")
    second = site.start("srv")
    refuse_twin(second.database, second.clock)

    assert second.ledger.recover(starting=True) == 0
    assert second.ledger.recover() == 0
    assert first.ledger.recover() == 0

    assert second.claim() == []
    first.ledger.exchange(done(debts), "SINK", 0)
    assert first.states() == ["done", "done"]


def test_start_after_a_crash_takes_up_at_once_what_was_under_way(site: Site) -> None:
    site.start("one").claim()
    again = site.start("one")

    refuse_twin(again.database, again.clock)
    assert again.ledger.recover(starting=True) == 2

    assert len(again.claim()) == 2


def test_others_take_up_what_a_gateway_had_when_its_leases_have_run_out(site: Site) -> None:
    first, second = site.start("one"), site.start("two")
    first.claim()
    assert second.ledger.recover() == 0
    first.age_leases(LEASE_S + 1)

    assert second.ledger.recover() == 2


def test_copy_of_a_folder_does_not_start_while_the_other_works(site: Site) -> None:
    first = site.start("one")
    first.claim()
    shutil.copytree(site.folder / "one", site.folder / "copy")
    copy = site.start("copy")

    with pytest.raises(DgateError, match="goes by the name of this one") as raised:
        refuse_twin(copy.database, copy.clock)
    assert raised.value.where == str(site.folder / "copy" / "dgate" / "gateway.id")
    assert "remove this file" in raised.value.remedy
    # Nor would it have taken anything.
    assert copy.ledger.recover(starting=True) == 0

    (site.folder / "copy" / "dgate" / "gateway.id").unlink()
    mended = site.start("copy")
    refuse_twin(mended.database, mended.clock)
    assert mended.ledger.recover(starting=True) == 0
    assert first.states() == ["leased", "leased"]


def test_restored_folder_starts_when_the_leases_have_run_out(site: Site) -> None:
    first = site.start("one")
    first.claim()
    # As from a backup: the same name in another place, on a machine that has been up for weeks.
    shutil.copytree(site.folder / "one", site.folder / "restored")
    restored = site.start("restored")
    with pytest.raises(DgateError, match="start again 5 minutes after that"):
        refuse_twin(restored.database, restored.clock)

    restored.age_leases(LEASE_S + 1)

    refuse_twin(restored.database, restored.clock)
    assert restored.ledger.recover(starting=True) == 2


def test_start_after_a_boot_waits_for_the_leases_to_run_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.start("one").claim()
    (site.folder / "boot_id").write_text("the next boot\n")
    monkeypatch.setattr("dgate.archive.gatewayid._BOOT_ID", site.folder / "boot_id")
    again = site.start("one")
    again.age_leases(60)
    monkeypatch.setattr("dgate.delivery.leases.up_s", lambda: 30.0)

    refuse_twin(again.database, again.clock)
    assert again.ledger.recover(starting=True) == 0
    again.age_leases(LEASE_S - 59)
    assert again.ledger.recover() == 2


def test_copy_that_begins_to_work_later_is_told_of(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    first = site.start("one")
    shutil.copytree(site.folder / "one", site.folder / "copy")
    copy = site.start("copy")
    refuse_twin(copy.database, copy.clock)
    copy.ledger.recover(starting=True)
    assert copy.ledger.recover() == 0
    assert "is a copy of the other" not in caplog.text

    first.claim()

    assert copy.ledger.recover() == 0
    assert "one base folder is a copy of the other" in caplog.text
    assert str(site.folder / "copy" / "dgate" / "gateway.id") in caplog.text
    assert first.states() == ["leased", "leased"]
