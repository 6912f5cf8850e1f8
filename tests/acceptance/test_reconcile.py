"""`dgate reconcile`: two archives compared, and their gaps filled, with real peers."""

from __future__ import annotations

import datetime
import itertools
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dgate.config.settings import load
from dgate.delivery.reconcile.values import Options
from dgate.gateway import Gateway as GatewayProcess
from dgate.reconciling import allowed
from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import QrScp, store
from tests.acceptance.processes import wait_until
from tests.generate import Generated, Plan, write_files

RETRY = {"RetryFirst": 0.1}


def studies(folder: Path, dates: Iterable[str], per_study: int = 3) -> list[list[Generated]]:
    """Write one study for each date, empty for none."""
    dates = list(dates)
    made = write_files(folder, Plan(len(dates) * per_study, per_series=per_study))
    groups = [made[start : start + per_study] for start in range(0, len(made), per_study)]
    for group, date in zip(groups, dates, strict=True):
        for item in group:
            data = pydicom.dcmread(item.path)
            data.StudyDate, data.AccessionNumber = date, f"A{group[0].study[-6:]}"
            data.save_as(item.path)
    return groups


def paths(groups: Iterable[list[Generated]]) -> list[Path]:
    """Return the files of studies."""
    return [item.path for group in groups for item in group]


def uids(items: Iterable[Generated]) -> set[str]:
    """Return the SOP Instance UIDs."""
    return {item.sop_instance for item in items}


def stored_uids(gateway: Gateway) -> set[str]:
    """Return what a server has on disk."""
    return {
        str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        for path in gateway.stored_files()
    }


def debts(gateway: Gateway, columns: str = "sop_instance, priority, rule, state") -> list[Any]:
    """Return the deliveries of the ledger."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        found = connection.execute(f"SELECT {columns} FROM dgate_debts ORDER BY id")
        return [tuple(row) for row in found]


def compared(
    gateway: Gateway, node: str, *options: str, status: int
) -> tuple[dict[str, dict[str, Any]], dict[str, Any], list[str]]:
    """Run the command; return differences by study, the summary and the warnings."""
    done = gateway.command("reconcile", node, "--json", *options, check=False)
    assert done.returncode == status, done.stdout
    # On a slow machine lines that show progress are between, which a terminal has elsewhere.
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    gaps = {each["study"]: each for each in answers if each["kind"] == "difference"}
    for each in answers:
        if each["kind"] == "objects" and each["study"] in gaps:
            for name in ("missing_there", "missing_here"):
                gaps[each["study"]].setdefault("uids", {}).setdefault(name, set()).update(
                    each.get(name, ())
                )
    [summary] = [each for each in answers if each["kind"] == "summary"]
    return gaps, summary, [each["text"] for each in answers if each["kind"] == "warning"]


def lacking(gap: dict[str, Any], side: str) -> set[str]:
    """Return the objects that a side lacks of a study."""
    found: set[str] = gap["uids"][f"missing_{side}"]
    assert sum(series[f"missing_{side}"] for series in gap["series"]) == len(found)
    return found


@pytest.fixture
def pair(farm: Farm) -> tuple[Gateway, Gateway]:
    """Return two servers that know each other."""
    here, there = farm.ports.take(), farm.ports.take()
    far = farm.gateway(
        "there", settings={"TCPPort": there, "MyACRNema": "THERE"}, nodes=[Node("HERE", here)]
    )
    near = farm.gateway(
        "here",
        settings={"TCPPort": here, "MyACRNema": "HERE", **RETRY},
        nodes=[Node("THERE", there)],
    )
    return near, far


DATES = ("20260105", "20260105", "19991231", "", "20260901", "20250607")


def fill(pair: tuple[Gateway, Gateway], folder: Path) -> list[list[Generated]]:
    """Give both servers studies: one whole on both, one with gaps on both sides, two that only
    one side has, for either side."""
    near, far = pair
    groups = studies(folder, DATES)
    both, torn, only_here, only_here_undated, only_there, only_there_too = groups
    store(near.port, *paths([both, only_here, only_here_undated]), *(i.path for i in torn[:2]))
    store(far.port, *paths([both, only_there, only_there_too]), torn[2].path)
    return groups


@pytest.mark.parametrize("serving", [True, False], ids=["beside the server", "without a server"])
def test_what_either_side_lacks_is_shown(
    pair: tuple[Gateway, Gateway], tmp_path: Path, serving: bool
) -> None:
    near, _ = pair
    both, torn, here, undated, there, there_too = fill(pair, tmp_path / "in")
    if not serving:
        near.stop()
    gaps, summary, warnings = compared(near, "THERE", status=1)
    assert warnings == []
    assert both[0].study not in gaps
    assert lacking(gaps[torn[0].study], "there") == uids(torn[:2])
    assert lacking(gaps[torn[0].study], "here") == {torn[2].sop_instance}
    for group in (here, undated):
        gap = gaps[group[0].study]
        assert (gap["only"], gap["here"], gap["there"], gap["missing_there"]) == ("here", 3, 0, 3)
        assert lacking(gap, "there") == uids(group)
    for group in (there, there_too):
        gap = gaps[group[0].study]
        assert (gap["only"], gap["here"], gap["there"], gap["missing_here"]) == ("there", 0, 3, 3)
        assert gap["patient_id"] == group[0].patient_id
        assert gap["accession"] == f"A{group[0].study[-6:]}"
    assert (summary["studies"], summary["equal"], summary["left"]) == (6, 1, 5)
    assert debts(near) == []


def test_dates_limit_the_comparison(pair: tuple[Gateway, Gateway], tmp_path: Path) -> None:
    near, _ = pair
    both, torn, _, _, there, there_too = fill(pair, tmp_path / "in")
    gaps, summary, _ = compared(near, "THERE", "--since", "2026-01-01", status=1)
    assert set(gaps) == {torn[0].study, there[0].study}
    gaps, _, _ = compared(near, "THERE", "--since", "20250101", "--until", "20251231", status=1)
    assert set(gaps) == {there_too[0].study}
    gaps, summary, _ = compared(near, "THERE", "--study", both[0].study, status=0)
    assert (gaps, summary["equal"]) == ({}, 1)


def test_gaps_are_filled_both_ways(pair: tuple[Gateway, Gateway], tmp_path: Path) -> None:
    near, far = pair
    near.configure(ImportConverter0='set PatientComments to "seen by rules"')
    groups = fill(pair, tmp_path / "in")
    near.restart()
    everything = {item.sop_instance for group in groups for item in group}

    _, summary, _ = compared(near, "THERE", "--send", "--fetch", status=0)

    assert (summary["owed"], summary["came"], summary["left"]) == (8, 7, 0)
    wait_until(lambda: stored_uids(far) == everything, "all objects at the other side")
    assert stored_uids(near) == everything
    fetched = [
        data
        for path in near.stored_files()
        if (data := pydicom.dcmread(path)).SOPInstanceUID in uids(groups[4])
    ]
    assert {str(data.get("PatientComments", "")) for data in fetched} == {""}
    assert {row[1:3] for row in debts(near)} == {(2, "reconcile")}
    gaps, summary, _ = compared(near, "THERE", "--level", "image", status=0)
    assert (gaps, summary["studies"], summary["equal"]) == ({}, 6, 6)


def test_deliveries_are_owed_once_and_without_a_server(
    pair: tuple[Gateway, Gateway], tmp_path: Path
) -> None:
    near, far = pair
    groups = studies(tmp_path / "in", ["20260105"])
    store(near.port, *paths(groups))
    near.stop()
    assert compared(near, "THERE", "--send", status=0)[1]["owed"] == 3
    again = compared(near, "THERE", "--send", status=0)[1]
    assert (again["owed"], again["waiting"]) == (0, 3)
    failed = near.command("reconcile", "THERE", "--fetch", check=False)
    assert failed.returncode == 2
    assert "running server" in failed.stdout
    near.start()
    wait_until(lambda: stored_uids(far) == uids(groups[0]), "the deliveries")
    assert [row[2] for row in debts(near)] == ["reconcile"] * 3


def test_people_see_one_line_for_a_study(pair: tuple[Gateway, Gateway], tmp_path: Path) -> None:
    near, _ = pair
    _, torn, *_ = fill(pair, tmp_path / "in")
    shown = near.command("reconcile", "THERE", "--study", torn[0].study, check=False)
    assert shown.returncode == 1
    accession = f"A{torn[0].study[-6:]}"
    assert (
        f"{torn[0].patient_id} {accession} 20260105 {torn[0].study}: here 2, there 1; "
        "2 missing there, 1 missing here"
    ) in shown.stdout.splitlines()


def test_equal_numbers_of_different_objects_show_at_image_level(
    pair: tuple[Gateway, Gateway], tmp_path: Path
) -> None:
    near, far = pair
    [made] = studies(tmp_path / "in", ["20260105"])
    store(near.port, *(item.path for item in made[:2]))
    store(far.port, *(item.path for item in made[1:]))
    study = made[0].study
    assert compared(near, "THERE", status=0)[0] == {}
    gaps, _, _ = compared(near, "THERE", "--level", "object", status=1)
    assert lacking(gaps[study], "there") == {made[0].sop_instance}
    assert lacking(gaps[study], "here") == {made[2].sop_instance}


def test_errors_have_a_status_of_their_own(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway(nodes=[Node("NOBODY", farm.ports.take())])
    for words, text in (
        (("reconcile", "NOBODY"), "127.0.0.1"),
        (("reconcile", "localhost"), "no node of acrnema.map"),
        (("reconcile", "NOBODY", "--since", "20261301"), "is no date"),
        (("reconcile", "NOBODY", "--study", "1.2.x"), "is not a UID"),
    ):
        failed = gateway.command(*words, check=False)
        assert failed.returncode == 2, failed.stdout
        assert text in failed.stdout


def test_dcmqrscp_which_tells_no_counts(farm: Farm, tmp_path: Path) -> None:
    port = farm.ports.take()
    archive = QrScp.create(tmp_path / "qrscp", farm.ports, nodes=[Node("HERE", port)])
    farm.add(archive.process)
    archive.start()
    near = farm.gateway(
        "here", settings={"TCPPort": port, "MyACRNema": "HERE", **RETRY}, nodes=[archive.node]
    )
    both, torn, here, there = studies(
        tmp_path / "in", ["20260105", "20260105", "20250607", "20260901"]
    )
    store(near.port, *paths([both, here]), *(item.path for item in torn[:2]))
    store(archive.port, *paths([both, there]), torn[2].path, called=archive.title)

    gaps, summary, _ = compared(near, "QRSCP", status=1)
    assert set(gaps) == {torn[0].study, here[0].study, there[0].study}
    assert lacking(gaps[torn[0].study], "there") == uids(torn[:2])
    assert lacking(gaps[there[0].study], "here") == uids(there)
    assert summary["equal"] == 1

    _, summary, _ = compared(near, "QRSCP", "--send", "--fetch", status=0)
    assert (summary["owed"], summary["came"]) == (5, 4)
    assert stored_uids(near) == {item.sop_instance for item in [*both, *torn, *here, *there]}
    wait_until(lambda: {row[3] for row in debts(near)} == {"done"}, "the deliveries")
    gaps, summary, _ = compared(near, "QRSCP", "--level", "image", status=0)
    assert (gaps, summary["equal"]) == ({}, 4)


@pytest.mark.parametrize("knows_us", [True, False], ids=["by C-MOVE", "by C-GET"])
def test_orthanc(farm: Farm, tmp_path: Path, knows_us: bool) -> None:
    """It limits its answers here, so that fewer days are asked for at a time."""
    port = farm.ports.take()
    nodes = [Node("HERE", port)] if knows_us else [Node("ELSEWHERE", port)]
    orthanc = farm.orthanc(
        nodes=nodes,
        settings={"LimitFindResults": 3, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowFind": True,
                  "DicomAlwaysAllowStore": True},
    )  # fmt: skip
    near = farm.gateway(
        "here", settings={"TCPPort": port, "MyACRNema": "HERE", **RETRY}, nodes=[orthanc.node]
    )
    groups = studies(tmp_path / "in", [f"2026010{day}" for day in range(1, 8)])
    store(near.port, *paths(groups[:5]))
    for path in paths(groups[2:]):
        orthanc.upload(path)

    gaps, summary, _ = compared(near, orthanc.node.title, "--since", "2026-01-01", status=1)
    assert set(gaps) == {group[0].study for group in (*groups[:2], *groups[5:])}
    assert summary["equal"] == 3
    _, summary, _ = compared(
        near, orthanc.node.title, "--since", "2026-01-01", "--send", "--fetch", status=0
    )
    assert (summary["owed"], summary["came"]) == (6, 6)
    assert len(stored_uids(near)) == 21
    wait_until(lambda: orthanc.instance_count() == 21, "the deliveries")


def test_comparison_by_schedule_is_told_by_the_status(farm: Farm, tmp_path: Path) -> None:
    far = farm.gateway("there", settings={"MyACRNema": "THERE"})
    near = farm.gateway(
        "here", settings={"MyACRNema": "HERE", **RETRY}, nodes=[Node("THERE", far.port)]
    )
    today = datetime.datetime.now()
    [made] = studies(tmp_path / "in", [f"{today:%Y%m%d}"])
    store(near.port, *paths([made]))
    # One of them comes when the server has started, however long that takes.
    minutes = [datetime.datetime.now() + datetime.timedelta(minutes=each) for each in range(1, 12)]
    times = ", ".join(f"{begin:%H:%M}-{end:%H:%M}" for begin, end in itertools.pairwise(minutes))
    with near.ini.open("a") as ini:
        ini.write(f"\n[node THERE]\nReconcile = {times}\nReconcileSend = yes\n")
    near.restart()
    wait_until(lambda: stored_uids(far) == uids(made), "what was missing", deadline_s=300)
    wait_until(lambda: "3 deliveries owed" in near.log, "the result")
    status = json.loads(near.command("status", "--json").stdout)
    [told] = status["reconciled"]
    assert told["node"] == "THERE"
    assert "Compared with THERE" in near.command("status").stdout


def test_last_result_of_each_node_outlives_a_restart(
    pair: tuple[Gateway, Gateway], tmp_path: Path
) -> None:
    near, _ = pair
    assert "Nothing has been compared yet" in near.command("reconcile", "--status").stdout
    store(near.port, *paths(studies(tmp_path / "in", ["20260105"])))
    compared(near, "THERE", status=1)
    near.restart()

    def told() -> list[dict[str, Any]]:
        shown = near.command("reconcile", "--status", "--json").stdout
        return [json.loads(line) for line in shown.splitlines() if line.startswith("{")]

    [result] = told()
    assert (result["node"], result["equal"]) == ("THERE", False)
    assert "1 studies compared, 0 equal, 1 only here" in result["text"]
    [shown] = json.loads(near.command("status", "--json").stdout)["reconciled"]
    assert shown == result
    # By a command without a server, too.
    near.stop()
    assert told() == [result]
    compared(near, "THERE", "--since", "2026-02-01", status=0)
    assert told()[0]["text"] == "0 studies compared, 0 equal"
    assert near.command("reconcile", "OTHER", "--status").stdout.startswith("Nothing")


def test_what_is_owed_is_no_gap_and_what_is_stuck_is_shown(
    pair: tuple[Gateway, Gateway], tmp_path: Path
) -> None:
    near, far = pair
    near.configure(ExportConverters=1, ExportConverter0="forward to THERE")
    near.restart()
    far.stop()
    [made] = studies(tmp_path / "in", ["20260105"])
    store(near.port, *paths([made]))

    def hold() -> bool:
        near.command("queue", "hold", "--study", made[0].study, check=False)
        return [row[3] for row in debts(near)] == ["held"] * 3

    # One that is just being tried can be held when that has failed.
    wait_until(hold, "all deliveries to be held")
    far.start()
    for _ in range(2):
        gaps, summary, _ = compared(near, "THERE", "--send", status=1)
        assert (summary["owed"], summary["stuck"], summary["left"]) == (0, 3, 1)
        assert gaps[made[0].study]["missing_there"] == 0
    shown = near.command("reconcile", "THERE", check=False).stdout
    assert f"3 stuck or held: see `dgate queue list --study {made[0].study}`" in shown
    assert len(debts(near)) == 3

    near.command("queue", "release", "--study", made[0].study)
    wait_until(lambda: stored_uids(far) == uids(made), "the deliveries")
    assert compared(near, "THERE", "--level", "image", status=0)[1]["equal"] == 1


def test_day_with_more_than_a_node_lists_is_compared_by_time(farm: Farm, tmp_path: Path) -> None:
    """Orthanc ends its lists at a number of matches, without a word."""
    orthanc = farm.orthanc(settings={"LimitFindResults": 3, "DicomAlwaysAllowFind": True})
    near = farm.gateway("here", settings={"MyACRNema": "HERE", **RETRY}, nodes=[orthanc.node])
    groups = studies(tmp_path / "in", ["20260105"] * 9, per_study=1)
    for number, [item] in enumerate(groups):
        data = pydicom.dcmread(item.path)
        data.StudyTime, data.PatientID = f"{8 + number:02d}1500", f"{number}H"
        data.save_as(item.path)
    store(near.port, *paths(groups[:6]))
    for path in paths(groups[2:]):
        orthanc.upload(path)
    # Nothing asks for studies that have neither a time nor a usual Patient ID, which is said.
    gaps, summary, _ = compared(near, orthanc.node.title, "--since", "2026-01-01", status=1)
    assert set(gaps) == {group[0].study for group in (*groups[:2], *groups[6:])}
    assert (summary["studies"], summary["equal"]) == (9, 4)
    assert (summary["uncompared"], summary["residual"]) == (0, 1)


def test_nodes_for_which_rules_change_objects_get_nothing_as_it_is_stored(
    farm: Farm, tmp_path: Path
) -> None:
    far = farm.gateway("there", settings={"MyACRNema": "THERE"})
    near = farm.gateway(
        "here", settings={"MyACRNema": "HERE", **RETRY}, nodes=[Node("THERE", far.port)]
    )
    [made] = studies(tmp_path / "in", ["20260105"])
    store(near.port, *paths([made]))
    near.stop()
    near.configure(ExportConverters=1, ExportConverter0='forward to THERE script "newuids"')
    with near.ini.open("a") as ini:
        ini.write("\n[node THERE]\nReconcile = 03:00-05:00\nReconcileSend = yes\n")

    refused = near.command("reconcile", "THERE", "--send", check=False)

    assert refused.returncode == 2
    assert "--as-stored" in refused.stdout
    assert debts(near) == []
    with GatewayProcess(load(near.ini)).offline() as opened:
        wanted = Options("THERE", send=True, fetch=True)
        assert allowed(opened.generation, wanted) == Options("THERE", fetch=True)
    compared(near, "THERE", status=1)
    _, summary, _ = compared(near, "THERE", "--send", "--as-stored", status=0)
    assert summary["owed"] == 3
