"""Objects in which every identifying attribute holds a token of its own, at every depth, private ones included."""

from collections.abc import Iterator
from datetime import date, timedelta

from pydicom import DataElement, Dataset
from pydicom.datadict import (
    DicomDictionary,
    RepeatersDictionary,
    dictionary_has_tag,
    dictionary_VR,
    tag_for_keyword,
)
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID

from gateway.profiles import table

FIRST_DATE = date(1871, 1, 1)
SCRIPTS = {
    "ISO_IR 192": "абвгдежзийклмαβγδεζηθικλμν",  # UTF-8: two scripts in one word
    "ISO_IR 100": "àáâãäåæçèéêëìíîïðñòóôõöøùú",
    "ISO_IR 144": "абвгдежзийклмнопрстуфхцчшщ",
    "ISO_IR 127": "ابتثجحخدذرزسشصضطظعغفقكلمنه",
    "\\ISO 2022 IR 149": "가나다라마바사아자차카타파하거너더러머버서어저처커터",
    "\\ISO 2022 IR 87": "亜意宇絵男課気区家子左市酢世曽田地津手都名二奴根野葉",
}
"""Specific Character Set (PS3.3 C.12.1.1.2) and twenty-six of its letters: Cyrillic and Greek in UTF-8, Latin-1,
Cyrillic, Arabic, Korean, Japanese."""

OBJECT = frozenset({0x00080005, 0x00080016, 0x00080018, 0x0020000D})
"""Without their true values an object is not treated at all."""
INNER = (
    "PatientName", "PatientID", "PatientAge", "CodeMeaning", "ReferencedSOPInstanceUID", "InstanceNumber",
    "ContentDate", "ContentTime", "TextValue", "Manufacturer", "SoftwareVersions", "FloatingPointValue", "PixelSpacing",
)  # fmt: skip

_LETTERS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "PN"})
_FREE = {"LO": 64, "SH": 16, "ST": 1024, "LT": 10240, "UT": 64, "UC": 64, "PN": 64, "AE": 16, "CS": 16}


class Tokens:
    """Hands out values that occur once in the world, and remembers them and the attribute each stands in."""

    def __init__(self, script: str = "", serial: int = 5) -> None:
        self.texts: list[str] = []
        self.uids: list[str] = []
        self.dates: list[str] = []
        self.numbers: list[str] = []
        self.owner: dict[str, int] = {}
        self._script, self._serial = script, serial

    def value(self, vr: str, tag: int = 0) -> object:
        value = self._value(vr)
        for made in (self.texts, self.uids, self.dates, self.numbers):
            if made:
                self.owner.setdefault(made[-1], tag)
        return value

    def _value(self, vr: str) -> object:
        if vr in _LETTERS and self._script:
            number = len(self.texts)
            self.texts.append(
                "".join(self._script[n] for n in (3, 7, *(number // 26**k % 26 for k in range(4)), 11))
            )
            return self.texts[-1]
        if vr in _FREE:
            number = len(self.texts)
            # Letters only, so that a name is one word and a code string is one code.
            letters = "".join(chr(ord("A") + number // 26**k % 26) for k in range(4))
            self.texts.append(f"QZX{letters}KJW")
            return self.texts[-1]
        if vr == "UR":
            return f"https://{self._value('CS')}.example/photo"
        if vr == "UI":
            self.uids.append(f"1.2.826.0.1.3680043.9.7133.{1000 + len(self.uids)}.{self._serial}")
            return UID(self.uids[-1])
        if vr in {"DA", "DT"}:
            self.dates.append(f"{FIRST_DATE + timedelta(days=len(self.dates)):%Y%m%d}")
            return self.dates[-1] + ("101112.123456+0200" if vr == "DT" else "")
        if vr in {"OB", "UN", "OW", "OF", "OD", "OL", "OV"}:
            return str(self._value("CS")).encode() + b"\0" * 6
        return self._number(vr)

    def _number(self, vr: str) -> object:
        count = len(self.numbers)
        number = {"US": 20_000, "SS": 20_000, "TM": 700_000}.get(vr, 700_000_000)
        number += 128 * count if number == 700_000_000 else count  # exact in FL
        self.numbers.append(f"{count % 1000:03d}Y" if vr == "AS" else str(number))
        written = {"TM": f"101112.{number}", "AS": self.numbers[-1], "IS": str(number), "DS": f"{number}.5"}
        return written.get(vr, float(number) if vr in {"FL", "FD"} else number)


def elements(tokens: Tokens) -> Iterator[DataElement]:
    """One element for every attribute Table E.1-1 names, overlays and curves included, sequences with one item."""
    for key, rule in table().items():
        if rule.source != "E.1-1" or key == "private":
            continue
        tag = Tag(int(key.replace("xxxxxx", "000010").replace("xx", "02"), 16))
        if tag.group in {0x0000, 0x0002, 0x0004}:
            continue
        vr = dictionary_VR(tag).split(" or ")[0] if dictionary_has_tag(tag) else "LO"
        if vr != "SQ":
            yield DataElement(tag, vr, tokens.value(vr, tag))
            continue
        item = Dataset()
        for keyword, inner in (
            ("CodeMeaning", "LO"),
            ("PatientName", "PN"),
            ("ReferencedSOPInstanceUID", "UI"),
        ):
            setattr(item, keyword, tokens.value(inner, tag_for_keyword(keyword) or 0))
        yield DataElement(tag, "SQ", Sequence([item]))


def everything(tokens: Tokens) -> Iterator[DataElement]:
    """One element for every attribute of PS3.6 but groups 0 to 4 and what describes the pixels.

    Retired ones and repeating groups are among them. In a sequence stand two items: a few attributes of each kind and a
    private block, and the same within a sequence whose contents pass.
    """
    tags = {tag: entry[0] for tag, entry in DicomDictionary.items()}
    for mask, entry in RepeatersDictionary.items():
        tags[int(mask.replace("xx", "02").replace("x", "2"), 16)] = entry[0]
    for tag, several in sorted(tags.items()):
        vr = several.split(" or ")[0]
        group = tag >> 16
        if group <= 4 or group in {0x0028, 0x7FE0, 0xFFFE} or tag in OBJECT or vr in {"AT", "NONE"}:
            continue
        if vr != "SQ":
            yield DataElement(tag, vr, tokens.value(vr, tag))
            continue
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = "39937001", "SCT"
        for keyword in INNER:
            inner = tag_for_keyword(keyword) or 0
            setattr(item, keyword, tokens.value(dictionary_VR(inner), inner))
        block = item.private_block(0x0011, str(tokens.value("CS")), create=True)
        block.add_new(1, "LO", tokens.value("LO"))
        block.add_new(2, "UN", tokens.value("UN"))
        outer = Dataset()
        outer.CodeValue, outer.CodingSchemeDesignator, outer.CodeMeaning = "39937001", "SCT", "Skin"
        outer.AnatomicRegionSequence = [item]
        yield DataElement(tag, "SQ", Sequence([item, outer]))


def fill(ds: Dataset, tokens: Tokens) -> None:
    """Every attribute of the table and three kinds of private ones, in place."""
    for element in elements(tokens):
        ds.add(element)
    block = ds.private_block(0x0019, str(tokens.value("CS")), create=True)
    for offset, vr in enumerate(("LO", "PN", "UI", "UN", "DA", "LT")):
        block.add_new(offset, vr, tokens.value(vr))
    inner = Dataset()
    inner.PatientName = tokens.value("PN")
    block.add_new(0x20, "SQ", [inner])
    ds.add(DataElement(0x00080115, "ST", tokens.value("ST")))  # in the standard, not in the table
    ds.add(DataElement(0x0040A160, "UT", tokens.value("UT")))


def canary(photograph: Dataset, script: str = "", serial: int = 5) -> Tokens:
    """Fills a photograph at its top, and four levels deep in sequences whose other contents pass."""
    tokens = Tokens(script, serial)
    keep = {tag: photograph[tag] for tag in (0x00080016, 0x00080018)}
    fill(photograph, tokens)
    photograph[0x00080016] = keep[0x00080016]
    deep = Dataset()
    deep.CodeValue, deep.CodingSchemeDesignator, deep.CodeMeaning = "39937001", "SCT", "Skin"
    fill(deep, tokens)
    for keyword in (
        "AnatomicRegionModifierSequence",
        "AnatomicRegionSequence",
        "PurposeOfReferenceCodeSequence",
    ):
        outer = Dataset()
        outer.CodeValue, outer.CodingSchemeDesignator, outer.CodeMeaning = "39937001", "SCT", "Skin"
        setattr(outer, keyword, [deep])
        deep = outer
    reference = Dataset()
    reference.ReferencedSOPClassUID = photograph.SOPClassUID
    reference.ReferencedSOPInstanceUID = tokens.value("UI", 0x00081155)
    reference.PurposeOfReferenceCodeSequence = [deep]
    photograph.ReferencedImageSequence = [reference]
    meta = photograph.file_meta
    meta.SourceApplicationEntityTitle = str(tokens.value("AE"))
    meta.PrivateInformationCreatorUID = tokens.value("UI")
    meta.PrivateInformation = str(tokens.value("CS")).encode() + b"\0" * 2
    meta.MediaStorageSOPInstanceUID = photograph.SOPInstanceUID
    photograph.add(DataElement(0xFFFCFFFC, "OB", str(tokens.value("CS")).encode() + b"\0" * 2))
    return tokens
