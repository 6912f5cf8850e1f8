"""Rows of the table in docs/delivery.md that need a real server: its rules, and its ends.

The others are in `tests.delivery.test_failure_table` and `tests.delivery.test_failure_rows`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from dgate.delivery.leases import MOST_CRASHES
from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.acceptance.test_delayed import rows
from tests.acceptance.test_forward import rules
from tests.delivery import scripted_scp as scp
from tests.delivery.failure_rows import plays
from tests.delivery.scripted_scp import ScriptedScp, scripted_scp
from tests.generate import Generated

GOOD = "forward to SINK"
FAILING = "lua \"error('no bed is free')\"; forward to SINK"


def states(gateway: Gateway) -> Counter[object]:
    """Return how many debts are in each state, as the ledger's table has them."""
    return Counter(state for (state,) in rows(gateway, "state", "1 = 1"))


def await_states(gateway: Gateway, **wanted: int) -> None:
    """Wait until there are so many debts in each state and none in another."""
    wait_until(lambda: states(gateway) == wanted, f"{wanted}")


def stuck(gateway: Gateway) -> dict[str, Any]:
    """Return the one debt that is stuck, as an operator is shown it."""
    shown = gateway.command("queue", "list", "--state", "stuck", "--json").stdout
    [entry] = map(json.loads, shown.splitlines())
    assert isinstance(entry, dict)
    return entry


def gateway_to(farm: Farm, peer: ScriptedScp, *lines: str) -> Gateway:
    """Start a server with these export rules and the peer as SINK."""
    return farm.gateway(settings=rules(*lines), nodes=[Node("SINK", peer.port)])


def retry_with(gateway: Gateway, **settings: object) -> None:
    """Let what is stuck be tried by other settings."""
    gateway.stop()
    gateway.configure(**settings)
    gateway.start()
    gateway.command("queue", "retry", "--state", "stuck")


@plays("server-ended")
def test_object_that_five_servers_ended_at_is_stuck_and_the_others_go_on(
    farm: Farm, objects: list[Generated]
) -> None:
    fatal, other = (item.sop_instance for item in objects[:2])

    def reply(guest: scp.Guest, command: Any) -> None:
        if command.sop_instance == fatal:
            scp.hang(guest, command)
        else:
            guest.answer(command)

    with scripted_scp(reply=reply) as peer:
        gateway = gateway_to(farm, peer, GOOD)
        store(gateway.port, objects[0].path)
        for end in range(1, MOST_CRASHES + 1):
            wait_until(lambda end=end: peer.arrived.count(fatal) == end, f"try {end}")
            if end == 1:
                # It waits behind the one that the peer does not answer.
                store(gateway.port, objects[1].path)
            gateway.kill()
            gateway.start()
        await_states(gateway, stuck=1, done=1)

        entry = stuck(gateway)
        assert entry["sop_instance"] == fatal
        assert f"the server ended {MOST_CRASHES} times in a row" in entry["last_error"]
        assert entry["repeats"] == MOST_CRASHES
        assert Counter(peer.arrived) == {fatal: MOST_CRASHES, other: 1}
        peer.reply = scp.status(0)
        gateway.command("queue", "retry", "--state", "stuck")
        await_states(gateway, done=2)


@plays("rule-fails")
def test_rule_that_fails_leaves_its_debt_stuck_and_other_rules_go_on(
    farm: Farm, objects: list[Generated]
) -> None:
    with scripted_scp() as peer:
        gateway = gateway_to(farm, peer, FAILING, GOOD)
        store(gateway.port, objects[0].path)
        await_states(gateway, stuck=1, done=1)

        assert "no bed is free" in stuck(gateway)["last_error"]
        assert peer.arrived == [objects[0].sop_instance]
        retry_with(gateway, ExportConverter0=GOOD)
        await_states(gateway, done=2)
        assert peer.arrived == [objects[0].sop_instance] * 2


@plays("rule-fails", "not-executable")
@pytest.mark.parametrize(
    ("script", "reason"),
    [("lua:error('no bed is free')", "no bed is free"), ("system touch it", "AllowSystemCommands")],
    ids=["fails", "not executable"],
)
def test_script_of_a_delivery_that_fails_keeps_the_object_from_being_sent(
    farm: Farm, objects: list[Generated], script: str, reason: str
) -> None:
    with scripted_scp() as peer:
        gateway = gateway_to(farm, peer, f'forward to SINK script "{script}"', GOOD)
        store(gateway.port, objects[0].path)
        await_states(gateway, stuck=1, done=1)

        assert reason in stuck(gateway)["last_error"]
        assert peer.arrived == [objects[0].sop_instance]


@plays("not-executable")
def test_rule_that_is_not_executable_leaves_its_debt_stuck(
    farm: Farm, objects: list[Generated]
) -> None:
    with scripted_scp() as peer:
        gateway = gateway_to(farm, peer, "system touch it; forward to SINK", GOOD)
        store(gateway.port, objects[0].path)
        await_states(gateway, stuck=1, done=1)

        assert "AllowSystemCommands" in stuck(gateway)["last_error"]
        assert peer.arrived == [objects[0].sop_instance]
        retry_with(gateway, ExportConverter0=GOOD)
        await_states(gateway, done=2)


def remove(gateway: Gateway) -> None:
    """Take the second rule out."""
    text, count = re.subn(r"(?m)^ExportConverter1 *=.*\n", "", gateway.ini.read_text())
    assert count == 1
    gateway.ini.write_text(text)


def switch_off(gateway: Gateway) -> None:
    """Let only the first rule run."""
    gateway.configure(ExportConverters=1)


@plays("rule-removed", "rule-off")
@pytest.mark.parametrize("change", [remove, switch_off])
def test_what_a_rule_owes_that_is_there_no_more_is_stuck_until_it_is_back(
    farm: Farm, objects: list[Generated], change: Callable[[Gateway], None]
) -> None:
    with scripted_scp() as peer:
        # The second fails, so that its debt is still there when the rule goes.
        gateway = gateway_to(farm, peer, GOOD, FAILING)
        store(gateway.port, objects[0].path)
        await_states(gateway, stuck=1, done=1)
        gateway.stop()
        change(gateway)
        gateway.start()

        gateway.command("queue", "retry", "--state", "stuck")
        wait_until(
            lambda: rows(
                gateway,
                "kind",
                "state = 'stuck' AND last_error LIKE '%ExportConverter1 no longer runs%'",
            ),
            "the other reason",
        )

        assert peer.arrived == [objects[0].sop_instance]
        retry_with(gateway, ExportConverters=2, ExportConverter1=GOOD)
        await_states(gateway, done=2)
        assert peer.arrived == [objects[0].sop_instance] * 2
