"""Photographs of different patients that have one file name are different photographs to whoever judges."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation import drawn

from inference.contract import Face
from inference.data import manifest
from inference.data.manifest import Photograph
from inference.evaluate import identity
from inference.evaluate.looks import Pack
from inference.evaluate.scene import open_scene

POINTS = np.array([[80, 85], [120, 85], [100, 108], [88, 134], [112, 134]], np.float32)


class Analyser:
    """Finds a face at one place and knows each picture by its content: what a perfect recogniser would."""

    def find(self, image: np.ndarray) -> list[Face]:
        return [Face(np.array((60, 40, 140, 170), np.float32), POINTS, 0.9)]

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big")
        vector = np.random.default_rng(seed).normal(size=256).astype(np.float32)
        return vector / np.linalg.norm(vector)


def pack(folder: Path) -> Pack:
    made = Pack.__new__(Pack)
    made.name, made.key, made.detector, made.analyser = folder.name, "key", "det", Analyser()  # type: ignore[assignment]
    return made


def test_pictures_of_one_name_are_each_recognised_as_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for seed, name in enumerate(("a/front", "a/left", "b/front", "b/left")):
        image, labels = drawn(seed)
        picture, mask = tmp_path / f"{name}.png", tmp_path / f"{name}-mask.png"
        picture.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(picture), image)
        cv2.imwrite(str(mask), labels)
        rows.append(Photograph(picture, mask, "acne", picture.parent.name, "test"))
    manifest.write(tmp_path, rows)
    monkeypatch.setattr(identity, "Pack", pack)
    tested = manifest.read(tmp_path)
    metric = identity.Identity(identity.Judge(Path("judge"), tested))
    for row in tested:
        scene = open_scene(row)
        metric.update(scene, scene.image, 0.0)
    measured = metric.compute()
    assert measured.figures["unrecognised at 0.001"].value == 0
    assert measured.figures["rank-1"].value == 1
    assert measured.figures["cosine"].value == pytest.approx(1)
