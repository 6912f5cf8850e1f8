"""Delayed statements in the real server: what is done with whole studies once they are at rest."""

from __future__ import annotations

import io
import sqlite3
import zipfile
from pathlib import Path

import pydicom

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.acceptance.test_forward import rules
from tests.generate import Generated, Plan, write_files
from tests.servers import DatabaseServer

REST_S = 4
"""Longer than a busy machine takes between two objects of one association."""


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


def test_equal_requests_that_are_due_at_once_send_each_object_once(
    farm: Farm, tmp_path: Path
) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings=rules("forward study after 600 to SINK"), nodes=[sink.node])
    made = one_study(tmp_path / "in", 3)

    def has_asked(times: int) -> bool:
        under_way = rows(gateway, "id", "kind = 'export'")
        return not under_way and len(rows(gateway, "id")) == times

    store(gateway.port, made[0].path, made[1].path)
    wait_until(lambda: has_asked(1), "the request")
    gateway.command("queue", "hold", "--all")
    store(gateway.port, made[2].path)
    wait_until(lambda: has_asked(2), "another request, since the first does not wait")
    gateway.command("queue", "hold", "--all")
    gateway.command("queue", "release", "--all")

    sink.wait_for(3)
    wait_until(lambda: idle(gateway), "the end of both")
    sent = rows(gateway, "sop_instance", "kind = 'deliver'")
    assert sorted(sent) == sorted((item.sop_instance,) for item in made)


def test_import_line_asks_for_it_too_and_filters_count(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    settings = {
        "ImportConverter0": f"forward patient modality MR split 0/2 after {REST_S} to SINK "
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
    # Both see the station as the rule spells it, not as acrnema.map does.
    settings = rules("forward study after 1 to Sink") | {
        "RetrieveStationName0": "Sink",
        "RetrieveConverter0": 'ifequal "%V0010,0020", "NOBODY"; destroy',
        "RetrieveResultStationName0": "Sink",
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
    gateway = farm.gateway(settings=rules("prefetch") | {"ForwardCollectDelay": REST_S})
    made = one_study(tmp_path / "in", 3)
    store(gateway.port, *(item.path for item in made))
    wait_until(lambda: rows(gateway, "state") == [("done",)], "the prefetch")
    assert rows(gateway, "last_error") == [("read 3 file(s) ahead, 0 could not be read",)]


def test_study_is_deleted_when_nothing_of_it_is_owed_any_more(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink(start=False)
    gateway = farm.gateway(
        settings=rules("forward to SINK", "delete study after 1"), nodes=[sink.node]
    )
    made = one_study(tmp_path / "in", 2)
    store(gateway.port, *(item.path for item in made))
    # It is due, and waits: the deliveries are open.
    wait_until(
        lambda: any("still open" in str(text) for (text,) in rows(gateway, "last_error")),
        "the reason for waiting",
    )
    assert len(gateway.stored_files()) == 2
    sink.start()
    sink.wait_for(2)
    wait_until(lambda: gateway.stored_files() == [], "the deletion")
    wait_until(lambda: rows(gateway, "state") == [("done",)], "the end of the request")
    assert rows(gateway, "last_error") == [("deleted 2 object(s)",)]


def test_program_is_run_once_when_a_series_is_complete(farm: Farm, tmp_path: Path) -> None:
    program = tmp_path / "done.sh"
    program.write_text('#!/bin/sh\necho "$1/$2" >> done.txt\n')
    program.chmod(0o755)
    settings = rules(f'process series after {REST_S} by {program} "%i" %V0020,000e') | {
        "AllowSystemCommands": 1
    }
    gateway = farm.gateway(settings=settings)
    made = one_study(tmp_path / "in", 3)
    store(gateway.port, *(item.path for item in made))
    wait_until(lambda: rows(gateway, "state") == [("done",)], "the end of the program")
    text = (gateway.folder / "done.txt").read_text()
    assert text == f"{made[0].patient_id}/{made[0].series}\n"
    assert rows(gateway, "last_error") == [("ran done.sh, exit status 0",)]


def test_lua_file_is_run_when_a_study_is_complete(farm: Farm, tmp_path: Path) -> None:
    rule = f"process study after {REST_S} by done.lua %i|%V0020,000d"
    gateway = farm.gateway(settings=rules(rule), start=False)
    (gateway.folder / "done.lua").write_text(
        'local f = io.open("done.txt", "a")\nf:write(command_line, "\\n")\nf:close()\n'
    )
    gateway.start()
    made = one_study(tmp_path / "in", 3)
    store(gateway.port, *(item.path for item in made))
    wait_until(lambda: rows(gateway, "state") == [("done",)], "the end of the script")
    text = (gateway.folder / "done.txt").read_text()
    assert text == f"{made[0].patient_id}|{made[0].study}\n"


def test_series_of_a_study_become_one(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway(settings=rules(f"merge study modality MR after {REST_S}"))
    made = write_files(tmp_path / "in", Plan(4, per_series=2, series_per_study=2))
    store(gateway.port, *(item.path for item in made))
    wait_until(lambda: rows(gateway, "state") == [("done",)], "the merge")
    found = [pydicom.dcmread(path) for path in gateway.stored_files()]
    assert len({one.SeriesInstanceUID for one in found}) == 1
    assert {one.SOPInstanceUID for one in found}.isdisjoint({item.sop_instance for item in made})
    assert {one.StudyInstanceUID for one in found} == {made[0].study}


def test_series_is_fetched_from_another_node_and_passes_no_rules(
    farm: Farm, tmp_path: Path
) -> None:
    made = one_study(tmp_path / "in", 3)
    there, here = farm.ports.take(), farm.ports.take()
    source = farm.gateway(
        "source",
        settings={"TCPPort": there, "MyACRNema": "SOURCE"},
        nodes=[Node("HERE", here)],
    )
    gateway = farm.gateway(
        "here",
        settings=rules("get series after 1 from SOURCE")
        | {
            "TCPPort": here,
            "MyACRNema": "HERE",
            "ImportConverter0": 'set PatientComments to "seen by rules"',
        },
        nodes=[Node("SOURCE", there)],
    )
    store(source.port, *(item.path for item in made))
    store(gateway.port, made[0].path)
    wait_until(lambda: rows(gateway, "state") == [("done",)], "the retrieval")
    assert rows(gateway, "last_error") == [("3 object(s) came from SOURCE",)]
    assert len(gateway.stored_files()) == 3
    comments = [
        str(pydicom.dcmread(path).get("PatientComments", "")) for path in gateway.stored_files()
    ]
    assert comments == ["", "", ""]


def test_objects_are_zipped_and_handed_to_a_program(farm: Farm, tmp_path: Path) -> None:
    program = tmp_path / "send.sh"
    program.write_text('#!/bin/sh\ncp "$1" sent.zip; echo "$2" > target.txt\n')
    program.chmod(0o755)
    settings = rules(
        f"submit2 study after {REST_S} target me@host command [{program} %%s %%s] "
        'script set PatientName to "Anon"'
    ) | {"AllowSystemCommands": 1}
    gateway = farm.gateway(settings=settings)
    made = one_study(tmp_path / "in", 2)
    store(gateway.port, *(item.path for item in made))
    wait_until(lambda: rows(gateway, "state") == [("done",)], "the submission")
    assert (gateway.folder / "target.txt").read_text() == "me@host\n"
    with zipfile.ZipFile(gateway.folder / "sent.zip") as bundle:
        found = [pydicom.dcmread(io.BytesIO(bundle.read(name))) for name in bundle.namelist()]
    assert {one.SOPInstanceUID for one in found} == {item.sop_instance for item in made}
    assert {str(one.PatientName) for one in found} == {"Anon"}


def test_operation_is_stuck_after_as_many_tries_as_allowed(farm: Farm, tmp_path: Path) -> None:
    nowhere = Node("NOWHERE", farm.ports.take())
    settings = rules("get study after 1 from NOWHERE") | {"MaximumDelayedFetchForwardRetries": 3}
    gateway = farm.gateway(settings=settings, nodes=[nowhere])
    [made] = one_study(tmp_path / "in", 1)
    store(gateway.port, made.path)
    wait_until(lambda: rows(gateway, "state, attempts") == [("stuck", 3)], "the last try")
    assert "NOWHERE" in gateway.command("queue", "list", "--state", "stuck").stdout


def test_control_elements_that_would_not_apply_stop_the_forward(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    settings = rules("forward study after 1 to SINK") | {
        "RetrieveConverter0": 'set 9999,0202 to "-00100010"'
    }
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    store(gateway.port, one_study(tmp_path / "in", 1)[0].path)
    wait_until(lambda: rows(gateway, "state") == [("stuck",)], "the refusal")
    assert "(9999,0202)" in str(rows(gateway, "last_error"))
    assert sink.files() == {}


def test_id_with_a_wildcard_means_nobody_else(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    settings = {"ImportConverter0": "forward patient after 1 to SINK", "RetryFirst": 0.1}
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    [made] = one_study(tmp_path / "in", 1)
    hostile = pydicom.dcmread(made.path)
    hostile.PatientID = "P*"
    hostile.save_as(tmp_path / "hostile.dcm")
    store(gateway.port, tmp_path / "hostile.dcm", check=False)
    assert rows(gateway, "id") == []
    assert gateway.stored_files() == []


def test_forward_that_finds_nothing_waits_for_somebody(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings=rules("forward study after 600 to SINK"), nodes=[sink.node])
    [made] = one_study(tmp_path / "in", 1)
    store(gateway.port, made.path)
    wait_until(lambda: rows(gateway, "state") == [("queued",)], "the request")
    gateway.command("delete", "image", made.sop_instance, "--even-owed", "--yes")
    gateway.command("queue", "retry", "--all")
    wait_until(lambda: rows(gateway, "state") == [("stuck",)], "the reason")
    assert "no stored object has the IDs" in str(rows(gateway, "last_error"))


def test_statement_means_what_the_index_gets_afterwards(farm: Farm, tmp_path: Path) -> None:
    """A later statement changes the IDs, and a missing patient ID is repaired for the index."""
    sink = farm.sink()
    settings = {
        "ImportConverter0": "forward study after 1 to SINK; "
        'ifequal "%i", "CHANGE"; { set PatientID to "OTHER"; set StudyInstanceUID to "1.2.3"; }',
        "ImportConverter1": "forward series after 1 to SINK",
        "RetryFirst": 0.1,
    }
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    changed, nameless = (one_study(tmp_path / str(seed), 1, seed)[0] for seed in (1, 2))
    for item, patient_id in ((changed, "CHANGE"), (nameless, "")):
        data = pydicom.dcmread(item.path)
        data.PatientID = patient_id
        data.save_as(item.path)
    store(gateway.port, changed.path, nameless.path)
    wait_until(
        lambda: len(rows(gateway, "id", "kind = 'deliver' AND state = 'done'")) == 4,
        "all deliveries",
    )
    assert set(sink.files()) == {changed.sop_instance, nameless.sop_instance}
    scopes = rows(gateway, "DISTINCT patient_id, study", "kind = 'deliver'")
    assert set(scopes) == {("OTHER", "1.2.3"), ("00000000", nameless.study)}


def test_what_waits_follows_corrections_and_moves(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    gateway = farm.gateway(
        settings=rules("forward study after 600 to SINK")
        | {"MAGDevices": 2, "MAGDevice1": "./data1/"},
        nodes=[sink.node],
        start=False,
    )
    (gateway.folder / "data1").mkdir()
    gateway.start()
    made = write_files(tmp_path / "in", Plan(4, per_series=1, series_per_study=2))
    store(gateway.port, *(item.path for item in made))
    wait_until(
        lambda: rows(gateway, "kind", "1 = 1") == [("request",)] * 2, "both requests, and no rule"
    )
    first, second = dict.fromkeys(item.study for item in made)
    patient = made[0].patient_id

    gateway.command("correct", "patient", patient, "--id", "RIGHT1", "--yes")
    gateway.command("move-device", "MAG0", "MAG1", "--study", first)
    gateway.command("split", "study", first, "--series", made[0].series, "--yes")
    gateway.restart()
    gateway.command("queue", "retry", "--all")
    sink.wait_for(4)
    wait_until(lambda: idle(gateway), "the end of all deliveries")

    assert {state for (state,) in rows(gateway, "state", "1 = 1")} == {"done"}
    sent = {uid: pydicom.dcmread(path) for uid, path in sink.files().items()}
    assert str(sent[made[0].sop_instance].PatientID) == "RIGHT1"
    split = str(sent[made[0].sop_instance].StudyInstanceUID)
    assert split not in (first, second)
    assert str(sent[made[1].sop_instance].StudyInstanceUID) == first


def test_quiet_time_survives_kills_and_only_the_difference_follows_on_a_server(
    farm: Farm, tmp_path: Path, postgres: DatabaseServer
) -> None:
    sink = farm.sink()
    name = postgres.new_database()
    gateway = farm.gateway(
        settings=rules("forward study after 3 to SINK") | postgres.lines(name), nodes=[sink.node]
    )
    made = one_study(tmp_path / "in", 4)

    def owed(condition: str) -> int:
        query = f"SELECT count(*) FROM dgate_debts WHERE {condition}"
        return int(postgres.query(name, query)[0][0])

    store(gateway.port, *(item.path for item in made[:3]))
    gateway.kill()
    gateway.start()
    sink.wait_for(3)
    wait_until(lambda: not owed("state NOT IN ('done', 'cancelled')"), "the end of the first")
    gateway.kill()
    gateway.start()
    store(gateway.port, made[3].path)
    sink.wait_for(4)
    wait_until(lambda: not owed("state NOT IN ('done', 'cancelled')"), "the end of the second")
    assert owed("kind = 'deliver'") == 4
