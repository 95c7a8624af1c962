"""Calibration on a folder of people: by name or by folder, and what gives no face is told."""

import json

import numpy as np
import pytest
from PIL import Image

from inference.contract import Face
from inference.faces.figure import NothingToCalibrate, run


class Analyser:
    """Sees a face in every picture that is not black; who it is stands in the colour."""

    def find(self, image, *, thorough=False, doubtful=False):
        empty = np.zeros((5, 2), np.float32)
        return [Face(np.zeros(4, np.float32), empty, 0.9)] if image.any() else []

    def embed(self, image, landmarks):
        vector = image[0, 0].astype(np.float32) - 100
        return vector / np.linalg.norm(vector)


def picture(file, colour):
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(file)


def test_people_are_told_apart_by_name_or_by_folder(tmp_path):
    for number, colour in enumerate([(250, 100, 100), (250, 110, 100)]):
        picture(tmp_path / "people" / f"ann_{number}.png", colour)
        picture(tmp_path / "people" / "bob" / f"{number}.png", colour[::-1])
    picture(tmp_path / "people" / "cid_1.png", (0, 0, 0))
    found = run(tmp_path / "people", Analyser(), tmp_path / "out")
    assert (found.genuine.count, found.impostor.count, found.eer) == (2, 4, 0.0)
    report = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert report["without_face"] == ["cid_1.png"]
    assert report["persons"] == 2
    with Image.open(tmp_path / "out" / "det.png") as plot:
        assert plot.size[0] > 300


@pytest.mark.parametrize("names", [[], ["ann_1.png"], ["ann_1.png", "ann_2.png"], ["ann_1.png", "bob_1.png"]])
def test_a_folder_that_cannot_calibrate_is_one_clear_sentence(tmp_path, names):
    for name in names:
        picture(tmp_path / name, (250, 100, 100))
    with pytest.raises(NothingToCalibrate, match=str(tmp_path)):
        run(tmp_path, Analyser(), tmp_path / "out")
