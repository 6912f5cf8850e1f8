"""Which storage contexts a C-GET proposes: classes that are expected, each as it may be stored.

Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

from dgate.config.soplist import SopList
from dgate.dicom.uids import (
    DEFLATED,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    RLE_LOSSLESS,
)
from dgate.net import ContextProposal
from dgate.net.sop_classes import is_storage

MOST_CONTEXTS = 128
"""So many presentation contexts an association can have (PS3.8 9.3.2.2: odd numbers up to 255)."""

MOST_ASSOCIATIONS = 6
"""So often the same is asked for with other contexts."""

UNCOMPRESSED = (EXPLICIT_LE, IMPLICIT_LE)
COMPRESSED = (
    JPEG_LOSSLESS_SV1,
    JPEG_BASELINE,
    JPEG_2000_LOSSLESS,
    JPEG_2000,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.4.102",
    "1.2.840.10008.1.2.4.100",
    "1.2.840.10008.1.2.4.110",
    DEFLATED,
)
"""In the order in which they are met in archives; the others come as the peer can convert them."""


_STORAGE = "1.2.840.10008.5.1.4.1.1"
_COMMON_IMAGES = frozenset(
    f"{_STORAGE}.{suffix}"
    for suffix in (
        "1",
        "1.1",
        "1.2",
        "2",
        "2.1",
        "3.1",
        "4",
        "4.1",
        "6.1",
        "7",
        "12.1",
        "20",
        "128",
    )
)
"""CR, DX, MG, CT, enhanced CT, US multi-frame, MR, enhanced MR, US, SC, XA, NM, PET (PS3.4 B.5)."""


def listed_classes(sop_list: SopList | None) -> list[str]:
    """Return the storage classes of a dgatesop.lst, of the shipped one where it takes everything.

    The common ones come first, as they have the short UIDs.
    """
    listed = None if sop_list is None else sop_list.abstract
    if listed is None:
        text = resources.files("dgate.config").joinpath("default/dgatesop.lst").read_bytes()
        listed = SopList.parse(text, "dgatesop.lst")[0].abstract or frozenset()
    return sorted((uid for uid in listed if is_storage(uid)), key=lambda uid: (len(uid), uid))


def storage_offers(sop_classes: Iterable[str], room: int) -> list[list[ContextProposal]]:
    """Return the contexts to be sent objects of these classes on, one list per association.

    Each class is offered uncompressed and in each compressed syntax on a context of its own, so
    that the peer can send what it stores as it is. What does not fit into one association, which
    has `room` for so many contexts, is offered in a further one: it is worth asking on when
    something has not come.
    """
    classes = list(dict.fromkeys(sop_classes))
    offers = [ContextProposal(uid, UNCOMPRESSED, scp_role=True) for uid in classes]
    # What is compressed is an image, and mostly of one of few kinds.
    for uid in sorted(classes, key=lambda uid: uid not in _COMMON_IMAGES):
        offers += [ContextProposal(uid, (syntax,), scp_role=True) for syntax in COMPRESSED]
    parts = [offers[start : start + room] for start in range(0, len(offers), room)]
    return parts[:MOST_ASSOCIATIONS]
