"""What may be said of the parts of an object: codes that name no place, content items that still say something, and
bytes that describe the picture they stand beside.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from pydicom import Dataset
from pydicom.datadict import dictionary_VM
from pydicom.dataelem import RawDataElement

from gateway.identities import text_of

CODING_SCHEMES = frozenset(
    {"DCM", "SCT", "SRT", "SNM3", "99SDM", "LN", "UCUM", "FMA", "RADLEX", "I9C", "I10", "I11"}
)
"""Schemes whose codes mean the same everywhere; a local scheme names the place that made it."""

SIZES: Mapping[str, int] = MappingProxyType(
    {"US": 2, "SS": 2, "UL": 4, "SL": 4, "UV": 8, "SV": 8, "FL": 4, "FD": 8, "AT": 4}
)
"""Bytes of one number of each value representation (PS3.5 6.2)."""

_CODE = frozenset({0x00080100, 0x00080104, 0x00080119})
_CONTENT = {
    "TEXT": 0x0040A160, "NUM": 0x0040A300, "NUMERIC": 0x0040A30A, "CODE": 0x0040A168, "DATE": 0x0040A121,
    "TIME": 0x0040A122, "DATETIME": 0x0040A120, "UIDREF": 0x0040A124, "PNAME": 0x0040A123,
    "IMAGE": 0x00081199, "COMPOSITE": 0x00081199, "WAVEFORM": 0x00081199,
}  # fmt: skip
"""Where a content item of each value type (PS3.3 10.2 and C.17.3) has its value."""

_PALETTE = {base + colour for base in (0x00281101, 0x00281201, 0x00281221) for colour in range(3)}
_ICC_PROFILE, _COLOUR_MODEL, _OFFSETS = 0x00282000, 0x00280004, {0x7FE00001, 0x7FE00002}


def stray(ds: Dataset, encapsulated: bool) -> set[int]:
    """The tags of bytes that belong to no picture: a palette that is not used, an ICC profile that is none, offsets.

    Parameters
    ----------
    ds
        A scrubbed data set, its pixels as they were.
    encapsulated
        Whether they are coded frames, which offsets may point at.
    """
    here = ds.keys()
    found: set[int] = set() if text_of(ds, _COLOUR_MODEL) == "PALETTE COLOR" else _PALETTE & here
    if not encapsulated:
        found |= _OFFSETS & here
    if _ICC_PROFILE in ds and not is_icc_profile(ds[_ICC_PROFILE].value or b""):
        found.add(_ICC_PROFILE)
    return found


def is_icc_profile(data: bytes) -> bool:
    """Whether bytes are one ICC profile: its tags, and between and behind them only zeros (ICC.1:2022 7.2, 7.3)."""
    size, tags = int.from_bytes(data[:4], "big"), int.from_bytes(data[128:132], "big")
    if data[36:40] != b"acsp" or not 132 + 12 * tags <= size <= len(data):
        return False
    end = 132 + 12 * tags
    places = (data[at + 4 : at + 12] for at in range(132, end, 12))
    for start, length in sorted((int.from_bytes(p[:4], "big"), int.from_bytes(p[4:], "big")) for p in places):
        if start < 132 + 12 * tags or start + length > size or data[end:start].strip(b"\0"):
            return False
        end = max(end, start + length)
    return not data[end:].strip(b"\0")


def well_counted(raw: RawDataElement, vr: str) -> bool:
    """Whether an element of numbers has as many as PS3.6 gives its attribute; more bytes than that may be a text."""
    size = SIZES.get(raw.VR or vr[:2])  # "US or SS" is of one size
    if not size or not raw.value:
        return True
    number = _number_of_values(int(raw.tag))
    return len(raw.value) == number * size if number else len(raw.value) % size == 0


@lru_cache(8192)
def _number_of_values(tag: int) -> int:
    """The value multiplicity of an attribute (PS3.6 6); 0 where it may vary."""
    stated = dictionary_VM(tag)
    return int(stated) if stated.isdecimal() else 0


def means_the_same_everywhere(item: Dataset) -> bool:
    """Whether an item is no code, or one of a scheme of :data:`CODING_SCHEMES`."""
    if _CODE.isdisjoint(item.keys()):
        return True
    return text_of(item, 0x00080102) in CODING_SCHEMES


def whole(item: Dataset) -> bool:
    """Whether a content item still has its value; what lost it says nothing and would not be valid."""
    type_ = text_of(item, 0x0040A040)
    if not type_:
        return True
    where = _CONTENT.get(type_)
    return where is not None and where in item and bool(item[where].value)
