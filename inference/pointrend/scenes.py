"""What the segmenter is taught with: portraits with painted lesions, bare skin, and pictures of nothing.

Shape letters: H × W. Images are uint8 RGB; labels uint8 (H, W) index :data:`inference.contract.CLASSES`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import CLASSES, DISEASES, Image
from inference.phantom import paint, skin_patch
from inference.phantom.texture import fractal

Labels = NDArray[np.uint8]

SKIN, BROW, EYE, NOSE, MOUTH, LESION = range(1, 7)
FEATURES = {name: CLASSES.index(name) for name in ("brow", "eye", "nose", "mouth")}
"""Class index of each part of a face that has an outline of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and the class of each pixel.

    Attributes
    ----------
    image
        uint8 RGB (H, W, 3).
    labels
        uint8 (H, W), indices of :data:`inference.contract.CLASSES`.
    """

    image: Image
    labels: Labels


class MissingDataError(FileNotFoundError):
    """A folder of portraits is not what it should be; the message says what is missing."""


def names(root: Path) -> list[str]:
    """Names of all portraits under ``root`` (``images/<name>.jpg``, ``labels/<name>.png``), sorted.

    Raises
    ------
    MissingDataError
        No portrait there.
    """
    found = sorted(path.stem for path in (root / "images").glob("*.jpg"))
    if not found:
        raise MissingDataError(f"no portraits in {root.name}/images")
    return found


def load(root: Path, wanted: Collection[str]) -> list[Scene]:
    """Reads portraits with their label maps, in the order of ``wanted``.

    Raises
    ------
    MissingDataError
        A picture or its labels cannot be read.
    """
    scenes = []
    for name in wanted:
        bgr = cv2.imread(str(root / "images" / f"{name}.jpg"), cv2.IMREAD_COLOR)
        labels = cv2.imread(str(root / "labels" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        if bgr is None or labels is None or bgr.shape[:2] != labels.shape:
            raise MissingDataError(f"portrait {name} or its labels cannot be read")
        scenes.append(Scene(np.ascontiguousarray(bgr[..., ::-1]), labels.astype(np.uint8)))
    return scenes


def diseased(scene: Scene, disease: str, seed: int) -> Scene:
    """A portrait with one disease painted on its skin, the lesion labelled over whatever it covers."""
    rng = np.random.default_rng([seed, 1])
    allowed = [SKIN, NOSE] if rng.random() < 0.7 else [SKIN]
    if disease == "seborrheic dermatitis" or rng.random() < 0.15:
        allowed.append(BROW)
    painted = paint(
        scene.image,
        np.isin(scene.labels, allowed),
        disease,
        seed,
        regions={name: scene.labels == index for name, index in FEATURES.items()},
        severity=float(rng.uniform(0.1, 1.0)),
    )
    return Scene(painted.image, np.where(painted.lesion, np.uint8(LESION), scene.labels).astype(np.uint8))


def bare_skin(size: int, seed: int) -> Scene:
    """Skin without a face: nothing of it is to be hidden, so that all of it but a lesion is background."""
    rng = np.random.default_rng([seed, 2])
    image = skin_patch(size, float(rng.beta(1.2, 1.4)), seed)
    labels = np.zeros((size, size), np.uint8)
    if rng.random() < 0.8:
        disease = str(rng.choice(DISEASES))
        whole = np.ones((size, size), np.bool_)
        scale = size / 60.0 * float(rng.uniform(0.4, 1.4))
        painted = paint(image, whole, disease, seed, severity=float(rng.random()), pixels_per_mm=scale)
        image, labels = painted.image, painted.lesion.astype(np.uint8) * np.uint8(LESION)
    return Scene(image, labels)


def nothing(size: int, seed: int) -> Scene:
    """Cloth, hair, walls, blurred things: coloured noise at a random scale, stripes and edges."""
    rng = np.random.default_rng([seed, 3])
    wavelength = size * float(np.exp(rng.uniform(np.log(0.01), np.log(0.6))))
    field = fractal(rng, (size, size), wavelength, 4, float(rng.uniform(0.3, 0.9)))
    if rng.random() < 0.5:
        stretch = int(size * rng.uniform(0.05, 0.3)) | 1
        field = np.asarray(cv2.blur(field, (stretch, 1)) * 2, np.float32)
    if rng.random() < 0.4:
        ys, xs = np.mgrid[0:size, 0:size].astype(np.float32)
        turn = rng.uniform(0, np.pi)
        wave = np.sin((xs * np.cos(turn) + ys * np.sin(turn)) * rng.uniform(0.03, 0.8) + field)
        field = np.sign(wave) if rng.random() < 0.5 else wave
    one, two = rng.uniform(0, 255, (2, 3))
    mixed = one + (two - one) * np.clip(0.5 + 0.35 * field, 0, 1)[..., None]
    mixed += rng.uniform(0, 14) * rng.standard_normal((size, size, 1), dtype=np.float32)
    return Scene(np.clip(mixed, 0, 255).astype(np.uint8), np.zeros((size, size), np.uint8))
