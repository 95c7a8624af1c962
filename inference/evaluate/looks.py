"""What a face pack sees in a picture, looked at once and kept: a study is run again and again on the same pictures.

D is the length of an embedding.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from inference.bundle import digest
from inference.contract import Face, Floats, Image
from inference.evaluate.scene import Scene
from inference.faces.analyser import InsightFaceAnalyser


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """The face of a scene in one picture of it, where there is one.

    Attributes
    ----------
    landmarks
        Five points (5, 2) of the face found; None without one.
    found
        Embedding (D,) there; None without a face, or of one that the border cuts too far.
    placed
        Embedding (D,) at landmarks that were given; None without, or where nothing can be said of them.
    """

    landmarks: Floats | None
    found: Floats | None
    placed: Floats | None


class Looks:
    """Looks at pictures, each by each pack once; packs that share a detector search a picture once.

    Parameters
    ----------
    folder
        Where they are kept; in memory alone without one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._searched: dict[tuple[str, str], list[Face]] = {}

    def at(self, pack: "Pack", scene: Scene, image: Image, landmarks: Floats | None = None) -> Look:
        """The pack's look at ``image``, uint8 RGB (H, W, 3): a rendition of the scene, or its original."""
        what = hashlib.sha256(scene.digest.encode() + image.tobytes())
        if landmarks is not None:
            what.update(landmarks.tobytes())
        file = None if self._folder is None else self._folder / pack.key / f"{what.hexdigest()[:32]}.npz"
        if file is not None and file.is_file():
            # What cannot be read is looked at again.
            with (
                suppress(OSError, ValueError, EOFError, BadZipFile),
                file.open("rb") as stream,
                np.load(stream) as kept,
            ):
                return Look(*(kept.get(name) for name in ("landmarks", "found", "placed")))
        look = self._fresh(pack, scene, image, landmarks)
        if file is not None:
            _write(file, look)
        return look

    def _fresh(self, pack: "Pack", scene: Scene, image: Image, landmarks: Floats | None) -> Look:
        face = self._face(pack, scene, image)
        there = None if face is None else face.landmarks
        return Look(there, _embedded(pack, image, there), _embedded(pack, image, landmarks))

    def _face(self, pack: "Pack", scene: Scene, image: Image) -> Face | None:
        """The face whose middle lies on the labelled one, the surest; None where there is none."""
        key = (pack.detector, hashlib.sha256(image.tobytes()).hexdigest())
        if key not in self._searched:
            self._searched[key] = pack.analyser.find(image)
        height, width = scene.face.shape
        for face in self._searched[key]:
            x, y = (face.box[:2] + face.box[2:]) / 2
            if 0 <= x < width and 0 <= y < height and scene.face[int(y), int(x)]:
                return face
        return None


class Pack:
    """A folder of ONNX files as a judge.

    Raises
    ------
    inference.faces.analyser.PackUnusable
        The folder is no face pack.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.analyser = InsightFaceAnalyser(folder, threads=1)
        files = {file.name: digest(file) for file in sorted(folder.glob("*.onnx"))}
        self.key = f"{folder.name}-{hashlib.sha256(''.join(files.values()).encode()).hexdigest()[:16]}"
        # As the published packs call it; another is shared with nobody.
        self.detector = next((made for name, made in files.items() if name.startswith("det")), self.key)


def _embedded(pack: Pack, image: Image, landmarks: Floats | None) -> Floats | None:
    with suppress(ValueError):  # the border cuts the face, or there is nothing to see in a black picture
        return None if landmarks is None else pack.analyser.embed(image, landmarks)
    return None


def _write(file: Path, look: Look) -> None:
    named: dict[str, Any] = {"landmarks": look.landmarks, "found": look.found, "placed": look.placed}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.stem}-{os.getpid()}.part.npz")
    np.savez(part, **{name: value for name, value in named.items() if value is not None})
    part.replace(file)
