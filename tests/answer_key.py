"""Invented patients with their photographs, what must become of each attribute, and a judge who compares.

The key is written from the patients, before anything is treated, in the ten actions of the MIDI-B challenge: what has
to be retained, removed, shifted, changed, and to stay consistent over all files. ``photographed`` makes the objects and
their key, ``judge`` takes what became of them.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from photographs import Patient, encoded, photograph, skin
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    DermoscopicPhotographyImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
    generate_uid,
)

from gateway import frames, part10
from gateway.burnin import Lettering, TextFinder
from gateway.deidentify import Deidentifier
from gateway.errors import Held
from gateway.profiles import Profile
from gateway.pseudonym import Pseudonyms
from gateway.redact import Redactor
from inference.anonymize import MaskOptions
from inference.contract import CLASSES, Face, Models

ACTIONS = (
    "tag_retained", "text_notnull", "text_retained", "text_removed", "date_shifted", "uid_changed", "uid_consistent",
    "patid_consistent", "pixels_hidden", "pixels_retained",
)  # fmt: skip
PEOPLE = (
    ("ISO_IR 192", "Zweifelsfrei^Adelheid^Maria", "Knochenhauer^Balduin"),
    ("ISO_IR 100", "Sjöström^Åsa", "Ødegård^Bjørn"),
    ("ISO_IR 144", "Преображенский^Филипп", "Борменталь^Иван"),
    ("ISO_IR 192", "山田^太郎", "鈴木^花子"),
    ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동", "Kim^Yuna"),
    ("ISO_IR 127", "قباني^لنزار", "محفوظ^نجيب"),
    ("ISO_IR 192", "O'Shaughnessy^Siobhán", "Le Guin^Ursula"),
    ("ISO_IR 6", "Brown^Hand", "Whitlock^Joan"),
)
"""Character set, patient, physician; every patient has a number behind the family name, to be one person."""

REGIONS = (
    ("left forearm", "Forearm", "14975008"),
    ("right cheek", "Cheek", "60819002"),
    ("scalp", "Scalp", "41695006"),
)
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless)
KINDS = (VLPhotographicImageStorage, DermoscopicPhotographyImageStorage, SecondaryCaptureImageStorage)
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the answer key.

    Attributes
    ----------
    action
        One of :data:`ACTIONS`.
    file
        Number of the object.
    where
        Keyword; empty for all texts of the object.
    value
        What has to be there, or may not be: a text, an original UID or Patient ID, a digest.
    patient
        Number of the patient.
    """

    action: str
    file: int
    where: str
    value: str = ""
    patient: int = 0


def photographed(patients: int, studies: int = 2, each: int = 2) -> tuple[list[Dataset], list[Check]]:
    """Objects of so many patients, and their answer key."""
    objects: list[Dataset] = []
    key: list[Check] = []
    for number in range(patients):
        first = date(2019, 3, 1) + timedelta(days=37 * number)
        for visit in range(studies):
            study, series = generate_uid(), generate_uid()
            earlier = ""
            for shot in range(each):
                ds = _object(number, first + timedelta(days=30 * visit), shot)
                ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
                if earlier:
                    reference = Dataset()
                    reference.ReferencedSOPClassUID = ds.SOPClassUID
                    reference.ReferencedSOPInstanceUID = earlier
                    ds.ReferencedImageSequence = [reference]
                earlier = ds.SOPInstanceUID
                ds = encoded(ds, SYNTAXES[(number + shot) % len(SYNTAXES)])
                key += _key(ds, len(objects), number)
                objects.append(ds)
    return objects, key


def who(number: int) -> tuple[str, Patient]:
    """The character set and the person of this number."""
    character_set, name, physician = PEOPLE[number % len(PEOPLE)]
    family, _, rest = name.partition("^")
    turn = number // len(PEOPLE)
    suffix = f"{chr(97 + turn // 26)}{chr(97 + turn % 26)}" if family.isascii() else ""
    return character_set, Patient(
        name=f"{family}{suffix}^{rest}",
        number=f"MRN{73110 + 7 * number}",
        birth_date=f"{date(1931, 1, 17) + timedelta(days=401 * number):%Y%m%d}",
        accession=f"A{55102 + 11 * number}",
        physician=physician,
        hospital=f"Klinikum Oberammerthal {number}",
    )


def _object(number: int, day: date, shot: int) -> Dataset:
    character_set, patient = who(number)
    words, meaning, code = REGIONS[(number + shot) % len(REGIONS)]
    ds = photograph(skin(24, 32, seed=number), patient=patient, sop_class=KINDS[(number + shot) % len(KINDS)])
    ds.SpecificCharacterSet = character_set.split("\\")
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = f"{day:%Y%m%d}"
    ds.AcquisitionDateTime = f"{day:%Y%m%d}101530.250000+0100"
    ds.IssuerOfPatientID = "HOSPITAL"
    ds.StudyID = f"{number}7{shot}"
    family = patient.name.split("^")[0]
    given = patient.name.split("=")[0].split("^")[1]
    ds.StudyDescription = f"Follow-up {words}, {family} {given}"
    ds.SeriesDescription = (
        f"{words}, {patient.number}",
        f"{given} {family} {words}",
        f"{words} {day.day}.{day.month}.{day.year}",
        f"{words} ({family.upper()})",
        f"{words} {day:%d %b %Y} {patient.accession}",
    )[(number + shot) % 5]
    ds.ProtocolName = f"Photo {words}" if shot % 2 else f"Dr {patient.physician.split('^')[0]} 3"
    ds.ImageComments = f"{given} called, tel 030 555 {number:04d}"
    ds.PatientComments = f"{family}, {patient.number}"
    ds.PatientAge, ds.PatientSex, ds.BodyPartExamined = "071Y", "MF"[number % 2], meaning.upper()
    ds.Manufacturer, ds.ManufacturerModelName = "Camera Works", "D 500"
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = code, "SCT", meaning
    ds.AnatomicRegionSequence = [region]
    return ds


def _key(ds: Dataset, file: int, patient: int) -> Iterator[Check]:
    _, who_is = who(patient)
    words = str(ds.AnatomicRegionSequence[0].CodeMeaning).casefold()
    for keyword in ("Modality", "Rows", "Columns", "PhotometricInterpretation", "PatientSex", "PatientAge",
                    "SeriesDescription", "AnatomicRegionSequence", "BodyPartExamined"):  # fmt: skip
        yield Check("tag_retained", file, keyword)
    for keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyID", "StudyDate", *UIDS[:3]):
        yield Check("text_notnull", file, keyword)
    yield Check("text_retained", file, "SeriesDescription", words)
    yield Check("text_retained", file, "StudyDescription", f"follow-up {_before(ds.StudyDescription)}")
    for keyword in ("Manufacturer", "ManufacturerModelName", "BodyPartExamined", "PatientSex", "PatientAge"):
        yield Check("text_retained", file, keyword, str(ds[keyword].value))
    names = {*who_is.name.replace("=", "^").split("^"), *who_is.physician.split("^")}
    day = date.fromisoformat(ds.StudyDate)
    dates = (f"{day.day}.{day.month}.{day.year}", f"{day:%d %b %Y}", f"{day:%Y%m%d}", who_is.birth_date)
    # A word that names a region of the body is looked for where it can only be the name.
    names -= {"Hand"}
    for value in (
        *sorted(names),
        who_is.number,
        who_is.accession,
        who_is.hospital,
        who_is.address,
        "555",
        *dates,
    ):
        if len(value) > 1:
            yield Check("text_removed", file, "", value)
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime"):
        yield Check("date_shifted", file, keyword, str(ds[keyword].value), patient)
    for keyword in UIDS:
        yield Check("uid_changed", file, keyword, str(ds[keyword].value))
        yield Check("uid_consistent", file, keyword, str(ds[keyword].value))
    if "ReferencedImageSequence" in ds:
        original = str(ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID)
        yield Check("uid_consistent", file, "ReferencedSOPInstanceUID", original)
    yield Check("patid_consistent", file, "PatientID", str(ds.PatientID), patient)
    yield Check(
        "pixels_retained", file, "PixelData", hashlib.md5(ds.PixelData, usedforsecurity=False).hexdigest()
    )


def _before(description: str) -> str:
    return description.removeprefix("Follow-up ").split(",")[0]


def judge(
    key: Sequence[Check], results: Mapping[int, Dataset], legible: Mapping[int, int] | None = None
) -> tuple[Counter[str], list[Check]]:
    """How many checks of each action were made, and those that were not passed.

    Parameters
    ----------
    key
        From `photographed`.
    results
        What became of each object; a missing one fails each of its checks.
    legible
        Lines of text that can be read in the pixels of an object, for ``pixels_hidden``; an object that did not leave
        shows none.
    """
    made: Counter[str] = Counter()
    failed: list[Check] = []
    shifts: dict[int, set[int]] = defaultdict(set)
    replaced: dict[str, set[str]] = defaultdict(set)
    texts = {file: "\n".join(_texts(ds)).casefold() for file, ds in results.items()}
    for check in key:
        made[check.action] += 1
        if check.action == "pixels_hidden":
            passed = (legible or {}).get(check.file) == 0
        else:
            ds = results.get(check.file)
            passed = ds is not None and _passed(check, ds, texts[check.file], shifts, replaced)
        if not passed:
            failed.append(check)
    one_to_one = Counter(next(iter(new)) for new in replaced.values() if len(new) == 1)
    for check in key:
        if check.action == "date_shifted" and len(shifts[check.patient]) > 1:
            failed.append(check)
        if check.action in {"uid_consistent", "patid_consistent"}:
            new = replaced[check.value]
            if len(new) != 1 or one_to_one[next(iter(new))] != 1:
                failed.append(check)
    return made, failed


def _passed(
    check: Check, ds: Dataset, texts: str, shifts: dict[int, set[int]], replaced: dict[str, set[str]]
) -> bool:
    if check.where == "ReferencedSOPInstanceUID":
        found = str(ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID)
    else:
        element = ds.get(check.where) if check.where else None
        found = "" if element is None else str(element)
    match check.action:
        case "tag_retained":
            return check.where in ds and bool(ds[check.where].value)
        case "text_notnull":
            return bool(found)
        case "text_retained":
            return check.value.casefold() in found.casefold()
        case "text_removed":
            return check.value.casefold() not in texts
        case "date_shifted":
            moved = (date.fromisoformat(found[:8]) - date.fromisoformat(check.value[:8])).days if found else 0
            shifts[check.patient].add(moved)
            return moved != 0 and found[8:] == check.value[8:]
        case "uid_changed":
            return bool(found) and found != check.value
        case "uid_consistent" | "patid_consistent":
            replaced[check.value].add(found)
            return bool(found)
        case "pixels_retained":
            return hashlib.md5(ds.PixelData, usedforsecurity=False).hexdigest() == check.value
    raise ValueError(check.action)


def _texts(ds: Dataset) -> Iterator[str]:
    for element in (*ds.file_meta, *ds.iterall()):
        if element.VR not in {"SQ", "OB", "OW", "UI", "DA", "TM", "DT"} and Tag(element.tag) != 0x00120063:
            yield str(element.value)


def labelled(number: int, file: int) -> tuple[Dataset, Check]:
    """A photograph with its patient's name and number burned in, and its line of the key."""
    from PIL import Image, ImageDraw, ImageFont

    _, patient = who(8 * number)  # those whose names are written in Latin letters
    image = Image.fromarray(np.tile(skin(96, 128, seed=number), (3, 4, 1)))
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 8, image.width - 8, 60), fill="white")
    words = f"{patient.name.split('^')[0]} {patient.number}"
    draw.text((16, 14), words, fill="black", font=ImageFont.load_default(32))
    return photograph(np.asarray(image), patient=patient), Check("pixels_hidden", file, "PixelData", words)


class _Nobody:
    """Models that see nobody; for pictures in which nobody is."""

    classes = CLASSES
    size_px = 64

    def segment(self, images: np.ndarray) -> np.ndarray:
        answer = np.zeros((len(images), len(CLASSES), 64, 64), np.float32)
        answer[:, 0] = 1
        return answer

    def inpaint(self, images: np.ndarray, *_: object) -> np.ndarray:
        return images

    def find(self, _image: np.ndarray, *, thorough: bool = False, doubtful: bool = False) -> list[Face]:
        return []

    def embed(self, _image: np.ndarray, _landmarks: np.ndarray) -> np.ndarray:
        raise AssertionError("there is nobody to compare")


def without_people(profile: Profile, pseudonyms: Pseudonyms) -> Deidentifier:
    """The whole treatment of pixels, with models that see nobody."""
    roles = dict.fromkeys(CLASSES, "identity") | {"background": "context", "lesion": "lesion"}
    nobody = _Nobody()
    models = Models("nobody", True, nobody, nobody, nobody, roles, ("eye",), 0.5, {"": "nobody"})
    redactor = Redactor(models, MaskOptions(), attempts=1)
    return Deidentifier(
        profile=profile,
        pseudonyms=pseudonyms,
        redactor=redactor,
        texts=Lettering(TextFinder(), paint=False),
        prompt="",
        syntaxes=frames.LOSSLESS,
    )


def legible_after(treat: Deidentifier, file: Path, finder: TextFinder) -> int:
    """Lines of text that can be read in what left; none where nothing left."""
    try:
        cleared = treat(file, ())
    except Held:
        return 0
    return sum(len(finder.find(image)) for image in frames.decode(part10.read(cleared.file)).rgb)
