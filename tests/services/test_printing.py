"""The print client, with DCMTK's printer and one that says what a test wants it to say."""

from __future__ import annotations

import logging
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from dgate.config.nodes import NodeMap
from dgate.config.settings import default_settings
from dgate.dicom.element import tag_of
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import PeerError, RuleError
from dgate.net import (
    Association,
    Command,
    CommandField,
    ContextProposal,
    Handler,
    Message,
    Timeouts,
    connect,
)
from dgate.services.peers import Peers
from dgate.services.printing import (
    ANNOTATION_BOX,
    GRAYSCALE_PRINT,
    PrintOptions,
    boxes_of,
    default_layout,
    print_films,
    print_proposals,
)
from tests.acceptance.printers import Dcmprscp
from tests.acceptance.processes import Ports
from tests.archive.intake_kit import data_set
from tests.net.kit import dead_port, serving

pytestmark = pytest.mark.integration

FILM_SESSION, FILM_BOX, IMAGE_BOX = (f"1.2.840.10008.5.1.1.{last}" for last in (1, 2, 4))
WAIT = Timeouts.of(30)
PLAIN = PrintOptions()
VALUES = [number * 37 % 4096 for number in range(48)]


def image(**elements: object) -> ElementTable:
    """Return an image of 6 rows and 8 columns, 12 bits, without a window."""
    form = {
        "Rows": 6,
        "Columns": 8,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": struct.pack("<48H", *VALUES),
    } | elements
    return ElementTable(data_set(**form), EXPLICIT_LE)


# DCMTK's printer.


def print_on(
    printer: Dcmprscp, images: list[ElementTable], options: str = "", annotation: str = ""
) -> tuple[bool, list[Dataset], list[Dataset]]:
    """Print; return what was said, and films and images as the printer has them then."""
    before = {*printer.files("SP"), *printer.files("HG")}
    with connect(
        "127.0.0.1", printer.port, "DGATE", "FILM",
        print_proposals(annotated=bool(annotation)), timeouts=WAIT,
    ) as association:  # fmt: skip
        done = print_films(association, images, PrintOptions.parse(options), annotation)
    films, pictures = (
        [pydicom.dcmread(path) for path in printer.files(kind) if path not in before]
        for kind in ("SP", "HG")
    )
    return done, films, pictures


@pytest.fixture(scope="module", params=[False, True], ids=["explicit", "implicit"])
def printer(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Dcmprscp]:
    ports = Ports()
    printer = Dcmprscp(tmp_path_factory.mktemp("printer"), ports, implicit=request.param)
    try:
        yield printer
    finally:
        printer.process.end(signal.SIGTERM)
        ports.close()


def pixels(picture: Dataset) -> list[int]:
    code = "B" if picture.BitsAllocated == 8 else "H"
    return list(struct.unpack(f"<48{code}", picture.PixelData[: 48 * picture.BitsAllocated // 8]))


def test_image_of_12_bits_is_printed_with_all_of_them(printer: Dcmprscp) -> None:
    done, films, pictures = print_on(printer, [image()])

    assert done
    assert len(films) == 1
    assert films[0].FilmBoxContentSequence[0].ImageDisplayFormat == "STANDARD\\1,1"
    (picture,) = pictures
    assert (picture.Rows, picture.Columns, picture.BitsStored) == (6, 8, 12)
    assert picture.PhotometricInterpretation == "MONOCHROME2"
    low, high = min(VALUES), max(VALUES)
    assert pixels(picture) == [int((value - low) * 4095 / (high - low) + 0.5) for value in VALUES]


def test_options_reach_session_and_film(printer: Dcmprscp) -> None:
    options = (
        "NumberOfCopies=2;MediumType=CLEAR FILM;FilmSizeID=8INX10IN;FilmOrientation=LANDSCAPE;"
        "MaxDensity=300;BitsStored=8;ImageDisplayFormat=STANDARD\\2,2"
    )
    done, films, pictures = print_on(printer, [image(), image()], options)

    assert done
    content = films[0].FilmBoxContentSequence[0]
    assert content.ImageDisplayFormat == "STANDARD\\2,2"
    assert (content.FilmOrientation, content.FilmSizeID) == ("LANDSCAPE", "8INX10IN")
    assert content.MaxDensity == 300
    assert [picture.BitsStored for picture in pictures] == [8, 8]


def test_more_images_than_a_film_takes_go_on_the_next(printer: Dcmprscp) -> None:
    done, films, pictures = print_on(printer, [image() for _ in range(5)])

    assert done
    assert len(pictures) == 5
    assert sorted(len(film.ImageBoxContentSequence) for film in films) == [1, 4]


def test_annotation_that_the_printer_does_not_take_is_left_out(
    printer: Dcmprscp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        done, films, _ = print_on(printer, [image()], "", "Trial 7")

    assert done
    assert len(films) == 1
    assert "prints no annotations" in caplog.text


def test_layout_that_the_printer_does_not_take_is_no_success(
    printer: Dcmprscp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        done, films, _ = print_on(printer, [image()], "ImageDisplayFormat=STANDARD\\5,7")

    assert not done
    assert films == []
    assert "FILM answered the film box with" in caplog.text


# A printer that says what a test wants it to say.

Script = Callable[[Command], int]


class Printer:
    """Answers each request with what `status` gives, and remembers what came."""

    def __init__(
        self,
        status: Script = lambda command: 0,
        boxes: int = 1,
        annotations: int = 0,
        event: int = 0,
    ) -> None:
        self.status = status
        self.boxes = boxes
        self.annotations = annotations
        self.event = event
        """An event of the printer that is reported before the first answer; 0: none."""
        self.asked: list[Command] = []
        self.data: list[ElementTable] = []
        self.contexts: list[str] = []
        self.answers_to_events: list[int | None] = []
        self.drops = False

    def handlers(self) -> dict[tuple[CommandField, str], Handler]:
        fields = (
            CommandField.N_CREATE_RQ, CommandField.N_SET_RQ, CommandField.N_ACTION_RQ,
            CommandField.N_DELETE_RQ,
        )  # fmt: skip
        return {
            (field, sop_class): self.answer
            for field in fields
            for sop_class in (GRAYSCALE_PRINT, ANNOTATION_BOX)
        }

    def answer(self, association: Association, message: Message) -> None:
        command = message.command
        syntax = message.context.transfer_syntax
        self.asked.append(command)
        self.contexts.append(message.context.abstract_syntax)
        content = b"" if message.payload is None else bytes(message.payload.view())
        self.data.append(ElementTable(content, syntax))
        if self.event:
            self._report(association, message.context.id)
        if self.drops and command.command_field == CommandField.N_ACTION_RQ:
            association.close()
            return
        status = self.status(command)
        data = None
        response = Command(
            command_field=command.command_field | 0x8000,
            message_id_responded=command.message_id,
            sop_class=command.service_class,
            sop_instance=command.requested_sop_instance,
            status=status,
            error_comment="as scripted" if status else "",
        )
        if command.command_field == CommandField.N_CREATE_RQ and status >> 12 != 0xC:
            response.sop_instance = f"1.2.3.{len(self.asked)}"
            if command.sop_class == FILM_BOX:
                data = [self._film(syntax).tobytes()]
        association.send(message.context.id, response, data)

    def _film(self, syntax: str) -> ElementTable:
        table = ElementTable(b"", syntax)
        for tag, count, branch in ((0x20100510, self.boxes, 4), (0x20100520, self.annotations, 5)):
            items = []
            for number in range(count):
                item = table.new_item()
                item.set_text(0x00081155, f"1.2.{branch}.{number + 1}")
                items.append(item)
            if items:
                table.set_items(tag, items)
        return table

    def _report(self, association: Association, context_id: int) -> None:
        event, self.event = self.event, 0
        report = Command(
            command_field=CommandField.N_EVENT_REPORT_RQ,
            message_id=99,
            sop_class="1.2.840.10008.5.1.1.16",
            sop_instance="1.2.840.10008.5.1.1.17",
            event_type=event,
        )
        association.send(context_id, report, None)
        answer = association.receive()
        assert answer is not None
        assert answer.command.command_field == CommandField.N_EVENT_REPORT_RSP
        self.answers_to_events.append(answer.command.status)

    def fields(self) -> list[str]:
        """Return what was asked for, in order."""
        return [CommandField(command.command_field).name for command in self.asked]

    def of(self, field: CommandField) -> list[Command]:
        return [command for command in self.asked if command.command_field == field]


@contextmanager
def printing(printer: Printer, *syntaxes: str) -> Iterator[Association]:
    """Yield an association with a printer of that kind."""
    proposals = [
        ContextProposal(sop_class, syntaxes or (EXPLICIT_LE,))
        for sop_class in (GRAYSCALE_PRINT, ANNOTATION_BOX)
    ]
    with (
        serving(handlers=printer.handlers(), timeouts=WAIT) as server,
        connect("127.0.0.1", server.port, "GATE", "FILM", proposals, timeouts=WAIT) as association,
    ):
        yield association


def refusing(field: CommandField, status: int, sop_class: str = "") -> Script:
    """Return a script that answers one kind of request with a status."""

    def script(command: Command) -> int:
        named = not sop_class or command.service_class == sop_class
        return status if command.command_field == field and named else 0

    return script


def test_session_film_image_print_and_end_come_in_their_order() -> None:
    printer = Printer()
    with printing(printer, IMPLICIT_LE) as association:
        assert print_films(association, [image()], PLAIN)

    assert printer.fields() == [
        "N_CREATE_RQ", "N_CREATE_RQ", "N_SET_RQ", "N_ACTION_RQ", "N_DELETE_RQ", "N_DELETE_RQ",
    ]  # fmt: skip
    session, film, box, action, *ends = printer.asked
    assert (session.sop_class, film.sop_class) == (FILM_SESSION, FILM_BOX)
    assert (box.requested_sop_class, box.requested_sop_instance) == (IMAGE_BOX, "1.2.4.1")
    assert (action.requested_sop_class, action.requested_sop_instance) == (FILM_BOX, "1.2.3.2")
    assert action.action_type == 1
    assert [end.requested_sop_instance for end in ends] == ["1.2.3.2", "1.2.3.1"]
    reference = printer.data[1].items(0x20100500)[0]
    assert (reference.text(0x00081150), reference.text(0x00081155)) == (FILM_SESSION, "1.2.3.1")


def test_images_fill_the_boxes_in_their_order() -> None:
    printer = Printer(boxes=2)
    told = []
    with printing(printer) as association:
        images = [image(), image(), image()]
        assert print_films(association, images, PLAIN, after_each=lambda: told.append(1))

    boxes = printer.of(CommandField.N_SET_RQ)
    assert [box.requested_sop_instance for box in boxes] == ["1.2.4.1", "1.2.4.2", "1.2.4.1"]
    positions = [
        data.text(0x20200010)
        for command, data in zip(printer.asked, printer.data, strict=True)
        if command.command_field == CommandField.N_SET_RQ
    ]
    assert positions == ["1", "2", "1"]
    assert len(printer.of(CommandField.N_ACTION_RQ)) == 2
    assert len(told) == 3


def test_annotation_goes_line_by_line_into_the_boxes() -> None:
    printer = Printer(annotations=2)
    with printing(printer) as association:
        assert print_films(association, [image()], PLAIN, "First line\nSecond\nNo third box")

    lines = [
        (command.requested_sop_instance, data.text(0x20300010), data.text(0x20300020))
        for command, data in zip(printer.asked, printer.data, strict=True)
        if command.requested_sop_class == ANNOTATION_BOX
    ]
    assert lines == [("1.2.5.1", "1", "First line"), ("1.2.5.2", "2", "Second")]
    assert printer.data[1].text(0x20100030) == "1"


def test_film_with_an_annotation_format_that_is_refused_is_printed_without() -> None:
    printer = Printer()
    tries: list[str] = []

    def status(command: Command) -> int:
        if command.sop_class != FILM_BOX:
            return 0
        tries.append(printer.data[-1].text(0x20100030))
        return 0x0106 if tries[-1] else 0

    printer.status = status
    with printing(printer) as association:
        assert print_films(association, [image()], PLAIN, "A line")

    assert tries == ["1", ""]


def test_image_that_is_refused_with_12_bits_is_sent_with_8() -> None:
    printer = Printer(boxes=2)

    def status(command: Command) -> int:
        if command.command_field != CommandField.N_SET_RQ:
            return 0
        item = printer.data[-1].items(0x20200110)[0]
        return 0x0106 if item.text(0x00280101) == "12" else 0

    printer.status = status
    with printing(printer) as association:
        assert print_films(association, [image(), image()], PLAIN)

    sent = [data.items(0x20200110)[0] for data in printer.data if 0x20200110 in data]
    assert [item.text(0x00280101) for item in sent] == ["12", "8", "8"]
    with printing(printer) as association:
        assert not print_films(association, [image()], PrintOptions.parse("BitsStored=12"))


@pytest.mark.parametrize(
    ("script", "named"),
    [
        (refusing(CommandField.N_CREATE_RQ, 0x0110, FILM_SESSION), "the film session"),
        (refusing(CommandField.N_CREATE_RQ, 0x0116 + 0xC000, FILM_BOX), "the film box"),
        (refusing(CommandField.N_SET_RQ, 0xC605), "image 1"),
        (refusing(CommandField.N_ACTION_RQ, 0xC602), "the film with: the print queue is full"),
    ],
    ids=["session", "film", "image", "print"],
)
def test_refusal_is_told_and_what_was_begun_is_deleted(
    script: Script, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    printer = Printer(script)
    with printing(printer) as association, caplog.at_level(logging.WARNING):
        assert not print_films(association, [image()], PLAIN)
        assert association.is_open

    assert named in caplog.text
    assert "as scripted" in caplog.text
    deleted = [end.requested_sop_class for end in printer.of(CommandField.N_DELETE_RQ)]
    assert deleted == ([] if "session" in named else [FILM_SESSION])


def test_answer_without_a_status_is_no_success(caplog: pytest.LogCaptureFixture) -> None:
    printer = Printer()

    def mute(association: Association, message: Message) -> None:
        response = Command(
            command_field=message.command.command_field | 0x8000,
            message_id_responded=message.command.message_id,
            sop_instance="1.2.3",
        )
        association.send(message.context.id, response, None)

    printer.answer = mute  # type: ignore[method-assign]
    with printing(printer) as association, caplog.at_level(logging.WARNING):
        assert not print_films(association, [image()], PLAIN)

    assert "the film session with: 0110" in caplog.text


def test_warnings_of_the_printer_are_logged_and_it_prints(
    caplog: pytest.LogCaptureFixture,
) -> None:
    printer = Printer(refusing(CommandField.N_SET_RQ, 0xB604))
    with printing(printer) as association, caplog.at_level(logging.WARNING):
        assert print_films(association, [image()], PLAIN)

    assert "the image was made smaller (B604)" in caplog.text


def test_printer_that_cannot_delete_is_forgiven() -> None:
    printer = Printer(refusing(CommandField.N_DELETE_RQ, 0x0211))
    with printing(printer) as association:
        assert print_films(association, [image()], PLAIN)


def test_film_without_image_boxes_is_a_failure() -> None:
    with printing(Printer(boxes=0)) as association:
        assert not print_films(association, [image()], PLAIN)


@pytest.mark.parametrize(("event", "word"), [(1, "normal"), (2, "warning"), (3, "failure")])
def test_report_of_the_printer_is_answered(
    event: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    printer = Printer(event=event)
    with printing(printer) as association, caplog.at_level(logging.INFO):
        assert print_films(association, [image()], PLAIN)

    assert printer.answers_to_events == [0]
    assert f"FILM reports: {word}" in caplog.text


def test_printer_that_goes_away_is_an_error() -> None:
    printer = Printer()
    printer.drops = True
    with pytest.raises(PeerError), printing(printer) as association:
        print_films(association, [image()], PLAIN)


# How scripts get there.


def peers(port: int) -> Peers:
    nodes, _ = NodeMap.parse(f"FILM 127.0.0.1 {port} un\n".encode(), "acrnema.map")
    return Peers(nodes, default_settings(Path("/nonexistent")))


def test_peers_print_by_the_name_of_a_node() -> None:
    printer = Printer(boxes=4)
    with serving(handlers=printer.handlers(), timeouts=WAIT) as server:
        assert peers(server.port).print_films("FILM", [image()] * 3, "", "PrintPriority=HIGH")

    assert printer.data[0].text(0x20000020) == "HIGH"
    assert printer.data[1].text(0x20100010) == "STANDARD\\2,2"


def test_printer_that_nobody_reaches_gives_false(caplog: pytest.LogCaptureFixture) -> None:
    with dead_port() as port, caplog.at_level(logging.WARNING):
        assert not peers(port).print_films("FILM", [image()], "", "")
        assert not peers(port).print_films("NOBODY", [image()], "", "")

    assert caplog.text.count("were not printed by") == 2


def test_node_that_does_not_print_gives_false(caplog: pytest.LogCaptureFixture) -> None:
    with (
        serving(timeouts=WAIT) as server,
        connect(
            "127.0.0.1", server.port, "GATE", "FILM",
            [ContextProposal("1.2.840.10008.1.1", (EXPLICIT_LE,))], timeouts=WAIT,
        ) as association,
        caplog.at_level(logging.WARNING),
    ):  # fmt: skip
        assert not print_films(association, [image()], PLAIN)

    assert "offers no Basic Grayscale Print Management" in caplog.text


# Options and images.


@pytest.mark.parametrize(
    "text",
    [
        "FilmOrientation",
        "Colour=RED",
        "PatientName=A",
        "BitsStored=16",
        "MaxDensity=dark",
        "ImageDisplayFormat=STANDARD\\0,1",
        "ImageDisplayFormat=STANDARD\\2",
        "ImageDisplayFormat=NINE",
        "ImageDisplayFormat=ROW\\",
    ],
)
def test_option_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        PrintOptions.parse(text)


@pytest.mark.parametrize(
    ("layout", "count"),
    [
        ("STANDARD\\2,3", 6),
        ("ROW\\2,1,2", 5),
        ("COL\\1,3", 4),
        ("SLIDE", 0),
        ("CUSTOM\\7", 0),
    ],
)
def test_layout_has_room_for(layout: str, count: int) -> None:
    assert boxes_of(layout) == count
    assert PrintOptions.parse(f" ImageDisplayFormat = {layout} ; ").values == {
        "ImageDisplayFormat": layout
    }


def test_layout_follows_from_the_number_of_images() -> None:
    layouts = [default_layout(count) for count in (1, 2, 3, 4, 9)]
    assert layouts == [f"STANDARD\\{form}" for form in ("1,1", "1,2", "2,2", "2,2", "2,2")]


def printed(table: ElementTable, options: str = "") -> ElementTable:
    """Return an image as a printer gets it."""
    printer = Printer()
    with printing(printer) as association:
        assert print_films(association, [table], PrintOptions.parse(options))
    (item,) = (data.items(0x20200110)[0] for data in printer.data if 0x20200110 in data)
    return item


def test_window_and_inversion_are_applied() -> None:
    item = printed(
        image(PhotometricInterpretation="MONOCHROME1", WindowCenter="1024.5", WindowWidth="2049")
    )

    assert item.text(0x00280004) == "MONOCHROME2"
    found = struct.unpack("<48H", item.raw(0x7FE00010) or b"")
    expected = [4095 - min(4095, int(value * 4095 / 2048 + 0.5)) for value in VALUES]
    assert list(found) == expected


def test_colour_is_printed_in_grey() -> None:
    colours = bytes(number % 256 for number in range(48 * 3))
    item = printed(
        image(
            SamplesPerPixel=3, PhotometricInterpretation="RGB", BitsAllocated=8, BitsStored=8,
            HighBit=7, PlanarConfiguration=0, PixelData=colours,
        )
    )  # fmt: skip

    assert (item.text(0x00280002), item.text(0x00280101)) == ("1", "8")
    grey = (item.raw(0x7FE00010) or b"")[:48]
    expected = [
        (299 * colours[at] + 587 * colours[at + 1] + 114 * colours[at + 2] + 500) // 1000
        for at in range(0, 144, 3)
    ]
    assert list(grey) == expected


@pytest.mark.parametrize(
    ("elements", "ratio"),
    [
        ({"PixelSpacing": "1.0\\0.5"}, "2000\\1000"),
        ({"PixelSpacing": "0.7\\0.7"}, ""),
        ({"PixelAspectRatio": "3\\4"}, "3\\4"),
        ({"PixelSpacing": "0\\0.5"}, ""),
        ({"PixelSpacing": "wide"}, ""),
        ({}, ""),
    ],
)
def test_pixels_that_are_not_square_say_so(elements: dict[str, str], ratio: str) -> None:
    table = image()
    for keyword, value in elements.items():
        table.set_text(tag_of(keyword) or 0, value)
    assert printed(table).text(0x00280034) == ratio


def test_what_has_no_pixels_cannot_be_printed() -> None:
    printer = Printer()
    with printing(printer) as association, pytest.raises(RuleError, match="cannot be printed"):
        print_films(association, [image(PixelData=None)], PLAIN)
    assert printer.fields()[-1] == "N_DELETE_RQ"
    with printing(printer) as association, pytest.raises(RuleError, match="no image"):
        print_films(association, [], PLAIN)
