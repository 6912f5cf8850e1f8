"""Delayed statements in the real server: what is done with whole studies once they are at rest."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pydicom

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.acceptance.test_forward import rules
from tests.generate import Generated, Plan, write_files


def rows(
    gateway: Gateway, columns: str, where: str = "kind = 'request'"
) -> list[tuple[object, ...]]:
    """Return rows of the ledger's table."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        found = connection.execute(f"SELECT {columns} FROM dgate_debts WHERE {where} ORDER BY id")
        return [tuple(row) for row in found]


def idle(gateway: Gateway) -> bool:
    """Tell whether nothing is owed or under way."""
    return not rows(gateway, "id", "state NOT IN ('done', 'cancelled', 'stuck')")


def one_study(folder: Path, count: int, seed: int = 0) -> list[Generated]:
    """Write the objects of one study."""
    return write_files(folder, Plan(count, seed=seed, per_series=count))


def test_study_is_forwarded_when_it_is_at_rest_and_later_only_what_is_new(
    farm: Farm, tmp_path: Path
) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings=rules("forward study after 1 to SINK"), nodes=[sink.node])
    made = one_study(tmp_path / "in", 5)

    store(gateway.port, *(item.path for item in made[:3]))
    sink.wait_for(3)
    wait_until(lambda: idle(gateway), "the end of the first deliveries")
    store(gateway.port, *(item.path for item in made[3:]))
    sink.wait_for(5)
    wait_until(lambda: idle(gateway), "the end of the second deliveries")

    sent = rows(gateway, "sop_instance", "kind = 'deliver'")
    assert sorted(sent) == sorted((item.sop_instance,) for item in made)


def test_object_that_was_replaced_is_sent_again(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings=rules("forward study after 1 to SINK"), nodes=[sink.node])
    made = one_study(tmp_path / "in", 2)
    store(gateway.port, *(item.path for item in made))
    sink.wait_for(2)
    wait_until(lambda: idle(gateway), "the end of the deliveries")

    changed = pydicom.dcmread(made[0].path)
    changed.PatientComments = "corrected"
    changed.save_as(made[0].path)
    store(gateway.port, made[0].path)

    wait_until(lambda: len(rows(gateway, "id", "kind = 'deliver'")) == 3, "the third delivery")
    wait_until(lambda: idle(gateway), "its end")
    sent = rows(gateway, "sop_instance", "kind = 'deliver'")
    assert sent.count((made[0].sop_instance,)) == 2


def test_each_object_restarts_the_delay_of_one_request(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings=rules("forward study after 600 to SINK"), nodes=[sink.node])
    made = one_study(tmp_path / "in", 3)
    store(gateway.port, made[0].path)
    wait_until(lambda: len(rows(gateway, "id")) == 1, "the request")
    [(first,)] = rows(gateway, "due")

    store(gateway.port, made[1].path, made[2].path)

    assert isinstance(first, float)
    wait_until(lambda: rows(gateway, "due")[0] > (first,), "the new time")
    wait_until(
        lambda: not rows(gateway, "id", "kind = 'export' AND state = 'queued'"), "all export rules"
    )
    [(kind, destination, created)] = rows(gateway, "kind, destination, due - created > 599")
    assert (kind, destination, created) == ("request", "delayed forward", 1)
    assert sink.files() == {}


def test_request_survives_a_kill(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings=rules("forward study after 3 to SINK"), nodes=[sink.node])
    made = one_study(tmp_path / "in", 3)
    store(gateway.port, *(item.path for item in made))
    gateway.kill()
    gateway.start()
    sink.wait_for(3)


def test_import_line_asks_for_it_too_and_filters_count(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    settings = {
        "ImportConverter0": "forward patient modality MR split 0/2 after 1 to SINK "
        'script set PatientComments to "%i of %%i"',
        "RetryFirst": 0.1,
    }
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    made = one_study(tmp_path / "in", 4)
    store(gateway.port, *(item.path for item in made))
    sink.wait_for(2)
    wait_until(lambda: idle(gateway), "the end of the deliveries")
    assert len(sink.files()) == 2
    comments = {str(pydicom.dcmread(path).PatientComments) for path in sink.files().values()}
    assert comments == {f"{made[0].patient_id} of {made[0].patient_id}"}


def test_retrieve_rules_see_what_is_forwarded_as_a_whole(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    settings = rules("forward study after 1 to SINK") | {
        "RetrieveStationName0": "SINK",
        "RetrieveConverter0": 'ifequal "%V0010,0020", "NOBODY"; destroy',
        "RetrieveResultStationName0": "SINK",
        "RetrieveResultConverter0": 'set PatientComments to "%V0010,4000+"',
    }
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    made = one_study(tmp_path / "in", 1)
    refused = pydicom.dcmread(made[0].path)
    refused.PatientID, refused.StudyInstanceUID = "NOBODY", "1.2.3"
    refused.SeriesInstanceUID, refused.SOPInstanceUID = "1.2.4", "1.2.5"
    refused.file_meta.MediaStorageSOPInstanceUID = "1.2.5"
    refused.save_as(tmp_path / "refused.dcm")
    store(gateway.port, made[0].path, tmp_path / "refused.dcm")
    sink.wait_for(1)
    wait_until(lambda: idle(gateway), "the end of the deliveries")
    assert set(sink.files()) == {made[0].sop_instance}
    [path] = sink.files().values()
    assert str(pydicom.dcmread(path).PatientComments) == "+"
    texts = rows(gateway, "state, last_error")
    assert texts == [("done", "not sent: destroy by RetrieveConverter0.1")]


def test_prefetch_reads_the_files(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway(settings=rules("prefetch") | {"ForwardCollectDelay": 1})
    made = one_study(tmp_path / "in", 3)
    store(gateway.port, *(item.path for item in made))
    wait_until(lambda: rows(gateway, "state") == [("done",)], "the prefetch")
    assert rows(gateway, "last_error") == [("read 3 file(s) ahead, 0 could not be read",)]
