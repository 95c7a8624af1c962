"""The demonstration's own parts: what it sends, what it concludes, and what it refuses to overwrite."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    VLPhotographicImageStorage,
)
from pynetdicom import AE

from gateway import demo
from gateway.demo import judge, scenes, service, sheet
from gateway.demo.archive import AE_TITLE, Archive
from gateway.demo.cases import Case
from gateway.demo.judge import Finding, Shown, archive_is_exact, foreign_tokens, identical
from gateway.demo.photographs import patient, photograph
from gateway.errors import Misconfigured
from gateway.instance import State
from gateway.pseudonym import Pseudonyms

LOSSLESS = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
]


def picture(seed: int = 0, shape: tuple[int, ...] = (48, 64, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def file_of(ds: Dataset) -> bytes:
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def case(index: int = 0, expected: State = State.FORWARDED, lesion: np.ndarray | None = None) -> Case:
    ds = photograph(picture(), patient(index), VLPhotographicImageStorage, ExplicitVRLittleEndian)
    mask = np.zeros((1, 48, 64), np.bool_) if lesion is None else lesion
    return Case("a case", "hold", expected, None, patient(index), ds, mask)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
def test_a_photograph_reads_back_as_it_was_drawn(syntax: str) -> None:
    ds = photograph(picture(), patient(3), VLPhotographicImageStorage, syntax)
    again = dcmread(BytesIO(file_of(ds)))
    assert again.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(pixel_array(again, raw=False), picture())


def test_every_token_stands_in_the_file_that_is_sent() -> None:
    one = case(5)
    sent = file_of(one.dataset)
    assert [token for token in one.tokens if token.encode() not in sent] == []


def test_tokens_are_too_long_to_stand_in_pixels_by_chance() -> None:
    assert min(len(token) for index in range(40) for token in patient(index).tokens) >= 8


def test_a_camera_jpeg_carries_the_owner_beside_the_image() -> None:
    who = patient(1)
    ds = photograph(picture(), who, VLPhotographicImageStorage, JPEGBaseline8Bit)
    assert ds.PhotometricInterpretation == "YBR_FULL_422"
    assert ds.PixelData.count(who.family.encode()) == 2
    assert who.camera.encode() in ds.PixelData
    shown = pixel_array(dcmread(BytesIO(file_of(ds))), raw=False)
    assert shown.shape == (48, 64, 3)


def test_frames_stay_apart() -> None:
    frames = np.stack([picture(seed) for seed in range(3)])
    ds = photograph(
        frames, patient(2), MultiFrameTrueColorSecondaryCaptureImageStorage, ExplicitVRLittleEndian
    )
    assert np.array_equal(pixel_array(ds, raw=False), frames)


def test_patients_studies_and_instances_differ() -> None:
    made = [case(index) for index in range(30)]
    assert len({one.uid for one in made}) == len({one.dataset.StudyInstanceUID for one in made}) == 30
    assert len({token for one in made for token in (one.who.number, one.who.family)}) == 60


def test_a_lesion_is_painted_clear_of_eyes_nose_and_mouth() -> None:
    scene = scenes.diseased(scenes.head(280, 280), "rosacea")
    features = scenes._features(scene)
    assert scene.lesion.sum() > 200
    assert not any((scene.lesion & features[name]).any() for name in ("eye", "nose", "mouth"))


def test_a_turned_face_carries_its_landmarks_along() -> None:
    upright, turned = scenes.head(280, 280), scenes.head(280, 280, turn_deg=90)
    assert upright.landmarks is not None
    assert turned.landmarks is not None
    down = turned.landmarks[3:].mean(0) - turned.landmarks[:2].mean(0)
    assert down[0] < -5 * abs(down[1]), "clockwise: the chin points to the left"
    same = np.abs(np.rot90(turned.image).astype(int) - upright.image)[80:200, 80:200]
    assert np.median(same) < 12


def test_skin_without_a_face_is_unchanged_outside_its_lesion() -> None:
    scene = scenes.bare_skin("acne", side=160)
    bare = scenes.skin_patch(160, 0.2, 3)
    assert np.array_equal(scene.image[~scene.lesion], bare[~scene.lesion])
    assert scene.lesion.any()


def test_pixels_may_change_where_they_are_hidden_and_nowhere_else() -> None:
    before = picture()[None]
    hide = np.zeros((1, 48, 64), np.bool_)
    hide[0, 10:30, 10:40] = True
    keep = np.zeros_like(hide)
    keep[0, 15:20, 15:20] = True
    hide &= ~keep
    after = before.copy()
    after[hide] ^= 255
    assert identical(before, after, hide, keep)
    assert not identical(before, after, hide, keep, untouched=True)
    assert not identical(before, after[:, 1:], hide, keep)
    for y, x in ((0, 0), (17, 17)):
        worse = after.copy()
        worse[0, y, x, 1] ^= 1
        assert not identical(before, worse, hide, keep)


@pytest.mark.parametrize("form", ["utf-8", "utf-16-le"])
def test_a_token_is_found_in_any_letter_case_and_encoding(form: str, tmp_path: Path) -> None:
    one = case(4)
    (tmp_path / "clean.dcm").write_bytes(b"\0" * 200 + b"nobody")
    assert foreign_tokens([one], tmp_path) == 0
    (tmp_path / "leak.dcm").write_bytes(b"\1" * 101 + one.who.family.upper().encode(form) + b"\1")
    assert foreign_tokens([one], tmp_path) == 1


def test_an_archive_with_too_little_too_much_or_twice_is_not_exact(tmp_path: Path) -> None:
    pseudonyms = Pseudonyms(b"k" * 32)
    wanted, held = case(1), case(2, State.HELD)
    archive = Archive(tmp_path)
    assert not archive_is_exact([wanted, held], pseudonyms, archive)
    uid = pseudonyms.uid(wanted.uid)
    archive.received[uid] += 1
    archive.file(uid).touch()
    assert archive_is_exact([wanted, held], pseudonyms, archive)
    archive.received[uid] += 1
    assert not archive_is_exact([wanted, held], pseudonyms, archive)
    archive.received[uid] -= 1
    archive.file(pseudonyms.uid(held.uid)).touch()
    assert not archive_is_exact([wanted, held], pseudonyms, archive)


def test_the_archive_writes_what_it_receives_and_counts_repeats(tmp_path: Path) -> None:
    ds = case(7).dataset
    with Archive(tmp_path / "archive") as archive:
        sender = AE("TEST")
        sender.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
        association = sender.associate("127.0.0.1", archive.port, ae_title=AE_TITLE)
        assert association.is_established
        assert [int(association.send_c_store(ds).Status) for _ in range(2)] == [0, 0]
        association.release()
    uid = str(ds.SOPInstanceUID)
    assert archive.received == {uid: 2}
    assert np.array_equal(pixel_array(dcmread(archive.file(uid)), raw=False), picture())


class Blind:
    """In the place of the models: nothing to hide."""

    def masks(self, frames: np.ndarray, _case: Case, _attempts: int) -> tuple[np.ndarray, np.ndarray]:
        nothing = np.zeros(frames.shape[:3], np.bool_)
        return nothing, nothing


def test_a_case_without_a_row_in_the_ledger_did_not_end_as_it_must(tmp_path: Path) -> None:
    for expected in (State.FORWARDED, State.HELD):
        found = judge.judge(case(1, expected), None, None, tmp_path / "none.dcm", Blind())  # type: ignore[arg-type]
        assert not found.as_expected
        assert found.report()["state"] is None
        assert found.report()["kept_pixels_identical"] is None


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(Misconfigured, match="empty"):
        demo._prepare(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_results_of_an_earlier_demonstration_make_room(tmp_path: Path) -> None:
    out = tmp_path / "out"
    demo._prepare(out)
    (out / "archive").mkdir()
    (out / "archive" / "old.dcm").touch()
    (out / "report.json").touch()
    assert demo._prepare(out) == out / "work"
    assert not (out / "archive").exists()
    assert not (out / "report.json").exists()


def test_a_missing_bundle_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANOSKIN_MODELS_BUNDLE", str(tmp_path))
    with pytest.raises(Misconfigured, match="needs the nano model bundle"):
        demo.run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_operators_environment_does_not_redirect_the_demonstration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bundle.toml").touch()
    monkeypatch.setenv("ANOSKIN_MODELS_BUNDLE", str(tmp_path))
    monkeypatch.setenv("ANOSKIN_ARCHIVE_PORT", "1")
    monkeypatch.setenv("ANOSKIN_LEDGER_FOLDER", "/somewhere/else")
    conf = service.configure(tmp_path / "gateway.toml", "keep", 4711)
    assert conf.archive.port == 4711
    assert conf.ledger.folder == tmp_path / "state"
    assert conf.pixels.lesion_over_features == "keep"
    assert conf.models.bundle == tmp_path


def finding(*, forwarded: bool) -> Finding:
    before = picture(1, (1, 90, 120, 3))
    hide = np.zeros((1, 90, 120), np.bool_)
    hide[0, 20:60, 30:70] = True
    shown = Shown(before, before if forwarded else None, hide, np.zeros_like(hide))
    state = State.FORWARDED if forwarded else State.HELD
    return Finding("c", state, state, None if forwarded else "text", 0.1, forwarded, 0.9, 1.0, True, shown)


def test_the_sheet_is_about_as_wide_as_a_screen(tmp_path: Path) -> None:
    sheet.write_sheet([finding(forwarded=index % 5 != 0) for index in range(20)], tmp_path / "sheet.png")
    with Pictures.open(tmp_path / "sheet.png") as image:
        assert image.width >= 1500
        assert 1.5 < image.width / image.height < 2.1
