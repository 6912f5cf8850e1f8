"""How commands find the archive: the running server first, else the database itself."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from dgate.cli.access import open_ledger, running_server
from dgate.delivery.commands import RemoteDesk, queue_commands
from dgate.delivery.desk import Desk
from dgate.delivery.records import Selection
from dgate.errors import ConfigError, DgateError
from dgate.ops.control import ControlServer
from dgate.ops.lock import FolderLock
from tests.cli.site_kit import Site
from tests.delivery.kit import draft, ref


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_without_a_server_there_is_none_to_ask(site: Site) -> None:
    assert running_server(site.configuration.settings) is None


def test_lock_file_of_a_dead_server_means_that_none_runs(site: Site) -> None:
    (site.folder / "dgate.lock").write_text('{"pid": 1, "host": "x", "socket": "/x"}')

    assert running_server(site.configuration.settings) is None


def test_running_server_is_found_by_its_lock_which_is_left_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = site.folder / "dgate.sock"
    server = ControlServer(socket, {"status": lambda arguments: {"up": 1}})
    server.start()
    with site.locked(socket):
        monkeypatch.setattr(FolderLock, "acquire", never)
        client = running_server(site.configuration.settings)
        assert client is not None
        assert client.call("status") == {"up": 1}
    server.stop()


def never(*_: object) -> None:
    raise AssertionError("a command that only looks has taken the lock")


def test_server_that_has_not_opened_its_socket_yet_is_not_there(site: Site) -> None:
    with site.locked(site.folder / "dgate.sock"):
        assert running_server(site.configuration.settings) is None


def test_command_that_died_is_not_at_work(site: Site) -> None:
    text = json.dumps({"pid": 2**22 + 1, "host": platform.node(), "socket": None})
    (site.folder / "dgate.lock").write_text(text)

    assert running_server(site.configuration.settings) is None


def test_another_command_at_work_is_named(site: Site) -> None:
    with site.locked(), pytest.raises(DgateError, match="command"):
        running_server(site.configuration.settings)


def test_ledger_is_opened_directly_and_nobody_else_gets_in_meanwhile(site: Site) -> None:
    with site.opened():
        pass

    with open_ledger(site.folder) as ledger:
        assert isinstance(ledger, Desk)
        assert ledger.entries(Selection()) == []
        assert FolderLock(site.folder).acquire() is not None

    with site.locked():
        pass


def test_cancelled_copy_is_removed_from_the_spool(site: Site) -> None:
    copy = site.folder / "data" / "dgate" / "spool" / "copy.dcm"
    copy.write_bytes(b"x")
    with site.opened() as shop:
        owed = draft(spool=copy)
        shop.writer.transact(lambda t: shop.index.add_debts(t, ref(), [owed], 0.0))

    with open_ledger(site.folder) as ledger:
        ledger.cancel(Selection())

    assert not copy.exists()


def test_no_database_yet_is_said_and_none_is_created(site: Site) -> None:
    with pytest.raises(DgateError, match="no database yet"), open_ledger(site.folder):
        pass

    assert not (site.folder / "index.db3").exists()


def test_missing_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), open_ledger(tmp_path / "nowhere"):
        pass


@pytest.mark.integration
def test_running_server_is_asked_and_told(site: Site) -> None:
    socket = site.folder / "dgate.sock"
    woken: list[str | None] = []
    with site.opened() as shop, site.locked(socket):
        shop.writer.transact(lambda t: shop.index.add_debts(t, ref(), [draft(), draft("B")], 0.0))
        server = ControlServer(socket, queue_commands(shop.desk, woken.append))
        server.start()
        with open_ledger(site.folder) as ledger:
            assert isinstance(ledger, RemoteDesk)
            entries = ledger.entries(Selection(destination="B"), limit=5)
            shown = ledger.show(entries[0].id)
            counts = ledger.counts()
            ledger.hold(Selection(ids=(1,)))
            ledger.release(Selection(ids=(1,)))
            ledger.retry(Selection(destination="B"))
            rerouted = ledger.reroute(Selection(ids=(1, 7)), "OTHER")
            cancelled = ledger.cancel(Selection())
            with pytest.raises(DgateError, match="no debt 99"):
                ledger.show(99)
        server.stop()

    assert [entry.destination for entry in entries] == ["B"]
    assert shown == entries[0]
    assert [(count.destination, count.count) for count in counts] == [("B", 1), ("SINK", 1)]
    assert woken == [None, "B", "OTHER"]
    assert rerouted.skipped == ((7, "there is no such debt"),)
    assert cancelled.count == 2


@pytest.mark.parametrize("arguments", [{}, {"selection": {"ids": ["x"]}}, {"selection": None}])
def test_arguments_of_the_wrong_kind_are_the_callers_error(
    site: Site, arguments: dict[str, object]
) -> None:
    with site.opened() as shop:
        commands = queue_commands(shop.desk, lambda destination: None)

        with pytest.raises(DgateError, match="cannot be understood"):
            commands["queue.list"](arguments)
