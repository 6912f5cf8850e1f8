"""C-ECHO and C-STORE against the real server, with DCMTK and with exact bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.peers import echo, find, store
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.generate import Generated, Kind, Plan, data_set_of, write_files


def instances(port: int, scratch: Path) -> set[str]:
    """Return the SOP instance UIDs that the server has in its index."""
    answers = find(port, {"SOPInstanceUID": ""}, scratch, level="IMAGE")
    return {str(answer.SOPInstanceUID) for answer in answers}


def test_echoscu_gets_success(farm: Farm) -> None:
    echo(farm.gateway().port)


def test_objects_sent_by_storescu_are_acknowledged_stored_and_indexed(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    gateway = farm.gateway()

    answers = store(gateway.port, objects[0].path.parent)

    assert [answer.status for answer in answers] == ["Success"] * len(objects)
    assert len(gateway.stored_files()) == len(objects)
    assert instances(gateway.port, tmp_path) == {item.sop_instance for item in objects}


def test_stored_objects_are_still_there_after_a_restart(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    gateway = farm.gateway()
    store(gateway.port, objects[0].path.parent)

    gateway.restart()

    assert instances(gateway.port, tmp_path) == {item.sop_instance for item in objects}


def test_four_associations_store_at_the_same_time(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway()
    sets = [write_files(tmp_path / f"set{seed}", Plan(100, seed=seed)) for seed in range(4)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda items: store(gateway.port, items[0].path.parent), sets))

    assert all(answer.is_success for batch in answers for answer in batch)
    expected = {item.sop_instance for items in sets for item in items}
    assert instances(gateway.port, tmp_path) == expected


def test_ct_slices_are_stored_with_the_bytes_that_were_sent(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway()
    items = write_files(tmp_path / "ct", Plan(4, Kind.CT))

    with RawAssociation.open(gateway.port, [Offer(Kind.CT.sop_class)]) as association:
        for item in items:
            content = data_set_of(item.path.read_bytes())
            assert association.store(item.sop_class, item.sop_instance, content).status == 0

    stored = {data_set_of(path.read_bytes()) for path in gateway.stored_files()}
    assert stored == {data_set_of(item.path.read_bytes()) for item in items}


def test_an_object_that_arrives_again_is_one_object(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    gateway = farm.gateway()

    first = store(gateway.port, objects[0].path)
    second = store(gateway.port, objects[0].path)

    assert first[0].is_success
    assert second[0].is_success
    assert len(gateway.stored_files()) == 1
    assert instances(gateway.port, tmp_path) == {objects[0].sop_instance}


@pytest.mark.parametrize("syntax", [0, 3, 8, 12], ids=lambda number: f"FileNameSyntax={number}")
def test_file_name_syntax_stores_and_gives_back(
    farm: Farm, objects: list[Generated], syntax: int
) -> None:
    gateway = farm.gateway(settings={"FileNameSyntax": syntax})
    item = objects[0]
    content = data_set_of(item.path.read_bytes())
    offers = [Offer(item.sop_class, scp_role=True), Offer("1.2.840.10008.5.1.4.1.2.2.3")]

    with RawAssociation.open(gateway.port, offers) as association:
        status = association.store(item.sop_class, item.sop_instance, content).status
        received, final = association.get(
            {0x00080052: "STUDY", 0x0020000D: item.study},
        )

    assert (status, final.status) == (0, 0)
    assert [one.data for one in received] == [content]


def test_a_listed_template_names_the_files(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(settings={"FileNameSyntax": "%id/%modality/%sopuid.dcm"})

    store(gateway.port, objects[0].path)

    names = [path.relative_to(gateway.device()).as_posix() for path in gateway.stored_files()]
    assert names == [f"{objects[0].patient_id}/MR/{objects[0].sop_instance}.dcm"]
