"""Sections about nodes in the real server: what they change, how it is shown, reloading them."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.acceptance.test_forward import rules
from tests.delivery import scripted_scp as scp
from tests.delivery.scripted_scp import scripted_scp
from tests.generate import Generated, Plan, write_files
from tests.net.kit import dead_port

FAST = {"RetryFirst": "0.1", "RetryMax": "0.2"}


def write_section(gateway: Gateway, title: str, **keys: object) -> None:
    """Add a section about a node to dicom.ini."""
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    with gateway.ini.open("a") as file:
        file.write(f"\n[node {title}]\n{lines}")


def objects_of(folder: Path, studies: int, each: int = 1) -> list[Generated]:
    """Write objects of several studies."""
    found: list[Generated] = []
    for seed in range(studies):
        found += write_files(folder / str(seed), Plan(each, seed=seed, per_series=each))
    return found


def destinations(gateway: Gateway) -> dict[str, int]:
    """Return how many deliveries were made to each destination."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT destination, count(*) FROM dgate_debts WHERE kind = 'deliver' "
            "AND state = 'done' GROUP BY destination"
        )
        return dict(rows.fetchall())


def test_group_shares_studies_and_moves_them_on_when_a_member_is_down(
    farm: Farm, tmp_path: Path
) -> None:
    one, two = farm.sink("ONE"), farm.sink("TWO")
    gateway = farm.gateway(
        settings=rules("forward to READERS"), nodes=[one.node, two.node], start=False
    )
    for title in ("ONE", "TWO"):
        write_section(gateway, title, Group="READERS", FallbackAfter="0.01", **FAST)
    gateway.start()
    made = objects_of(tmp_path / "in", 16)

    store(gateway.port, *(item.path for item in made[:8]))
    wait_until(lambda: sum(destinations(gateway).values()) == 8, "the first studies")
    one.kill()
    store(gateway.port, *(item.path for item in made[8:]))
    wait_until(lambda: sum(destinations(gateway).values()) == 16, "the other studies")

    there = {*one.files(), *two.files()}
    assert {item.sop_instance for item in made} <= there


def test_fallback_takes_over_and_the_ledger_tells_from_where(farm: Farm, tmp_path: Path) -> None:
    spare = farm.sink("SPARE")
    with dead_port() as dead:
        gateway = farm.gateway(
            settings=rules("forward to MAIN"), nodes=[Node("MAIN", dead), spare.node], start=False
        )
        write_section(gateway, "MAIN", Fallback="SPARE", FallbackAfter="0.01", **FAST)
        gateway.start()
        made = objects_of(tmp_path / "in", 2)

        store(gateway.port, *(item.path for item in made))
        spare.wait_for(2)
        wait_until(lambda: destinations(gateway) == {"SPARE": 2}, "the marks")

        shown = json.loads(gateway.command("queue", "show", "1", "--json").stdout)
        assert (shown["destination"], shown["origin"]) == ("SPARE", "MAIN")


def test_node_has_one_queue_however_rules_spell_it(farm: Farm, tmp_path: Path) -> None:
    with dead_port() as dead:
        gateway = farm.gateway(
            settings=rules("forward to Pacs; forward study after 1 to pacs; forward to %u"),
            nodes=[Node("PACS", dead)],
            start=False,
        )
        write_section(gateway, "PACS", RetryDelay=3600)
        gateway.start()
        [item] = objects_of(tmp_path / "in", 1)
        store(gateway.port, item.path, calling="PACs")

        def listed() -> list[dict[str, Any]]:
            text = gateway.command("queue", "list", "--json", "--destination", "pacs").stdout
            return [json.loads(line) for line in text.splitlines()]

        def all_pause() -> bool:
            states = [(one["state"], (one["site"] or {}).get("state")) for one in listed()]
            return states == [("queued", "open")] * 3

        wait_until(all_pause, "one pause for three deliveries")
        found = listed()
        assert {one["destination"] for one in found} == {"PACS"}
        assert sorted(one["called"] for one in found) == ["PACs", "Pacs", "pacs"]
        held = gateway.command("queue", "hold", "--destination", "Pacs")
        assert held.stdout == "3 held.\n"


def test_breaker_window_and_refusals_are_shown(farm: Farm, tmp_path: Path) -> None:
    welcome = scp.accept_only(lambda sop_class, syntax: 3)
    with dead_port() as dead, scripted_scp(welcome=welcome) as picky:
        gateway = farm.gateway(
            settings=rules("forward to DEAD; forward to PICKY; forward to LATER"),
            nodes=[Node("DEAD", dead), Node("PICKY", picky.port), Node("LATER", dead)],
            start=False,
        )
        write_section(gateway, "DEAD", RetryDelay=3600)
        # Hours that never are.
        write_section(gateway, "LATER", Window=_not_now())
        gateway.start()
        [item] = objects_of(tmp_path / "in", 1)
        store(gateway.port, item.path)

        def told() -> bool:
            text = gateway.command("queue", "list").stdout
            return "outside of its hours" in text and "pauses, next try in" in text

        wait_until(told, "both remarks")
        status = json.loads(gateway.command("status", "--json", check=False).stdout)
        states = {one["destination"]: one for one in status["destinations"]}
        assert states["DEAD"]["state"] == "open"
        assert states["LATER"]["window_s"] > 0
        listed = [
            json.loads(line)
            for line in gateway.command("queue", "list", "--json").stdout.splitlines()
        ]
        sites = {one["destination"]: one["site"] for one in listed}
        assert sites["DEAD"]["state"] == "open"
        assert "Sending to DEAD" in gateway.command("status", check=False).stdout

        def refused() -> bool:
            return (
                "the SOP class is not supported"
                in gateway.command("queue", "refusals", "PICKY").stdout
            )

        wait_until(refused, "the refusals")
        assert "Nothing was refused" in gateway.command("queue", "refusals", "DEAD").stdout
        gateway.stop()
        lines = gateway.command("queue", "refusals", "--json").stdout.splitlines()
        assert {json.loads(line)["node"] for line in lines} == {"PICKY"}


def test_changed_section_counts_without_a_restart(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings=rules("forward to SINK"), nodes=[sink.node], start=False)
    write_section(gateway, "SINK", Window=_not_now())
    gateway.start()
    [item] = objects_of(tmp_path / "in", 1)
    store(gateway.port, item.path)
    wait_until(
        lambda: "outside of its hours" in gateway.command("queue", "list").stdout, "the remark"
    )

    gateway.command("config", "set", "--section", "node SINK", "Window", "mon-sun 00:00-24:00")
    gateway.command("config", "reload")

    sink.wait_for(1)


def _not_now() -> str:
    """Return an hour that begins in half a day."""
    local = time.localtime(time.time() + 12 * 3600)
    end = time.localtime(time.time() + 13 * 3600)
    return f"{local.tm_hour:02d}:{local.tm_min:02d}-{end.tm_hour:02d}:{end.tm_min:02d}"
