"""A script of a real server prints on DCMTK's print server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import run_dgate
from tests.acceptance.printers import Dcmprscp
from tests.acceptance.processes import Ports
from tests.archive.intake_kit import data_set


@pytest.fixture
def printer(tmp_path: Path) -> Iterator[Dcmprscp]:
    ports = Ports()
    made = Dcmprscp(tmp_path / "printer", ports, implicit=False)
    try:
        yield made
    finally:
        made.process.end()
        ports.close()


def test_script_prints_what_arrives(farm: Farm, printer: Dcmprscp, tmp_path: Path) -> None:
    gateway = farm.gateway()
    gateway.name_nodes([printer.node])
    script = gateway.folder / "print.lua"
    script.write_text(
        "local options = 'ImageDisplayFormat=STANDARD\\\\1,2;BitsStored=8'\n"
        "local said = dicomprint(Data, 'FILM', '', options, 'printed = (printed or 0) + 1')\n"
        "local nobody = dicomprint(Data, '127.0.0.1:1')\n"
        "Data.PatientComments = tostring(said) .. printed .. nobody"
    )
    gateway.configure(ImportConverter0="print.lua")
    gateway.restart()
    path = tmp_path / "image.v2"
    path.write_bytes(
        data_set(
            SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsStored=16, HighBit=15,
            PixelRepresentation=0, WindowCenter="128", WindowWidth="256",
        )
    )  # fmt: skip

    run_dgate("send", f"DGATE@127.0.0.1:{gateway.port}", str(path), check=True)

    (stored,) = map(pydicom.dcmread, gateway.stored_files())
    assert stored.PatientComments == "nil1Failed to print DICOM image(s)"
    (film,) = map(pydicom.dcmread, printer.files("SP"))
    assert film.FilmBoxContentSequence[0].ImageDisplayFormat == "STANDARD\\1,2"
    (picture,) = map(pydicom.dcmread, printer.files("HG"))
    assert (picture.Rows, picture.Columns, picture.BitsStored) == (4, 4, 8)
