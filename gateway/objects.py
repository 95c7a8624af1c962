"""Kinds of DICOM objects by the names the standard gives their SOP classes, and what may happen to each."""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from types import MappingProxyType

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID


class Treatment(StrEnum):
    """What happens to a kind of object."""

    TREAT = "treat"
    METADATA_ONLY = "metadata only"
    REFUSE = "refuse"


PHOTOGRAPHS = (
    "VLPhotographicImageStorage",
    "DermoscopicPhotographyImageStorage",
    "SecondaryCaptureImageStorage",
    "MultiFrameTrueColorSecondaryCaptureImageStorage",
)
"""The kinds this gateway is made for."""

COMPANIONS = (
    "BasicTextSRStorage",
    "EnhancedSRStorage",
    "ComprehensiveSRStorage",
    "Comprehensive3DSRStorage",
    "KeyObjectSelectionDocumentStorage",
    "EncapsulatedPDFStorage",
    "EncapsulatedCDAStorage",
    "GrayscaleSoftcopyPresentationStateStorage",
    "ColorSoftcopyPresentationStateStorage",
    "PseudoColorSoftcopyPresentationStateStorage",
    "BlendingSoftcopyPresentationStateStorage",
    "VideoPhotographicImageStorage",
    "VideoEndoscopicImageStorage",
    "VideoMicroscopicImageStorage",
)
"""What comes in one study with photographs and may say or show more than can be taken out here."""

_NEWER = {"LabelMapSegmentationStorage": UID("1.2.840.10008.5.1.4.1.1.66.7")}
"""What the standard has and the dictionary in use does not."""
_NO_OBJECTS = frozenset(
    {"MediaStorageDirectoryStorage", "StorageCommitmentPushModel", "StorageCommitmentPullModel"}
)


@cache
def storage_classes() -> Mapping[str, UID]:
    """Every storage SOP class of the standard, retired ones included, by its keyword (PS3.6 Table A-1)."""
    known = {str(entry[4]): UID(uid) for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class"}
    named = known | _NEWER
    return MappingProxyType(
        {
            keyword: uid
            for keyword, uid in named.items()
            if "Storage" in keyword and keyword not in _NO_OBJECTS
        }
    )
