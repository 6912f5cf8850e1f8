"""VirtualServerForN: what a line means, and what is said about odd ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.check import check
from dgate.config.model import VirtualServer
from dgate.config.settings import Configuration, load

FILES = Path(__file__).resolve().parents[2] / "dgate" / "config" / "default"


def configuration(
    tmp_path: Path, *lines: str, nodes: str = "PACS 10.0.0.1 104 un\n"
) -> Configuration:
    (tmp_path / "dicom.ini").write_text("\n".join(("[sscscp]", "MyACRNema = GATE", *lines)))
    (tmp_path / "acrnema.map").write_text(nodes)
    (tmp_path / "dicom.sql").write_bytes((FILES / "dicom.sql").read_bytes())
    return load(tmp_path)


def complaints(found: Configuration) -> list[str]:
    return [
        f"{problem.severity.value}: {problem.message} ({problem.advice})"
        for problem in check(found)
        if "irtual" in problem.message
    ]


def test_servers_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = configuration(
        tmp_path,
        "VirtualServerFor4 = OTHER",
        "VirtualServerFor0 = PACS, nonvirtual,CACHESERIES",
        "VirtualServerPerSeries0 = 5",
        nodes="PACS 10.0.0.1 104 un\nOTHER 10.0.0.2 104 un\n",
    )

    assert found.settings.virtual_servers == (
        VirtualServer(0, "PACS", frozenset({"NONVIRTUAL", "CACHESERIES"}), 5),
        VirtualServer(4, "OTHER"),
    )
    assert complaints(found) == []


def test_line_without_a_title_is_no_server(tmp_path: Path) -> None:
    assert configuration(tmp_path, "VirtualServerFor0 =").settings.virtual_servers == ()


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["VirtualServerFor0 = PCAS"], "error: VirtualServerFor0 names PCAS, which acrnema.map"),
        (["VirtualServerFor0 = PCAS"], "did you mean PACS?"),
        (["VirtualServerFor1 = GATE"], "error: VirtualServerFor1 = GATE is this server itself"),
        (["VirtualServerFor0 = A TITLE THAT IS LONG"], "cannot be an AE title"),
        (["VirtualServerFor0 = PACS,NONVIRTAUL"], "did you mean NONVIRTUAL?"),
        (["VirtualServerFor0 = PACS,IMAGETYPEFIX"], "IMAGETYPEFIX has no effect"),
        (["VirtualServerFor0 = PACS,IMAGETYPEFIX3"], "IMAGETYPEFIX3 has no effect"),
        (
            ["VirtualServerFor0 = PACS", "VirtualServerFor1 = PACS"],
            "warning: VirtualServerFor1 names PACS, as VirtualServerFor0",
        ),
    ],
)
def test_odd_lines_are_named(tmp_path: Path, lines: list[str], text: str) -> None:
    found = complaints(configuration(tmp_path, *lines))

    assert any(text in each for each in found), found
