"""What may be said of the items of a sequence: codes that name no place, and content items that still say something."""

from pydicom import Dataset

from gateway.identities import text_of

CODING_SCHEMES = frozenset(
    {"DCM", "SCT", "SRT", "SNM3", "99SDM", "LN", "UCUM", "FMA", "RADLEX", "I9C", "I10", "I11"}
)
"""Schemes whose codes mean the same everywhere; a local scheme names the place that made it."""

_CONTENT = {
    "TEXT": 0x0040A160, "NUM": 0x0040A300, "NUMERIC": 0x0040A30A, "CODE": 0x0040A168, "DATE": 0x0040A121,
    "TIME": 0x0040A122, "DATETIME": 0x0040A120, "UIDREF": 0x0040A124, "PNAME": 0x0040A123,
    "IMAGE": 0x00081199, "COMPOSITE": 0x00081199, "WAVEFORM": 0x00081199,
}  # fmt: skip
"""Where a content item of each value type (PS3.3 10.2 and C.17.3) has its value."""


def means_the_same_everywhere(item: Dataset) -> bool:
    """Whether an item is no code, or one of a scheme of :data:`CODING_SCHEMES`."""
    if "CodeValue" not in item and "LongCodeValue" not in item and "CodeMeaning" not in item:
        return True
    return text_of(item, 0x00080102) in CODING_SCHEMES


def whole(item: Dataset) -> bool:
    """Whether a content item still has its value; what lost it says nothing and would not be valid."""
    type_ = text_of(item, 0x0040A040)
    if not type_:
        return True
    where = _CONTENT.get(type_)
    return where is not None and where in item and bool(item[where].value)
