"""Storage commitment between two gateways, and with Orthanc."""

from __future__ import annotations

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.acceptance.test_commitment_asking import FORWARD, rows, states, with_node
from tests.generate import Generated

RETRY = {"RetryFirst": 0.1, "RetryMax": 0.2}


def test_two_gateways_commit_to_each_other_through_kills(
    farm: Farm, objects: list[Generated]
) -> None:
    near_port, far_port = farm.ports.take(), farm.ports.take()
    near_node, far_node = Node("NEAR", near_port), Node("ARCHIVE", far_port)
    far = farm.gateway(
        "far",
        settings={"TCPPort": far_port, "MyACRNema": "ARCHIVE", **RETRY},
        nodes=[near_node],
    )
    near = farm.gateway(
        "near",
        settings={"TCPPort": near_port, "MyACRNema": "NEAR", **FORWARD},
        nodes=[far_node],
        start=False,
    )
    with_node(near, Commit="yes", CommitWait=0).start()

    store(near_port, *(item.path for item in objects[:10]), called="NEAR")
    wait_until(lambda: states(near) == {"done": 10}, "the first ten")

    # Each is killed between the acceptance and the report.
    store(near_port, *(item.path for item in objects[10:15]), called="NEAR")
    wait_until(lambda: set(states(near)) & {"committing", "done"}, "an acceptance")
    far.kill()
    far.start()
    store(near_port, *(item.path for item in objects[15:]), called="NEAR")
    wait_until(lambda: _requested(near, len(objects) - 5), "requests")
    near.kill()
    near.start()
    # What was asked for by the killed server is asked for again at once, not after the hour.
    near.command("queue", "retry", "--all")

    wait_until(lambda: states(near) == {"done": len(objects)}, "all of it")
    wait_until(lambda: set(states(far, "report")) == {"done"}, "all reports")
    assert len(far.stored_files()) == len(objects)
    found = rows(near, "SELECT count(*) FROM dgate_debts WHERE committed IS NOT NULL")
    assert found == [(len(objects),)]


def _requested(gateway: Gateway, count: int) -> bool:
    found = states(gateway)
    return found.get("committing", 0) + found.get("done", 0) >= count


def test_orthanc_commits_to_what_it_gets(farm: Farm, objects: list[Generated]) -> None:
    port = farm.ports.take()
    orthanc = farm.orthanc(nodes=[Node("DGATE", port)])
    gateway = farm.gateway(
        settings={"TCPPort": port, **FORWARD, "ExportConverter0": "forward to ORTHANC"},
        nodes=[orthanc.node],
        start=False,
    )
    with_node(gateway, "ORTHANC", Commit="yes", CommitWait=0).start()

    store(port, *(item.path for item in objects))

    wait_until(lambda: states(gateway) == {"done": len(objects)}, "all committed")
    found = rows(gateway, "SELECT count(*) FROM dgate_debts WHERE committed IS NOT NULL")
    assert found == [(len(objects),)]
    assert orthanc.instance_count() == len(objects)


def test_orthanc_is_told_what_the_gateway_commits_to(farm: Farm, objects: list[Generated]) -> None:
    port = farm.ports.take()
    orthanc = farm.orthanc(nodes=[Node("DGATE", port)])
    gateway = farm.gateway(settings={"TCPPort": port, **RETRY}, nodes=[orthanc.node])
    there, missing = objects[:3], objects[3]
    store(port, *(item.path for item in there))
    named = [[item.sop_class, item.sop_instance] for item in (*there, missing)]

    asked = orthanc.rest("modalities/DGATE/storage-commitment", {"DicomInstances": named})
    place = f"storage-commitment/{asked['ID']}"
    wait_until(lambda: orthanc.rest(place)["Status"] != "Pending", "the report at Orthanc")

    report = orthanc.rest(place)
    assert report["Status"] == "Failure"
    assert {item["SOPInstanceUID"] for item in report["Success"]} == {
        item.sop_instance for item in there
    }
    [failed] = report["Failures"]
    assert (failed["SOPInstanceUID"], failed["FailureReason"]) == (missing.sop_instance, 0x0112)
    wait_until(lambda: set(states(gateway, "report")) == {"done"}, "nothing owed")
