"""The ledger of the real server: the whole life of objects that a real peer refuses and takes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from typing import Any

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.acceptance.test_delayed import one_study, rows
from tests.acceptance.test_forward import rules
from tests.generate import Generated, data_set_of


def states(gateway: Gateway) -> list[object]:
    """Return the states of all debts, as the ledger's table has them."""
    return [row[0] for row in rows(gateway, "state", "1 = 1")]


def found(gateway: Gateway, *words: str) -> list[dict[str, Any]]:
    """Return what `dgate ledger find` finds."""
    output = gateway.command("ledger", "find", "--json", *words).stdout
    return [json.loads(line) for line in output.splitlines()]


def digest_of(item: Generated) -> str:
    return hashlib.sha256(data_set_of(item.path.read_bytes())).hexdigest()


def test_life_of_objects_that_a_peer_refuses_is_told_from_receipt_to_delivery(
    farm: Farm, objects: list[Generated]
) -> None:
    refusing = farm.sink(options=("--refuse",))
    other = farm.sink("OTHER")
    settings = rules("forward to SINK") | {"MaximumExportRetries": 2}
    gateway = farm.gateway(settings=settings, nodes=[refusing.node, other.node])
    first, second = objects[:2]

    store(gateway.port, first.path, second.path)
    wait_until(lambda: states(gateway) == ["stuck", "stuck"], "two debts that are stuck")

    told = gateway.command("ledger", "show", first.sop_instance).stdout
    assert f"Object {first.sop_instance}" in told
    assert "from STORESCU (127.0.0.1)" in told
    assert f"SHA-256    {digest_of(first)}" in told
    assert "by ExportConverter0.0, normal" in told
    assert told.count("to SINK: failed") == 2

    moved = gateway.command(
        "queue", "reroute", "OTHER", "--sop", first.sop_instance, "--why", "SINK takes nothing"
    )
    assert moved.stdout == "1 rerouted to OTHER.\n"
    other.wait_for(1)
    wait_until(lambda: states(gateway) == ["done", "stuck"], "the delivery elsewhere")
    given_up = gateway.command(
        "queue", "cancel", "--state", "stuck", "--destination", "SINK", "--why", "sent on a disc",
        "--yes",
    )  # fmt: skip
    assert given_up.stdout == "1 cancelled.\n"

    told = gateway.command("ledger", "show", first.sop_instance).stdout
    assert "reroute by" in told
    assert "until then to SINK: SINK takes nothing" in told
    assert "to OTHER: delivered, status 0000" in told
    assert "  accepted   " in told
    # The same without a server.
    gateway.stop()
    [cancelled] = found(gateway, "--state", "cancelled")
    assert cancelled["sop_instance"] == second.sop_instance
    assert cancelled["why"] == "sent on a disc"
    assert len(cancelled["tries"]) == 2
    rows_ = csv.DictReader(io.StringIO(gateway.command("ledger", "export", "-").stdout))
    assert [(row["destination"], row["first_destination"]) for row in rows_] == [
        ("OTHER", "SINK"),
        ("SINK", ""),
    ]


def test_stuck_deliveries_of_a_study_are_tried_again_together(farm: Farm) -> None:
    made = one_study(farm.folder / "in", 3)
    sink = farm.sink(start=False)
    settings = rules("forward to SINK") | {"MaximumExportRetries": 1}
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    store(gateway.port, made[0].path.parent)
    wait_until(lambda: states(gateway) == ["stuck"] * 3, "three debts that are stuck")
    study = str(rows(gateway, "study", "id = 1")[0][0])
    sink.start()

    result = gateway.command("queue", "retry", "--study", study, "--state", "stuck")

    assert result.stdout == "3 will be tried now.\n"
    sink.wait_for(3)
    wait_until(lambda: states(gateway) == ["done"] * 3, "an empty ledger")
    assert [len(one["tries"]) for one in found(gateway, "--study", study)] == [2, 2, 2]


def test_what_a_delayed_forward_sends_keeps_where_it_came_from(farm: Farm) -> None:
    made = one_study(farm.folder / "in", 2)
    sink = farm.sink()
    gateway = farm.gateway(
        settings=rules("forward study after 1 to SINK"), nodes=[sink.node], start=False
    )
    with gateway.ini.open("a") as ini:
        ini.write("\n[node STORESCU]\nPriority = stat\n")
    gateway.start()

    store(gateway.port, *(item.path for item in made))
    sink.wait_for(2)
    wait_until(lambda: not found(gateway, "--state", "queued", "--state", "leased"), "the end")

    for item in made:
        [life] = [
            one for one in found(gateway, "--sop", item.sop_instance) if one["kind"] == "deliver"
        ]
        assert (life["source"], life["source_host"]) == ("STORESCU", "127.0.0.1")
        assert (life["digest"], life["priority"]) == (digest_of(item), 0)
        assert life["received"] <= life["created"] <= life["accepted"]
