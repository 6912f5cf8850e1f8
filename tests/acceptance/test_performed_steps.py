"""Quiet times that end because the modality says that it is done and what it has made (MPPS)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.acceptance import modality
from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import StoreScp, store
from tests.acceptance.processes import wait_until
from tests.acceptance.test_delayed import idle, one_study, rows
from tests.acceptance.test_forward import rules
from tests.generate import Generated
from tests.servers import DatabaseServer

CT1 = "CT1"
STEP = "1.2.826.0.1.3680043.8.498.77.1"
A_DAY = "forward study after 86400 to SINK"


def listening(
    farm: Farm, rule: str = A_DAY, database: dict[str, object] | None = None
) -> tuple[Gateway, StoreScp]:
    """Return a server that goes by the steps of CT1, and waits for a day else."""
    sink = farm.sink()
    settings = {**rules(rule), **(database or {})}
    gateway = farm.gateway(settings=settings, nodes=[sink.node], start=False)
    with gateway.ini.open("a") as ini:
        ini.write(f"\n[node {CT1}]\nExpectCounts = mpps\n")
    return gateway.start(), sink


def begin(gateway: Gateway, made: list[Generated], uid: str = STEP) -> None:
    """Say that a step has begun."""
    with modality.associated(gateway.port, CT1) as told:
        assert told.create(modality.begun(made[0].study), uid).Status == 0


def end(
    gateway: Gateway, made: list[Generated], uid: str = STEP, status: str = "COMPLETED"
) -> None:
    """Say that it has ended, and what it has made."""
    named = {made[0].series: [item.sop_instance for item in made]}
    with modality.associated(gateway.port, CT1) as told:
        assert told.change(modality.ended(named, status), uid).Status == 0


def send(gateway: Gateway, items: list[Generated]) -> None:
    """Send objects as the modality does."""
    store(gateway.port, *(item.path for item in items), calling=CT1)


def probe(gateway: Gateway, sink: StoreScp, folder: Path) -> None:
    """Have a study of its own delivered, all of which is known."""
    made = one_study(folder, 1, 3)
    begin(gateway, made, f"{STEP}.3")
    send(gateway, made)
    end(gateway, made, f"{STEP}.3")
    sink.wait_for(1)


def steps(gateway: Gateway, *words: str) -> list[dict[str, Any]]:
    """Return what `dgate steps list` tells."""
    lines = gateway.command("steps", "list", "--json", *words).stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_study_is_delivered_when_its_step_is_completed_also_after_kills(
    farm: Farm, tmp_path: Path
) -> None:
    made = one_study(tmp_path / "in", 4)
    gateway, sink = listening(farm)
    begin(gateway, made)
    gateway.kill()
    gateway.start()
    send(gateway, made)
    wait_until(lambda: rows(gateway, "state") == [("queued",)], "the request")
    assert [(each["state"], each["named"]) for each in steps(gateway)] == [("IN PROGRESS", 0)]
    gateway.kill()
    gateway.start()
    assert sink.files() == {}

    end(gateway, made)

    sink.wait_for(4)
    wait_until(lambda: idle(gateway), "the end of the deliveries")
    [known] = steps(gateway, "--study", made[0].study)
    assert (known["state"], known["named"], known["stored"]) == ("COMPLETED", 4, 4)
    assert (known["station"], known["begun"]) == (CT1, "20260314101500")
    assert steps(gateway, "--state", "in-progress") == []
    assert made[0].study[-10:] in gateway.command("steps", "list").stdout.replace("\n", "")


def test_object_that_is_named_and_has_not_come_is_waited_for(farm: Farm, tmp_path: Path) -> None:
    made = one_study(tmp_path / "in", 3)
    others = one_study(tmp_path / "others", 5, 7)
    gateway, sink = listening(farm)
    begin(gateway, made)
    # As many as are named, but not those.
    for other in others:
        _put_into(other.path, made[0])
    send(gateway, [*made[:2], *others])
    end(gateway, made)
    gateway.restart()
    # Whoever looks at what waits has looked when another study is on its way.
    probe(gateway, sink, tmp_path / "probe")
    waiting = rows(gateway, "study", "kind = 'request' AND state = 'queued'")
    assert waiting == [(made[0].study,)]
    [known] = steps(gateway, "--study", made[0].study)
    assert (known["stored"], known["lacking"]) == (2, [made[2].sop_instance])

    send(gateway, made[2:])

    sink.wait_for(9)
    wait_until(lambda: idle(gateway), "the end of the deliveries")


def test_another_step_in_progress_is_waited_for_and_a_discontinued_one_is_over(
    farm: Farm, tmp_path: Path
) -> None:
    made = one_study(tmp_path / "in", 2)
    gateway, sink = listening(farm)
    begin(gateway, made)
    begin(gateway, made, f"{STEP}.2")
    send(gateway, made)
    end(gateway, made[:1])
    probe(gateway, sink, tmp_path / "probe")
    waiting = rows(gateway, "study", "kind = 'request' AND state = 'queued'")
    assert waiting == [(made[0].study,)]

    end(gateway, made[1:], f"{STEP}.2", "DISCONTINUED")

    sink.wait_for(3)
    wait_until(lambda: idle(gateway), "the end of the deliveries")


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_steps_are_kept_on_a_database_server(
    farm: Farm, tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    made = one_study(tmp_path / "in", 3)
    server: DatabaseServer = request.getfixturevalue(engine)
    database = dict(server.lines(server.new_database()))
    gateway, sink = listening(farm, A_DAY.replace("study", "series"), database)
    begin(gateway, made)
    send(gateway, made[:2])
    end(gateway, made)
    gateway.kill()
    gateway.start()
    [known] = steps(gateway)
    assert (known["state"], known["named"], known["stored"]) == ("COMPLETED", 3, 2)

    send(gateway, made[2:])

    sink.wait_for(3)


def test_quiet_time_stays_the_limit_for_who_never_ends_a_step(farm: Farm, tmp_path: Path) -> None:
    made = one_study(tmp_path / "in", 2)
    gateway, sink = listening(farm, "forward study after 2 to SINK")
    begin(gateway, made)
    send(gateway, made)
    sink.wait_for(2)
    assert [each["state"] for each in steps(gateway)] == ["IN PROGRESS"]


def test_disk_reserve_is_not_for_steps(farm: Farm, tmp_path: Path) -> None:
    made = one_study(tmp_path / "in", 1)
    gateway = farm.gateway(settings={"DiskReserve": 900_000_000})
    with modality.associated(gateway.port, CT1) as told:
        answer = told.create(modality.begun(made[0].study), STEP)
    assert answer.Status == 0x0213
    assert steps(gateway) == []


@pytest.mark.parametrize("known", [True, False])
def test_only_who_may_talk_to_us_tells_of_steps(farm: Farm, known: bool) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings={"AllowUnknown": 0}, nodes=[sink.node])
    calling = sink.node.title if known else "NOBODY"
    context = modality.accepted(gateway.port, calling)
    assert context is known


def _put_into(path: Path, like: Generated) -> None:
    """Make an object one of another's study and series."""
    data = pydicom.dcmread(path)
    data.StudyInstanceUID, data.SeriesInstanceUID = like.study, like.series
    data.PatientID = like.patient_id
    data.save_as(path)
