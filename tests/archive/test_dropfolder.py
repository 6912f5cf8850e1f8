"""A watched folder: what is taken, what is left alone, what fails."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dgate.archive import dropfolder
from dgate.archive.dropfolder import FAILED, DropFolder, Tally
from dgate.archive.ingest import Ingest
from dgate.dicom.part10 import file_meta
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import DatabaseAway, NotDicom, StoreError
from tests.archive.intake_kit import (
    CT,
    SOP,
    Hooks,
    Station,
    data_set,
    large_data_set,
    open_station,
)


@dataclass
class Drop:
    """A watched folder over a whole archive, with time that the test moves."""

    station: Station
    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    folder: DropFolder | None = None

    def put(self, name: str, content: bytes | None = None) -> Path:
        """Put a file there, of an image unless `content` says otherwise."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image() if content is None else content)
        return path

    def look(self, after_s: float = 1.0) -> Tally:
        """Let time pass and look."""
        if self.folder is None:
            self.folder = DropFolder(
                self.path, lambda: self.station.ingest, self.station.clock, **self.options
            )
        self.station.clock.seconds += after_s
        return self.folder.look()

    def take(self) -> Tally:
        """Look twice: what was there before the first look has settled at the second."""
        self.look()
        return self.look()

    def names(self) -> list[str]:
        """Return every file, link and pipe in the folder."""
        found = (path for path in self.path.rglob("*") if path.is_symlink() or not path.is_dir())
        return sorted(str(path.relative_to(self.path)) for path in found)

    def reason(self, name: str) -> str:
        """Return why a file is in `failed`."""
        return (self.path / FAILED / f"{name}.reason.txt").read_text()


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[Drop]:
    station = open_station(tmp_path / "site")
    path = tmp_path / "watch"
    path.mkdir()
    # The age of folders is looked at by the clock of the machine.
    station.clock.seconds = 4_000_000_000.0
    yield Drop(station, path)
    station.close()


def image(sop_instance: str = SOP, **elements: Any) -> bytes:
    """Return a Part 10 file."""
    content = data_set(SOPInstanceUID=sop_instance, **elements)
    return file_meta(CT, sop_instance, EXPLICIT_LE) + content


def zipped(members: dict[str, bytes]) -> bytes:
    """Return a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# What is taken.


def test_file_is_stored_and_removed_when_it_has_settled(drop: Drop) -> None:
    drop.put("a.dcm")

    assert drop.look().taken == 0
    assert drop.look().taken == 1
    assert drop.station.content() == data_set()
    assert drop.names() == []


def test_large_file_is_stored_as_it_is(drop: Drop) -> None:
    drop.put("a.dcm", file_meta(CT, SOP, EXPLICIT_LE) + large_data_set())

    assert drop.take().taken == 1
    assert drop.station.content() == large_data_set()


def test_folders_are_looked_into_and_removed_when_they_are_old_and_empty(drop: Drop) -> None:
    drop.put("CD/DICOM/1/a.dcm")

    assert drop.take().taken == 1
    # Innermost first, one with each look.
    for _ in range(3):
        drop.look()
    assert list(drop.path.iterdir()) == []


def test_young_empty_folder_is_left_for_what_is_about_to_come(drop: Drop) -> None:
    (drop.path / "CD").mkdir()
    drop.station.clock.seconds = (drop.path / "CD").stat().st_mtime

    drop.look()

    assert (drop.path / "CD").is_dir()


@pytest.mark.parametrize("name", ["a.dcm", "IM0001", "scan.v2", "naïve \n name", "b" * 250])
def test_names_do_not_matter(drop: Drop, name: str) -> None:
    drop.put(name)

    assert drop.take().taken == 1
    assert drop.names() == []


def test_name_that_is_no_text_does_not_matter(drop: Drop) -> None:
    (drop.path / os.fsdecode(b"\xff\xfe.dcm")).write_bytes(image())
    (drop.path / os.fsdecode(b"\xff\xfd.dcm")).write_bytes(b"garbage that is no image")

    tally = drop.take()

    assert (tally.taken, tally.failed) == (1, 1)


# What is left alone.


def test_growing_file_is_not_taken(drop: Drop) -> None:
    path = drop.put("a.dcm")
    for size in range(3):
        with path.open("ab") as file:
            file.write(b"\0" * (size + 1))
        assert drop.look().changing == 1

    assert drop.names() == ["a.dcm"]


def test_file_that_somebody_has_open_for_writing_is_not_taken(drop: Drop) -> None:
    path = drop.put("a.dcm")
    with path.open("ab"):
        for _ in range(30):
            assert drop.look().taken == 0
        assert drop.names() == ["a.dcm"]

    assert drop.look().taken == 1


def test_where_nobody_can_tell_a_file_has_to_be_older(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropfolder, "is_being_written", lambda descriptor: None)
    drop.put("a.dcm")

    assert drop.take().taken == 0
    assert drop.look(after_s=dropfolder.UNSURE_S).taken == 1


def test_delay_is_waited_for(drop: Drop) -> None:
    drop.options["delay_s"] = 5.0
    drop.put("a.dcm")
    drop.look()

    assert [drop.look(after_s=2.0).taken for _ in range(3)] == [0, 0, 1]


@pytest.mark.parametrize(
    "name", ["a.dcm.partial", "x.partial.1", "a.part", "a.FILEPART", ".hidden", ".a.dcm.Xy12"]
)
def test_name_of_something_unfinished_is_left_alone(drop: Drop, name: str) -> None:
    drop.put(name)

    drop.take()

    assert drop.names() == [name]


def test_pipe_is_ignored(drop: Drop) -> None:
    os.mkfifo(drop.path / "pipe.dcm")

    drop.take()

    assert drop.names() == ["pipe.dcm"]


def test_empty_file_gets_time_to_be_filled(drop: Drop) -> None:
    drop.put("a.dcm", b"")

    assert drop.take().failed == 0
    assert drop.look(after_s=dropfolder.EMPTY_S).failed == 1
    assert "empty" in drop.reason("a.dcm")


def test_file_that_changes_while_it_is_read_is_taken_again(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop.put("a.dcm")
    real = dropfolder.import_open_file

    def changing(*arguments: Any) -> object:
        receipt = real(*arguments)
        path.write_bytes(image(PatientName="LATER"))
        return receipt

    monkeypatch.setattr(dropfolder, "import_open_file", changing)
    drop.take()
    assert drop.names() == ["a.dcm"]

    monkeypatch.setattr(dropfolder, "import_open_file", real)
    drop.take()
    assert drop.names() == []
    assert drop.station.content() == data_set(PatientName="LATER")


# What fails.


def test_file_that_is_no_image_goes_to_failed_with_the_reason(drop: Drop) -> None:
    drop.put("CD/readme.txt", b"This is text.")

    assert drop.take().failed == 1
    assert drop.names() == ["failed/CD/readme.txt", "failed/CD/readme.txt.reason.txt"]
    assert "not DICOM" in drop.reason("CD/readme.txt")


def test_failed_files_are_not_tried_again_until_they_are_put_back(drop: Drop) -> None:
    drop.put("a.dcm", b"garbage garbage")
    drop.take()

    assert drop.take() == Tally()
    (drop.path / FAILED / "a.dcm").rename(drop.path / "a.dcm")
    assert drop.take().failed == 1


def test_second_failure_of_a_name_keeps_both(drop: Drop) -> None:
    for text in (b"first garbage", b"second garbage"):
        drop.put("a.dcm", text)
        drop.take()

    kept = [name for name in drop.names() if not name.endswith(".txt")]
    assert kept == ["failed/a.dcm", "failed/a_1.dcm"]
    assert (drop.path / FAILED / "a.dcm").read_bytes() == b"first garbage"


def test_longest_name_can_fail(drop: Drop) -> None:
    drop.put("x" * 251 + ".dcm", b"garbage garbage")

    assert drop.take().failed == 1
    assert len(drop.names()) == 2


def test_link_is_not_followed(drop: Drop, tmp_path: Path) -> None:
    outside = tmp_path / "private.dcm"
    outside.write_bytes(image())
    (drop.path / "link.dcm").symlink_to(outside)

    assert drop.take().failed == 1
    assert "links are not followed" in drop.reason("link.dcm")
    assert outside.exists()
    assert drop.station.find() is None


def test_link_to_a_folder_is_not_followed(drop: Drop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.dcm").write_bytes(image())
    (drop.path / "link").symlink_to(outside)

    drop.take()

    assert (outside / "a.dcm").exists()
    assert drop.station.find() is None


def test_failed_that_is_a_link_is_not_followed(
    drop: Drop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (drop.path / FAILED).symlink_to(outside)
    drop.put("a.dcm", b"garbage garbage")

    for _ in range(5):
        drop.look()

    assert list(outside.iterdir()) == []
    assert "a.dcm" in drop.names()
    assert caplog.text.count("cannot be moved to failed") == 1


def test_object_that_a_rule_rejects_fails(tmp_path: Path) -> None:
    def refuse(table: Any, verdict: Any) -> None:
        from dgate.rules.effects import Outcome

        verdict.outcome = Outcome.REJECT
        verdict.reason = "not wanted here"

    station = open_station(tmp_path / "site", hooks=Hooks(on_import=refuse))
    (tmp_path / "watch").mkdir()
    drop = Drop(station, tmp_path / "watch")
    drop.put("a.dcm")

    assert drop.take().failed == 1
    assert "not wanted here" in drop.reason("a.dcm")
    station.close()


@pytest.mark.parametrize("rules", [True, False])
def test_rules_run_as_import_export_drag_and_drop_says(tmp_path: Path, rules: bool) -> None:
    hooks = Hooks()
    station = open_station(tmp_path / "site", hooks=hooks, import_export_drag_and_drop=rules)
    (tmp_path / "watch").mkdir()
    drop = Drop(station, tmp_path / "watch")
    drop.put("a.dcm")

    assert drop.take().taken == 1
    assert len(hooks.imported) == len(hooks.exported) == int(rules)
    assert all(captured.calling == "monitor" for captured in hooks.imported)
    station.close()


# The archive is at fault.


def failing(error: Exception, times: int) -> Callable[[Ingest, Any], Any]:
    left = [times]
    real = Ingest.store

    def store(ingest: Ingest, arrival: Any) -> Any:
        if left[0]:
            left[0] -= 1
            arrival.payload.close()
            raise error
        return real(ingest, arrival)

    return store


def test_files_wait_while_the_database_is_away(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    drop.put("a.dcm")
    drop.put("b.dcm", image("1.2.3.9"))
    monkeypatch.setattr(Ingest, "store", failing(DatabaseAway("gone"), 5))
    drop.look()

    waits = [drop.look().waiting for _ in range(5)]

    assert waits == ["gone"] * 5
    drop.take()
    assert drop.names() == []


def test_doubtful_failure_is_tried_a_few_times(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    drop.put("a.dcm")
    monkeypatch.setattr(Ingest, "store", failing(StoreError("odd"), 2))

    tallies = [drop.look() for _ in range(4)]

    assert sum(tally.taken for tally in tallies) == 1
    assert drop.names() == []


def test_failure_that_stays_ends_in_failed(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    drop.put("a.dcm")
    monkeypatch.setattr(Ingest, "store", failing(StoreError("odd"), 99))

    tallies = [drop.look() for _ in range(9)]

    assert sum(tally.failed for tally in tallies) == 1
    assert "odd" in drop.reason("a.dcm")


def test_fault_of_dgate_itself_costs_one_file_only(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop.put("a.dcm")
    drop.put("b.dcm", image("1.2.3.9"))
    monkeypatch.setattr(Ingest, "store", failing(ZeroDivisionError("oops"), 1))

    tally = drop.take()

    assert (tally.taken, tally.failed) == (1, 1)


def test_file_that_cannot_be_removed_is_not_imported_for_ever(
    drop: Drop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drop.put("a.dcm")

    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(dropfolder.os, "unlink", refuse)
    tallies = [drop.look() for _ in range(9)]

    assert sum(tally.taken for tally in tallies) == 1
    assert caplog.text.count("cannot be removed") == 1
    assert drop.names() == ["a.dcm"]


def test_file_that_is_written_again_with_its_old_times_is_not_taken_early(drop: Drop) -> None:
    """As tools do that copy the times along: only the time of change tells."""
    path = drop.put("a.dcm", image(StudyDescription="one"))
    times = path.stat()
    drop.look()
    path.write_bytes(image(StudyDescription="two"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size

    assert drop.look().taken == 0
    assert drop.look().taken == 1
    assert drop.station.content() == data_set(SOPInstanceUID=SOP, StudyDescription="two")


def test_file_that_takes_the_place_of_an_imported_one_is_never_removed_unread(
    drop: Drop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It comes in the last moment: after the look at the file that is to be removed."""
    path = drop.put("a.dcm")
    other = tmp_path / "other"
    other.write_bytes(image("1.2.77"))
    armed: list[bool] = []
    real_import, real_stat = dropfolder.import_open_file, os.stat

    def imported(*arguments: Any) -> Any:
        result = real_import(*arguments)
        armed.append(True)
        return result

    def stat(name: Any, **options: Any) -> os.stat_result:
        status = real_stat(name, **options)
        if armed and name == "a.dcm" and other.exists():
            other.replace(path)
        return status

    drop.look()
    with monkeypatch.context() as patch:
        patch.setattr(dropfolder, "import_open_file", imported)
        patch.setattr(os, "stat", stat)
        assert drop.look().taken == 1

    assert path.read_bytes() == image("1.2.77")
    assert drop.take().taken == 1
    assert drop.station.content("1.2.77") == data_set(SOPInstanceUID="1.2.77")
    assert drop.names() == []


def test_file_that_is_opened_for_writing_before_its_removal_stays(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop.put("a.dcm")
    writers: list[Any] = []
    real = os.rename

    def rename(source: Any, target: Any, **options: Any) -> None:
        if not writers:
            writers.append(path.open("r+b"))
        real(source, target, **options)

    drop.look()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        drop.look()
    writers[0].write(image("1.2.77")[:10])
    writers[0].close()

    assert drop.names() == ["a.dcm"]


def test_file_whose_removal_a_crash_interrupted_is_taken_again(drop: Drop) -> None:
    drop.put(".dgate-taken.a.dcm")

    drop.look()
    assert drop.names() == ["a.dcm"]
    assert drop.take().taken == 1
    assert drop.names() == []
    assert drop.station.content() == data_set()


def test_longest_name_can_be_taken(drop: Drop) -> None:
    drop.put("n" * 251 + ".dcm")

    assert drop.take().taken == 1
    assert drop.names() == []


def test_missing_folder_is_an_error_of_the_look(drop: Drop) -> None:
    drop.path.rmdir()

    with pytest.raises(FileNotFoundError):
        drop.look()


# Archives and other kinds.


def test_zip_file_is_taken_object_by_object(drop: Drop) -> None:
    content = zipped(
        {
            "CD/1.dcm": image("1.2.3.1"),
            "CD/2.dcm": image("1.2.3.2"),
            "CD/DICOMDIR": b"not an image",
            "__MACOSX/CD/._1.dcm": b"not an image",
            "../../3.dcm": image("1.2.3.3"),
        }
    )
    drop.put("cd.zip", content)

    assert drop.take().taken == 1
    assert all(drop.station.find(f"1.2.3.{number}") for number in (1, 2, 3))
    assert drop.names() == []


def test_zip_file_with_one_bad_file_fails_and_says_which(drop: Drop) -> None:
    drop.put("cd.zip", zipped({"1.dcm": image(), "readme.txt": b"This is text."}))

    assert drop.take().failed == 1
    assert drop.station.find() is not None
    assert "1 of 2 files in it failed" in drop.reason("cd.zip")
    assert "readme.txt: " in drop.reason("cd.zip")


def test_gzip_file_is_taken(drop: Drop) -> None:
    drop.put("a.dcm.gz", gzip.compress(image()))

    assert drop.take().taken == 1
    assert drop.station.content() == data_set()


@pytest.mark.parametrize(
    "content",
    [
        zipped({"1.dcm": image()})[:-40],
        zipped({}),
        gzip.compress(image())[:-60],
        b"7z\xbc\xaf\x27\x1c" + bytes(100),
        bytes(257) + b"ustar" + bytes(300),
    ],
    ids=["cut zip", "empty zip", "cut gzip", "7z", "tar"],
)
def test_archive_that_cannot_be_read_fails(drop: Drop, content: bytes) -> None:
    drop.put("cd.zip", content)

    assert drop.take().failed == 1
    assert drop.station.files() == []


def test_object_whose_preamble_looks_like_an_archive_is_an_object(drop: Drop) -> None:
    content = image()
    drop.put("a.dcm", b"PK\x03\x04" + content[4:])

    assert drop.take().taken == 1


def test_hl7_file_goes_to_the_worklist(drop: Drop) -> None:
    loaded: list[bytes] = []
    drop.options["load_hl7"] = loaded.append
    drop.put("order.HL7", b"MSH|^~\\&|RIS")

    assert drop.take().taken == 1
    assert loaded == [b"MSH|^~\\&|RIS"]
    assert drop.names() == []


def test_hl7_file_that_the_worklist_refuses_fails(drop: Drop) -> None:
    def refuse(data: bytes) -> None:
        raise NotDicom("no MSH segment")

    drop.options["load_hl7"] = refuse
    drop.put("order.hl7", b"nonsense")

    assert drop.take().failed == 1
    assert "no MSH segment" in drop.reason("order.hl7")


def test_hl7_file_without_worklist_fails(drop: Drop) -> None:
    drop.put("order.hl7", b"MSH|")

    assert drop.take().failed == 1
    assert "HL7" in drop.reason("order.hl7")


def test_what_macos_writes_beside_files_is_removed(drop: Drop) -> None:
    drop.put("._a.dcm", b"\x00\x05\x16\x07" + bytes(100))
    drop.put("._notes", b"something else")
    drop.put(".DS_Store", b"x")

    drop.take()

    assert drop.names() == [".DS_Store", "._notes"]


def test_no_descriptor_is_left_open(drop: Drop) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    drop.put("a.dcm")
    drop.put("x/b.dcm", b"garbage garbage")
    drop.put("cd.zip", zipped({"1.dcm": image("1.2.3.7")}))
    drop.take()
    drop.take()

    # The database keeps a reader.
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 6
