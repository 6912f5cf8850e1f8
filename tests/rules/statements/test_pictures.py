"""`save frame`, `save bmp|gif|jpg` in lines."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from PIL import Image

from dgate.dicom import picture as pictures
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, RLE_LOSSLESS
from dgate.rules.effects import Outcome
from tests.dicom.images import data_of, image, table_of
from tests.rules import kit


def saved(line: str, table: ElementTable | None = None, family: str = "Import") -> dict[str, bytes]:
    """Return the files that a line writes, by name; the object must stay as it is."""
    table = table_of(image()) if table is None else table
    env = kit.FakeEnvironment()
    before, syntax = table.tobytes(), table.syntax
    made = kit.rules(kit.converter(line, family))
    if family == "Import":
        verdict, _ = kit.run_import(made, table, env)
        assert verdict.outcome is Outcome.KEEP, verdict.reason
    else:
        made.expand(0, table, kit.captured(), env)
    assert (table.tobytes(), table.syntax) == (before, syntax)
    return {path.name: content for path, content in env.files.content.items()}


def read(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def refused(line: str, table: ElementTable | None = None) -> str:
    """Return why an import line refuses an image."""
    verdict, _ = kit.run_import(kit.importing(line), table_of(image()) if table is None else table)
    assert verdict.outcome is Outcome.REJECT
    return verdict.reason


@pytest.mark.parametrize("family", ["Import", "Export"])
@pytest.mark.parametrize(("form", "name"), [("bmp", "BMP"), ("gif", "GIF"), ("jpg", "JPEG")])
def test_picture_is_written(form: str, name: str, family: str) -> None:
    [(file, content)] = saved(f"save {form} to p.{form}", family=family).items()
    assert file == f"p.{form}"
    found = read(content)
    assert (found.format, found.size) == (name, (6, 5))


def test_as_and_tokens_name_the_file_too() -> None:
    assert list(saved("save bmp as %i.bmp")) == ["P1.bmp"]


def test_clauses_come_in_any_order() -> None:
    made = image(pixels=bytes(range(60)), Rows=5)
    line = "save bmp gamma 2 size 100 frame 1 window 1 level 20000 to a.bmp"
    two = image(pixels=bytes(60) + b"\xff\xff" * 30, NumberOfFrames=2)
    assert set(read(saved(line, table_of(two))["a.bmp"]).tobytes()) == {255}
    assert "no frame 1" in refused(line, table_of(made))


def test_size_is_the_longer_side_and_tiny_ones_are_ignored() -> None:
    table = table_of(image(Rows=40, Columns=20))
    assert read(saved("save bmp size 10 to a.bmp", table)["a.bmp"]).size == (5, 10)
    assert read(saved("save bmp size 9 to a.bmp", table)["a.bmp"]).size == (20, 40)


def test_quality_counts_in_export_lines() -> None:
    table = table_of(image(Rows=64, Columns=64))
    line = "save jpg quality 10 to a.jpg"
    assert len(saved(line, table, "Export")["a.jpg"]) < len(saved(line, table)["a.jpg"])
    [problem] = kit.importing(line).problems
    assert "always 95 in import lines" in problem.message


def test_frame_above_ten_thousand_makes_an_animation() -> None:
    table = table_of(image(NumberOfFrames=3))
    found = read(saved("save gif frame 10005 to a.gif", table)["a.gif"])
    assert (found.n_frames, found.info["duration"]) == (3, 200)
    assert read(saved("save gif frame 2 to a.gif", table)["a.gif"]).n_frames == 1


def test_compressed_object_is_drawn() -> None:
    coded = ElementTable(convert(data_of(image()), EXPLICIT_LE, RLE_LOSSLESS), RLE_LOSSLESS)
    assert saved("save bmp to a.bmp", coded) == saved("save bmp to a.bmp")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("save bmp frame 7 to a.bmp", "no frame 7"),
        ("save bmp frame %i to a.bmp", "is not the number of a frame"),
        ("save frame 1 to a.dcm", "no frame 1"),
        ("save bmp to ../../etc/passwd", "leads out"),
    ],
)
def test_what_cannot_be_drawn_refuses_the_object(line: str, reason: str) -> None:
    assert reason in refused(line)


def test_object_without_pixels_cannot_be_drawn() -> None:
    assert "no pixel data" in refused("save bmp to a.bmp", kit.table())


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    [problem] = kit.importing("save jpg to a.jpg").problems
    assert "install dgate[images]" in problem.message
    assert "install dgate[images]" in refused("save jpg to a.jpg")
    assert kit.importing("save bmp to a.bmp").problems == ()


# One frame.


def test_frame_is_written_as_an_object_with_one() -> None:
    table = table_of(image(NumberOfFrames=3))
    found = pydicom.dcmread(io.BytesIO(saved("save frame 1 to f.dcm", table)["f.dcm"]))
    assert found.NumberOfFrames == 1
    assert found.PixelData == image(NumberOfFrames=3).PixelData[60:120]
    assert found.file_meta.TransferSyntaxUID == EXPLICIT_LE
    assert found.SOPInstanceUID == "1.2.3.4.5"


def test_frame_of_a_v2_file_is_bare_and_implicit() -> None:
    table = table_of(image(NumberOfFrames=3))
    content = saved("save frame 2 to f.v2", table)["f.v2"]
    assert content == data_of(
        image(NumberOfFrames=1, pixels=image(NumberOfFrames=3).PixelData[120:]), IMPLICIT_LE
    )


def test_example_of_the_manual_runs(tmp_path: Path) -> None:
    line = 'ifequal "%V0028,0008", "3"; save jpg frame 1 size 64 to %o.jpg'
    assert list(saved(line, table_of(image(NumberOfFrames=3)))) == ["1.2.3.4.5.jpg"]
