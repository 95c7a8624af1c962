"""The statements in the object: true, complete, and checked."""

from collections.abc import Callable

import pytest
from photographs import photograph, skin
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from gateway import part10
from gateway.mark import CODES, PIXEL_BY_PIXEL_MASK, mark, markers, repeat, says_identifying
from gateway.profiles import Profile
from gateway.pseudonym import Pseudonyms
from gateway.scrub import scrub

SITE = Pseudonyms(bytes(32))
SHIFTED, PRINTED = Profile(), Profile(options=frozenset())


def marked(
    *, pixels: bool = True, features: bool = True, edited: bool = True, profile: Profile = SHIFTED
) -> Dataset:
    clean = scrub(photograph(skin()), profile, SITE)
    mark(clean, profile, pixels_clean=pixels, features_clean=features, edited=edited)
    return part10.read(part10.write(clean))


def stated(ds: Dataset) -> set[str]:
    return {item.CodeValue for item in ds.DeidentificationMethodCodeSequence}


def test_meanings_are_those_of_the_standard() -> None:
    known = {code.value: code.meaning for code in codes.cid7050.concepts.values()}
    assert {value: known[value] for value in CODES} == CODES
    assert codes.cid7203.PixelByPixelMask.value == PIXEL_BY_PIXEL_MASK[0]
    assert codes.cid7203.PixelByPixelMask.meaning == PIXEL_BY_PIXEL_MASK[1]


@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("edited", [True, False])
@pytest.mark.parametrize("profile", [SHIFTED, PRINTED])
def test_nothing_is_claimed_that_is_not_so(
    pixels: bool, features: bool, edited: bool, profile: Profile
) -> None:
    ds = marked(pixels=pixels, features=features, edited=edited, profile=profile)
    assert stated(ds) == {
        code
        for code, true in (
            ("113100", True), ("113101", pixels), ("113102", features), ("113107", profile.moves_dates),
        )
        if true
    }  # fmt: skip
    assert ds.PatientIdentityRemoved == ("YES" if features else "NO")  # it speaks of the pixels, too
    assert ds.get("BurnedInAnnotation") == ("NO" if pixels else None)
    assert ds.get("RecognizableVisualFeatures") == ("NO" if features else None)
    assert ds.ImageType[0] == ("DERIVED" if edited else "ORIGINAL")
    assert ("DerivationDescription" in ds) == edited
    assert markers(ds, profile, edited=edited) == []


def test_an_image_without_a_type_gets_one_when_edited() -> None:
    original = photograph(skin(), sop_class=SecondaryCaptureImageStorage)
    del original.ImageType
    clean = scrub(original, SHIFTED, SITE)
    mark(clean, SHIFTED, pixels_clean=True, features_clean=True, edited=True)
    assert list(clean.ImageType) == ["DERIVED", "PRIMARY"]


def test_what_an_earlier_de_identification_claimed_is_not_repeated() -> None:
    original = photograph(skin())
    mark(original, SHIFTED, pixels_clean=True, features_clean=True, edited=True)
    clean = scrub(original, PRINTED, SITE)
    mark(clean, PRINTED, pixels_clean=False, features_clean=False, edited=False)
    assert stated(clean) == {"113100"}
    assert "BurnedInAnnotation" not in clean
    assert "DerivationDescription" not in clean


def _set(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


def _drop(keyword: str) -> Callable[[Dataset], None]:
    return lambda ds: delattr(ds, keyword)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (_drop("PatientIdentityRemoved"), "(0012,0062)"),
        (_set("PatientIdentityRemoved", "NO"), "(0012,0062)"),
        (_drop("DeidentificationMethod"), "(0012,0063)"),
        (_drop("DeidentificationMethodCodeSequence"), "lacks 113100"),
        (_drop("BurnedInAnnotation"), "113101"),
        (_set("BurnedInAnnotation", "YES"), "113101"),
        (_drop("RecognizableVisualFeatures"), "113102"),
        (_set("RecognizableVisualFeatures", "YES"), "113102"),
        (_drop("LongitudinalTemporalInformationModified"), "(0028,0303)"),
        (_set("LongitudinalTemporalInformationModified", "REMOVED"), "(0028,0303)"),
        (lambda ds: ds.DeidentificationMethodCodeSequence.pop(), "other options"),
        (
            lambda ds: setattr(ds.DeidentificationMethodCodeSequence[-1], "CodeValue", "113106"),
            "other options",
        ),
        (_set("ImageType", ["ORIGINAL", "PRIMARY"]), "derivation"),
        (_drop("DerivationDescription"), "derivation"),
        (_drop("DerivationCodeSequence"), "derivation"),
        (_set("SOPInstanceUID", "1.2.3"), "pseudonym"),
        (lambda ds: setattr(ds.file_meta, "MediaStorageSOPInstanceUID", "2.25.7"), "another instance"),
        (lambda ds: setattr(ds.file_meta, "SourceApplicationEntityTitle", "PACS"), "file meta holds more"),
        (lambda ds: ds.private_block(0x11, "X", create=True).add_new(1, "LO", "x"), "private"),
        (lambda ds: ds.add_new(0x60003000, "OW", b"\0\0"), "overlay"),
        (_set("SourceImageSequence", []), "source"),
        (_set("IconImageSequence", []), "icon"),
    ],
)
def test_every_fault_is_named(break_it: Callable[[Dataset], None], says: str) -> None:
    ds = marked()
    break_it(ds)
    assert any(says in sentence for sentence in markers(ds, SHIFTED, edited=True))


def test_a_derivation_without_an_edit_is_a_fault() -> None:
    assert any("no pixel" in sentence for sentence in markers(marked(edited=True), SHIFTED, edited=False))


def test_remarks_become_values_of_the_method() -> None:
    clean = scrub(photograph(skin()), SHIFTED, SITE)
    mark(clean, SHIFTED, pixels_clean=True, features_clean=True, edited=True, remarks=["m" * 80])
    assert clean.DeidentificationMethod[-1] == "m" * 64


def test_what_the_sender_said_of_unseen_pixels_stands_and_is_not_claimed_here() -> None:
    original = photograph(skin())
    original.BurnedInAnnotation = "NO"
    clean = scrub(original, SHIFTED, SITE)
    mark(clean, SHIFTED, pixels_clean=False, features_clean=False, edited=False)
    repeat(clean, original)
    assert clean.BurnedInAnnotation == "NO"
    assert "RecognizableVisualFeatures" not in clean
    assert markers(part10.read(part10.write(clean)), SHIFTED, edited=False, seen=False) == []
    mark(clean, SHIFTED, pixels_clean=True, features_clean=False, edited=False)
    assert markers(clean, SHIFTED, edited=False, seen=False) != []


@pytest.mark.parametrize("keyword", ["BurnedInAnnotation", "RecognizableVisualFeatures"])
def test_an_object_that_says_its_pixels_identify_is_believed(keyword: str) -> None:
    original = photograph(skin())
    assert not says_identifying(original)
    setattr(original, keyword, "YES")
    assert says_identifying(original)
