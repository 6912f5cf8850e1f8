from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.ports import service_port

TABLE = """\
# a comment
tcpmux\t\t1/tcp\t\t# TCP port service multiplexer
acr-nema\t104/udp
acr-nema\t104/tcp\t\tdicom2
odd
broken\tx/tcp
"""


@pytest.mark.parametrize(
    ("name", "port"),
    [
        ("tcpmux", 1),
        ("acr-nema", 104),
        ("dicom2", 104),
        ("dicom", 11112),
        ("broken", None),
        ("odd", None),
        ("#", None),
        ("", None),
    ],
)
def test_service_has_the_tcp_port_of_the_table(tmp_path: Path, name: str, port: int | None) -> None:
    (tmp_path / "services").write_text(TABLE)

    assert service_port(name, tmp_path / "services") == port


def test_services_of_dicom_are_known_without_a_table(tmp_path: Path) -> None:
    assert service_port("acr-nema", tmp_path / "missing") == 104
    assert service_port("http", tmp_path / "missing") is None
