"""De-identification of objects by PS3.15 Annex E (edition 2024b).

Basic Profile and options as data, applied to an element table; no settings, no files, no database.
"""

from dgate.dicom.deidentify.deidentifier import Deidentifier, Replaced
from dgate.dicom.deidentify.masks import Masks
from dgate.dicom.deidentify.options import Clean, Profile, Retain
from dgate.dicom.deidentify.pseudonyms import Pseudonyms
from dgate.dicom.deidentify.safelist import SafeList

__all__ = [
    "Clean",
    "Deidentifier",
    "Masks",
    "Profile",
    "Pseudonyms",
    "Replaced",
    "Retain",
    "SafeList",
]
