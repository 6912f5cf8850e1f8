"""The files of a real site load as they are, and each oddity is reported with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.check import check
from dgate.config.problem import Severity
from dgate.config.settings import Configuration, Engine, load

FOLDER = Path(__file__).parent.parent / "data" / "archive-2017"


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return load(FOLDER)


@pytest.mark.parametrize(
    ("severity", "where", "message", "advice"),
    [
        ("warning", "dicom.ini:1", "there is no section [sscscp]", "write [sscscp]"),
        ("warning", "dicom.ini:8", "dgatesop.lst cannot be read", "dgate init"),
        ("warning", "dicom.ini:26", "99999.99999 is a placeholder", "register a root"),
        ("info", "dicom.ini:33", "TCP/IPTimeOut is read as TCPIPTimeOut", "write TCPIPTimeOut"),
        ("info", "dicom.ini:36", "QueueSize has no effect", "can be removed"),
        ("info", "dicom.ini:47", "FileNameSyntax = 3", "V2Content"),
        ("info", "dicom.ini:48", "DroppedFileCompression = un", "= as"),
        ("info", "dicom.ini:49", "IncomingCompression = un", "= as"),
        ("info", "dicom.ini:56", "RegisteredMOPDeviceTable has no effect", "can be removed"),
        ("info", "dicom.ini:57", "UIDToMOPIDTable has no effect", "can be removed"),
        ("info", "dicom.ini:58", "UIDToCDRIDTable has no effect", "can be removed"),
        ("info", "acrnema.map", "code un", "as they are stored"),
        ("info", "dicom.sql:24", "no comma after the row PatientSex", "add the comma"),
        ("warning", "dicom.sql:64", "*Image* has no closing brace", "add }"),
        ("warning", "dicom.sql:64", "the column SeriesInstanceUID was added", "add as last row"),
    ],
)
def test_oddity_is_reported(
    configuration: Configuration, severity: str, where: str, message: str, advice: str
) -> None:
    found = [p for p in check(configuration) if message in p.message]

    assert [(p.severity.value, p.where) for p in found] == [(severity, where)]
    assert advice in found[0].advice


def test_nothing_keeps_the_server_from_starting(configuration: Configuration) -> None:
    assert Severity.ERROR not in {problem.severity for problem in check(configuration)}


def test_settings_are_those_of_the_site(configuration: Configuration) -> None:
    settings = configuration.settings

    assert (settings.ae_title, settings.tcp_port) == ("CONQUESTSRV1", 11112)
    assert (settings.tcpip_timeout_s, settings.retry_delay_s) == (300, 100.0)
    assert (settings.engine, settings.max_field_length) == (Engine.SQLITE, 254)
    assert settings.sql_server == str(FOLDER / "data" / "dbase" / "conquest.db3")
    assert settings.mag_devices == (FOLDER / "data",)
    assert settings.image_table == "DICOMIMAGES"


def test_image_table_is_linked_to_the_series(configuration: Configuration) -> None:
    image = configuration.layout.image

    assert image.link is not None
    assert (image.link.name, image.link.tag, image.link.length) == ("SeriesInst", 0x0020000E, 64)
    assert (len(image.columns), image.columns[-2].name) == (14, "SamplesPer")


def test_tables_have_the_columns_of_the_original(configuration: Configuration) -> None:
    layout = configuration.layout

    assert [len(table.columns) for table in (layout.patient, layout.study, layout.series)] == [
        4,
        14,
        17,
    ]
    assert layout.worklist is None


def test_missing_list_accepts_everything(configuration: Configuration) -> None:
    assert configuration.sop_list.abstract is None
    assert configuration.sop_list.transfer is None


def test_nodes_are_known(configuration: Configuration) -> None:
    node = configuration.nodes.find("beroun.cz")

    assert len(configuration.nodes) == 16
    assert node is not None
    assert (node.host, node.port, node.compression) == ("10.20.1.11", "2380", "as")
