"""Print client: images on the film of a DICOM printer (PS3.4 annex H, service class user).

Basic Grayscale Print Management only: a film session, film boxes one after the other, grey images
of 8 or 12 bits in them. Used by the thread that asked; the printer side is not here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dgate.dicom.element import tag_of, vr_of
from dgate.dicom.frames import Frames
from dgate.dicom.render import grey_values, is_grey
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import PeerError, RuleError, StoreError
from dgate.net import (
    Association,
    Command,
    CommandField,
    ContextProposal,
    Message,
    PresentationContext,
    StatusCategory,
    category,
    describe,
)
from dgate.net.scu import request

log = logging.getLogger(__name__)

GRAYSCALE_PRINT: Final = "1.2.840.10008.5.1.1.9"
"""Basic Grayscale Print Management Meta SOP Class."""
ANNOTATION_BOX: Final = "1.2.840.10008.5.1.1.15"
_FILM_SESSION: Final = "1.2.840.10008.5.1.1.1"
_FILM_BOX: Final = "1.2.840.10008.5.1.1.2"
_IMAGE_BOX: Final = "1.2.840.10008.5.1.1.4"
_PRINT: Final = 1
"""Action type of N-ACTION: print."""

_FORMAT: Final = "ImageDisplayFormat"
_BITS: Final = "BitsStored"
_ANNOTATION_FORMAT: Final = "AnnotationDisplayFormatID"
_SESSION_KEYS: Final = (
    "NumberOfCopies",
    "PrintPriority",
    "MediumType",
    "FilmDestination",
    "FilmSessionLabel",
    "MemoryAllocation",
    "OwnerID",
)
_FILM_KEYS: Final = (
    "ImageDisplayFormat",
    "AnnotationDisplayFormatID",
    "FilmOrientation",
    "FilmSizeID",
    "MagnificationType",
    "SmoothingType",
    "BorderDensity",
    "EmptyImageDensity",
    "MinDensity",
    "MaxDensity",
    "Trim",
    "ConfigurationInformation",
    "Illumination",
    "ReflectedAmbientLight",
    "RequestedResolutionID",
)
_IMAGE_KEYS: Final = ("Polarity", "RequestedImageSize", "RequestedDecimateCropBehavior")
_KEYS: Final = (*_SESSION_KEYS, *_FILM_KEYS, *_IMAGE_KEYS)
_HOW: Final = (
    "write for instance 'ImageDisplayFormat=STANDARD\\\\2,3;FilmOrientation=PORTRAIT'; known are "
    + ", ".join((*_KEYS, _BITS))
)
_STATUSES: Final[Mapping[int, str]] = {
    0xB600: "memory allocation is not supported",
    0xB601: "film session printing is not supported",
    0xB602: "the film session has no film box",
    0xB603: "the film box has no image",
    0xB604: "the image was made smaller",
    0xB605: "the density is out of range",
    0xB609: "the image was cropped",
    0xB60A: "the image was decimated",
    0xC600: "the film session has no film box",
    0xC601: "the print queue is full",
    0xC602: "the print queue is full",
    0xC603: "the image is larger than its image box",
    0xC605: "the printer has not enough memory",
    0xC613: "the images are larger than the film box",
}
_IMAGE_BOXES, _ANNOTATION_BOXES = 0x20100510, 0x20100520
_SESSION_REFERENCE, _REFERENCED_INSTANCE = 0x20100500, 0x00081155
_REFERENCED_CLASS: Final = 0x00081150
_IMAGE_POSITION, _IMAGE_ITEM = 0x20200010, 0x20200110
_ANNOTATION_POSITION, _ANNOTATION_TEXT = 0x20300010, 0x20300020
_LONGEST_LINE: Final = 64
_ASPECT_RATIO, _SPACING, _PIXEL_DATA = 0x00280034, 0x00280030, 0x7FE00010
_LIST = re.compile(r"[0-9]{1,2}(,[0-9]{1,2})*\Z")


@dataclass(frozen=True, slots=True)
class PrintOptions:
    """How to print."""

    values: Mapping[str, str] = field(default_factory=dict)
    """By keyword: attributes of the film session, the film boxes and the image boxes."""
    bits: int = 0
    """Bits of a pixel, 8 or 12; 0: 12 where the image has more than 8."""

    @classmethod
    def parse(cls, text: str) -> PrintOptions:
        """Read `Keyword=value;Keyword=value`.

        Raises:
            RuleError: it is no such text, or names what printing does not know.
        """
        values: dict[str, str] = {}
        bits = 0
        for part in text.split(";"):
            if not part.strip():
                continue
            keyword, equals, value = (each.strip() for each in part.partition("="))
            if not equals:
                raise RuleError(f"{part.strip()[:40]!r} is no print option", remedy=_HOW)
            if keyword == _BITS:
                if value not in ("8", "12"):
                    raise RuleError(f"{_BITS}={value[:20]} is neither 8 nor 12")
                bits = int(value)
            elif keyword in _KEYS:
                _set(ElementTable(b"", EXPLICIT_LE), keyword, value)
                values[keyword] = value
            else:
                raise RuleError(f"there is no print option {keyword[:40]!r}", remedy=_HOW)
        if _FORMAT in values:
            boxes_of(values[_FORMAT])
        return cls(values, bits)

    def of(self, keywords: Sequence[str], syntax: str) -> ElementTable:
        """Return a data set with those of the attributes that are given."""
        table = ElementTable(b"", syntax)
        for keyword, value in self.values.items():
            if keyword in keywords:
                _set(table, keyword, value)
        return table


def boxes_of(layout: str) -> int:
    """Return how many images a display format has room for; 0 where only the printer knows.

    Raises:
        RuleError: it is none (PS3.3 C.13.3).
    """
    kind, _, numbers = layout.partition("\\")
    if kind in ("SLIDE", "SUPERSLIDE", "CUSTOM"):
        return 0
    counts = [int(number) for number in numbers.split(",")] if _LIST.match(numbers) else []
    if kind == "STANDARD" and len(counts) == 2 and all(counts):
        return counts[0] * counts[1]
    if kind in ("ROW", "COL") and counts and all(counts):
        return sum(counts)
    raise RuleError(
        f"{layout[:40]!r} is no ImageDisplayFormat",
        remedy="write STANDARD\\C,R, ROW\\r1,r2, COL\\c1,c2, SLIDE, SUPERSLIDE or CUSTOM\\i",
    )


def default_layout(count: int) -> str:
    """Return the display format for so many images (spec lua-api.md 5.5)."""
    return {1: "STANDARD\\1,1", 2: "STANDARD\\1,2"}.get(count, "STANDARD\\2,2")


class Refused(PeerError):
    """The printer does not do what was asked; the association goes on."""


def print_proposals(*, annotated: bool) -> list[ContextProposal]:
    """Return what an association for printing proposes."""
    classes = (GRAYSCALE_PRINT, ANNOTATION_BOX) if annotated else (GRAYSCALE_PRINT,)
    return [ContextProposal(sop_class, (EXPLICIT_LE, IMPLICIT_LE)) for sop_class in classes]


def print_films(
    association: Association,
    images: Sequence[ElementTable],
    options: PrintOptions,
    annotation: str = "",
    after_each: Callable[[], None] | None = None,
) -> bool:
    """Print images on as many films as they need; False when the printer refused, which is logged.

    What had been begun is deleted then; films before that one are printed.

    Args:
        images: the first frame of each is printed.
        annotation: lines of text, one for each annotation box; printed where the printer has such.
        after_each: called when an image has reached the printer.

    Raises:
        PeerError: the association is lost.
        RuleError: an image cannot be printed.
    """
    if not images:
        raise RuleError("there is no image to print")
    contexts = association.contexts_for(GRAYSCALE_PRINT)
    try:
        if not contexts:
            raise Refused(f"{association.called} offers no Basic Grayscale Print Management")
        _Job(association, contexts[0], options, annotation, after_each).run(images)
    except Refused as exc:
        log.warning("A script's images were not printed: %s", exc)
        return False
    return True


class _Job:
    """One film session."""

    def __init__(
        self,
        association: Association,
        context: PresentationContext,
        options: PrintOptions,
        annotation: str,
        after_each: Callable[[], None] | None,
    ) -> None:
        self._association = association
        self._context = context
        self._options = options
        annotations = association.contexts_for(ANNOTATION_BOX)
        self._annotations = annotations[0] if annotations else None
        self._lines = [line.strip() for line in annotation.splitlines() if line.strip()]
        self._after_each = after_each
        self._session = ""
        self._bits = options.bits
        """0: as the image has them."""
        if self._lines and self._annotations is None:
            log.warning("%s prints no annotations.", association.called)
            self._lines = []

    def run(self, images: Sequence[ElementTable]) -> None:
        layout = self._options.values.get(_FORMAT) or default_layout(len(images))
        session = self._options.of(_SESSION_KEYS, self._context.transfer_syntax)
        self._session = self._create(_FILM_SESSION, session, "the film session")[0]
        rest = list(images)
        try:
            while rest:
                rest = self._film(layout, rest)
        finally:
            # Where the printer has gone there is nobody to tell.
            if self._association.is_open:
                self._delete(_FILM_SESSION, self._session)

    def _film(self, layout: str, images: list[ElementTable]) -> list[ElementTable]:
        """Print one film and return the images that had no room."""
        film, answer = self._create_film(layout)
        boxes = list(_references(answer, _IMAGE_BOXES))
        if not boxes:
            raise Refused("the printer made a film without image boxes")
        for place, line in zip(_references(answer, _ANNOTATION_BOXES), self._lines, strict=False):
            self._annotate(*place, line)
        for (number, box), image in zip(boxes, images, strict=False):
            self._put(number, box, image)
        command = Command(
            command_field=CommandField.N_ACTION_RQ,
            requested_sop_class=_FILM_BOX,
            requested_sop_instance=film,
            action_type=_PRINT,
        )
        self._ask(command, None, "the film")
        self._delete(_FILM_BOX, film)
        return images[len(boxes) :]

    def _create_film(self, layout: str) -> tuple[str, ElementTable]:
        syntax = self._context.transfer_syntax
        film = self._options.of(_FILM_KEYS, syntax)
        _set(film, _FORMAT, layout)
        reference = film.new_item()
        reference.set_text(_REFERENCED_CLASS, _FILM_SESSION)
        reference.set_text(_REFERENCED_INSTANCE, self._session)
        film.set_items(_SESSION_REFERENCE, [reference])
        given = _ANNOTATION_FORMAT in self._options.values
        if not self._lines or given:
            return self._create(_FILM_BOX, film, "the film box")
        with_annotation = film.snapshot()
        _set(with_annotation, _ANNOTATION_FORMAT, "1")
        try:
            return self._create(_FILM_BOX, with_annotation, "the film box")
        except Refused as exc:
            log.warning("%s, so it is printed without annotation.", exc)
            self._lines = []
        return self._create(_FILM_BOX, film, "the film box")

    def _annotate(self, number: int, box: str, line: str) -> None:
        assert self._annotations is not None, "there would be no lines"
        table = ElementTable(b"", self._annotations.transfer_syntax)
        table.set_raw(_ANNOTATION_POSITION, "US", number.to_bytes(2, "little"))
        table.set_text(_ANNOTATION_TEXT, line[:_LONGEST_LINE])
        command = Command(
            command_field=CommandField.N_SET_RQ,
            requested_sop_class=ANNOTATION_BOX,
            requested_sop_instance=box,
        )
        try:
            self._ask(command, table, "the annotation", self._annotations)
        except Refused as exc:
            log.warning("%s; the image is printed without it.", exc)

    def _put(self, number: int, box: str, image: ElementTable) -> None:
        frames = _frames(image)
        bits = self._bits or (12 if is_grey(frames.layout) and frames.layout.stored > 8 else 8)
        try:
            self._put_with(number, box, frames, image, bits)
        except Refused as exc:
            if bits == 8 or self._options.bits:
                raise
            log.warning("%s, so it is sent with 8 bits.", exc)
            self._bits = 8
            self._put_with(number, box, frames, image, 8)
        if self._after_each is not None:
            self._after_each()

    def _put_with(
        self, number: int, box: str, frames: Frames, image: ElementTable, bits: int
    ) -> None:
        table = self._options.of(_IMAGE_KEYS, self._context.transfer_syntax)
        table.set_raw(_IMAGE_POSITION, "US", number.to_bytes(2, "little"))
        item = table.new_item()
        _fill(item, image, frames, bits)
        table.set_items(_IMAGE_ITEM, [item])
        command = Command(
            command_field=CommandField.N_SET_RQ,
            requested_sop_class=_IMAGE_BOX,
            requested_sop_instance=box,
        )
        self._ask(command, table, f"image {number}")

    def _create(self, sop_class: str, table: ElementTable, what: str) -> tuple[str, ElementTable]:
        """Return the UID that the printer gives, and what it answers."""
        command = Command(command_field=CommandField.N_CREATE_RQ, sop_class=sop_class)
        response, answer = self._ask(command, table if table.tags() else None, what)
        if not response.sop_instance:
            raise Refused(f"the printer did not say what UID {what} has")
        return response.sop_instance, answer

    def _delete(self, sop_class: str, instance: str) -> None:
        command = Command(
            command_field=CommandField.N_DELETE_RQ,
            requested_sop_class=sop_class,
            requested_sop_instance=instance,
        )
        try:
            self._ask(command, None, "the deletion")
        except PeerError as exc:
            # Printers need not have this; the end of the association does the same.
            log.debug("%s", exc)

    def _ask(
        self,
        command: Command,
        table: ElementTable | None,
        what: str,
        context: PresentationContext | None = None,
    ) -> tuple[Command, ElementTable]:
        """Send a request and return response and data set; raises Refused."""
        context = context or self._context
        data = None if table is None else [table.tobytes()]
        response, content = request(self._association, context.id, command, data, self._hear)
        status = response.outcome
        kind = category(status)
        if kind is StatusCategory.SUCCESS:
            return response, ElementTable(content, context.transfer_syntax)
        meaning = f"{_STATUSES[status]} ({status:04X})" if status in _STATUSES else describe(status)
        text = f"{self._association.called} answered {what} with: {meaning}"
        if response.error_comment:
            text += f" {response.error_comment}"
        if kind is not StatusCategory.WARNING:
            raise Refused(text)
        log.warning("%s.", text)
        return response, ElementTable(content, context.transfer_syntax)

    def _hear(self, message: Message) -> None:
        """Take what the printer says about itself (PS3.4 H.4.6, N-EVENT-REPORT)."""
        level = logging.INFO if message.command.event_type == _NORMAL else logging.WARNING
        log.log(
            level,
            "The printer %s reports: %s.",
            self._association.called,
            _EVENTS.get(message.command.event_type or 0, "an unknown event"),
        )
        self._association.respond(message)


_NORMAL: Final = 1
_EVENTS: Final = {1: "normal", 2: "warning", 3: "failure"}


def _set(table: ElementTable, keyword: str, value: str) -> None:
    tag = tag_of(keyword)
    assert tag is not None, "a keyword of the dictionary"
    if vr_of(tag) == "US" and not (value.isascii() and value.isdigit()):
        raise RuleError(f"{keyword} cannot be {value[:40]!r}, which is no number")
    try:
        table.set_text(tag, value)
    except (ValueError, UnicodeError) as exc:
        raise RuleError(f"{keyword} cannot be {value[:40]!r}: {exc}") from exc


def _references(table: ElementTable, tag: int) -> Iterator[tuple[int, str]]:
    """Yield position, counted from 1, and UID of the boxes that a film has."""
    for number, item in enumerate(table.items(tag), start=1):
        uid = item.text(_REFERENCED_INSTANCE).strip()
        if uid:
            yield number, uid


def _frames(image: ElementTable) -> Frames:
    try:
        return Frames(image)
    except StoreError as exc:
        raise RuleError(f"an image cannot be printed: {exc}") from exc


def _fill(item: ElementTable, image: ElementTable, frames: Frames, bits: int) -> None:
    """Fill an item with an image as printers take it: MONOCHROME2, 8 or 12 bits (PS3.3 C.13.5)."""
    if not is_grey(frames.layout):
        bits = 8
    try:
        pixels = grey_values(image, frames, 0, bits)
    except (StoreError, ValueError) as exc:
        raise RuleError(f"an image cannot be printed: {exc}") from exc
    numbers = {
        "SamplesPerPixel": 1,
        "Rows": frames.layout.rows,
        "Columns": frames.layout.columns,
        "BitsAllocated": 8 if bits == 8 else 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
    }
    for keyword, number in numbers.items():
        _set(item, keyword, str(number))
    _set(item, "PhotometricInterpretation", "MONOCHROME2")
    ratio = _ratio(image)
    if ratio:
        item.set_text(_ASPECT_RATIO, ratio)
    item.set_raw(_PIXEL_DATA, "OW", pixels)


def _ratio(image: ElementTable) -> str:
    """Return the Pixel Aspect Ratio of pixels that are not square, vertical first."""
    own = image.text(_ASPECT_RATIO).strip()
    if own:
        first, _, second = own.partition("\\")
        return "" if first.strip() == second.strip() else own
    try:
        vertical, horizontal = (float(each) for each in image.text(_SPACING).split("\\"))
        if min(vertical, horizontal) <= 0 or abs(vertical / horizontal - 1) < 0.001:
            return ""
        scale = 1000 / min(vertical, horizontal)
        return f"{round(vertical * scale)}\\{round(horizontal * scale)}"
    except (ValueError, OverflowError):
        return ""
