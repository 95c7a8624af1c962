"""A judge looks once at each picture, and sees the same when it is asked again."""

from pathlib import Path

import numpy as np
import pytest
from evaluation import scene

from inference.contract import Face
from inference.evaluate.looks import Looks, Pack

POINTS = np.array([[80, 85], [120, 85], [100, 108], [88, 134], [112, 134]], np.float32)


class Analyser:
    """Finds one face in every picture that is not black, and counts how often it is asked."""

    def __init__(self, box: tuple[float, float, float, float] = (60, 40, 140, 170)) -> None:
        self.asked, self._box = 0, np.array(box, np.float32)

    def find(self, image: np.ndarray) -> list[Face]:
        self.asked += 1
        return [Face(self._box, POINTS, 0.9)] if image.any() else []

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        if not image.any():
            raise ValueError("nothing to see")
        return np.array([image.mean(), landmarks.mean()], np.float32)


def pack(analyser: Analyser, *, detector: str = "det") -> Pack:
    made = Pack.__new__(Pack)
    made.name, made.key, made.detector, made.analyser = "pack", "pack-1", detector, analyser  # type: ignore[assignment]
    return made


def test_a_kept_look_is_the_same_and_nobody_is_asked_again(tmp_path: Path) -> None:
    shown, analyser = scene(), Analyser()
    first = Looks(tmp_path).at(pack(analyser), shown, shown.image, POINTS + 1)
    again = Looks(tmp_path).at(pack(analyser), shown, shown.image, POINTS + 1)
    assert analyser.asked == 1
    for name in ("landmarks", "found", "placed"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.found, first.placed)
    Looks(tmp_path).at(pack(analyser), shown, shown.image[::-1].copy(), POINTS + 1)
    assert analyser.asked == 2, "another picture is looked at"
    without = Looks(tmp_path).at(pack(analyser), shown, shown.image)
    assert without.placed is None
    assert analyser.asked == 3


@pytest.mark.parametrize("kept", [True, False])
def test_nobody_found_is_kept_as_nobody(tmp_path: Path, kept: bool) -> None:
    shown, analyser = scene(), Analyser()
    looks = Looks(tmp_path if kept else None)
    for _ in range(2):
        look = looks.at(pack(analyser), shown, np.zeros_like(shown.image), POINTS)
        assert (look.landmarks, look.found, look.placed) == (None, None, None)
    assert analyser.asked == 1


def test_a_face_beside_the_labelled_one_is_another_persons() -> None:
    shown = scene()
    assert Looks().at(pack(Analyser((0, 0, 20, 20))), shown, shown.image).landmarks is None


def test_packs_that_share_a_detector_search_a_picture_once() -> None:
    shown, looks, analyser = scene(), Looks(), Analyser()
    for _ in range(2):
        looks.at(pack(analyser), shown, shown.image)
    assert analyser.asked == 1
    looks.at(pack(analyser, detector="other"), shown, shown.image)
    assert analyser.asked == 2


def test_a_kept_look_that_is_damaged_is_taken_again(tmp_path: Path) -> None:
    shown, analyser = scene(), Analyser()
    first = Looks(tmp_path).at(pack(analyser), shown, shown.image)
    (file,) = tmp_path.rglob("*.npz")
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b"NUMPY", b"NUMPX")):
        file.write_bytes(damaged)
        assert np.array_equal(Looks(tmp_path).at(pack(analyser), shown, shown.image).found, first.found)
        assert file.read_bytes() == whole
    assert analyser.asked == 4
