"""Pixels that rules, settings and nodes change, as DCMTK's storescp gets them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Node
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.dicom.images import BITS, image
from tests.generate import Generated, Kind, Plan, write_files

pytestmark = pytest.mark.acceptance

RLE = "1.2.840.10008.1.2.5"
FAST_RETRY = {"RetryFirst": 0.1, "RetryMax": 0.2}
KINDS = pytest.mark.parametrize("kind", [Kind.SMALL, Kind.LARGE], ids=["small", "large"])


def made(folder: Path, kind: Kind) -> Generated:
    return write_files(folder, Plan(1, kind, seed=3))[0]


@KINDS
def test_rule_stores_and_sends_rle(farm: Farm, tmp_path: Path, kind: Kind) -> None:
    sink = farm.sink(options=("+xa", "+B"))
    settings = FAST_RETRY | {
        "ImportConverter0": "compression rl",
        "ExportConverters": 1,
        "ExportConverter0": "forward to SINK",
    }
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    item = made(tmp_path / "in", kind)

    store(gateway.port, item.path)

    sink.wait_for(1)
    expected = pydicom.dcmread(item.path)
    for path in (*sink.files().values(), *gateway.stored_files()):
        found = pydicom.dcmread(path)
        assert found.file_meta.TransferSyntaxUID == RLE
        assert np.array_equal(found.pixel_array, expected.pixel_array)


@KINDS
def test_node_gets_rle_where_it_takes_it_and_native_pixels_where_not(
    farm: Farm, tmp_path: Path, kind: Kind
) -> None:
    taker, other = farm.sink("TAKER", options=("+xa", "+B")), farm.sink("OTHER")
    nodes = [Node("TAKER", taker.node.port, "rl"), Node("OTHER", other.node.port, "rl")]
    settings = FAST_RETRY | {
        "ExportConverters": 2,
        "ExportConverter0": "forward to TAKER",
        "ExportConverter1": "forward to OTHER",
    }
    gateway = farm.gateway(settings=settings, nodes=nodes)
    item = made(tmp_path / "in", kind)

    store(gateway.port, item.path)

    taker.wait_for(1)
    other.wait_for(1)
    expected = pydicom.dcmread(item.path).pixel_array
    for sink, is_rle in ((taker, True), (other, False)):
        [path] = sink.files().values()
        found = pydicom.dcmread(path)
        assert (found.file_meta.TransferSyntaxUID == RLE) is is_rle
        assert np.array_equal(found.pixel_array, expected)


def test_what_rle_cannot_hold_goes_out_as_it_is(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink(options=("+xa", "+B"))
    nodes = [Node("SINK", sink.node.port, "rl")]
    settings = FAST_RETRY | {"ExportConverters": 1, "ExportConverter0": "forward to SINK"}
    gateway = farm.gateway(settings=settings, nodes=nodes)
    bits = image(**BITS, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4")
    bits.file_meta = pydicom.dataset.FileMetaDataset()
    bits.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    pydicom.dcmwrite(tmp_path / "bits.dcm", bits, enforce_file_format=True)

    store(gateway.port, tmp_path / "bits.dcm")

    sink.wait_for(1)
    [path] = sink.files().values()
    found = pydicom.dcmread(path)
    assert found.file_meta.TransferSyntaxUID != RLE
    assert found.PixelData == bits.PixelData


def test_node_with_a_size_code_gets_small_images(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    nodes = [Node("SINK", sink.node.port, "ka")]
    settings = FAST_RETRY | {"ExportConverters": 1, "ExportConverter0": "forward to SINK"}
    gateway = farm.gateway(settings=settings, nodes=nodes)
    item = made(tmp_path / "in", Kind.LARGE)

    store(gateway.port, item.path)

    sink.wait_for(1)
    [path] = sink.files().values()
    found = pydicom.dcmread(path)
    assert max(found.Rows, found.Columns) == 64
    assert found.pixel_array.shape == (found.Rows, found.Columns)
    [stored] = gateway.stored_files()
    assert pydicom.dcmread(stored).Rows == 1024


def test_export_rule_draws_a_picture(farm: Farm, tmp_path: Path) -> None:
    settings = {
        "ExportConverters": 1,
        "ExportConverter0": "mkdir pictures; save bmp size 100 to pictures/%o.bmp",
    }
    gateway = farm.gateway(settings=settings)
    item = made(tmp_path / "in", Kind.CT)

    store(gateway.port, item.path)

    picture = gateway.folder / "pictures" / f"{item.sop_instance}.bmp"
    wait_until(
        lambda: picture.exists() and picture not in gateway.process.open_files(), "the picture"
    )
    content = picture.read_bytes()
    assert struct.unpack_from("<2sL", content) == (b"BM", len(content))
    assert Image.open(io.BytesIO(content)).size == (100, 100)
