"""The pictures of the demonstration: one public-domain portrait seen in many ways, and skin without a face.

The portrait is NASA's official one of the astronaut Eileen Collins, which scikit-image carries in its wheel.
Lesions are painted by :mod:`inference.phantom`, so that every pixel of them is known. Shape letters: H × W.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from gateway.errors import Misconfigured
from inference.contract import Face, Floats, Image, Mask
from inference.phantom import paint, skin_patch
from inference.phantom.patch import FIELD_MM
from inference.regions import grow, landmark_features

LANDMARKS = np.array([[204, 102], [247, 103], [225, 127], [204, 141.5], [245, 142]], np.float32)
"""The portrait's five landmarks, in the order of :class:`inference.contract.Face`."""

HEAD = (226.0, 116.0)
"""Middle of her head; a window about it shows neither the patches on her suit nor what stands beside her."""
HEAD_PX = 214


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One picture, and what is known about it.

    Attributes
    ----------
    image
        uint8 RGB (H, W, 3).
    landmarks
        float32 (5, 2) of the face, or ``None`` where there is none.
    lesion
        bool (H, W): the pixels on which a disease was painted.
    """

    image: Image
    landmarks: Floats | None
    lesion: Mask


def whole() -> Scene:
    """The whole portrait, 512 × 512."""
    return Scene(_portrait(), LANDMARKS, np.zeros((512, 512), np.bool_))


def head(width: int = 560, height: int = 560, *, turn_deg: float = 0.0, wide_px: float = HEAD_PX) -> Scene:
    """Head and shoulders, turned clockwise, in a picture of this size.

    ``wide_px`` of the portrait fill the width; beyond the portrait its border repeats.
    """
    matrix = np.asarray(cv2.getRotationMatrix2D(HEAD, -turn_deg, width / wide_px), np.float64)
    matrix[:, 2] += (width / 2 - HEAD[0], height / 2 - HEAD[1])
    seen = cv2.warpAffine(
        _portrait(), matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    points = np.asarray(LANDMARKS @ matrix[:, :2].T + matrix[:, 2], np.float32)
    return Scene(np.asarray(seen, np.uint8), points, np.zeros((height, width), np.bool_))


def diseased(scene: Scene, disease: str, *, severity: float = 0.7, seed: int = 1) -> Scene:
    """The scene with a disease on the cheeks, forehead and chin, clear of eyes, nose and mouth."""
    features = _features(scene)
    skin = _skin(scene)
    for name in ("eye", "nose", "mouth"):
        skin &= ~features[name]
    return _painted(scene, skin, disease, severity, seed)


def overgrown(scene: Scene, coats: int = 4) -> Scene:
    """The scene with diseases over the whole face, its features included, coat upon coat."""
    skin = grow(_skin(scene), 0.1 * _span_px(scene))
    for coat in range(coats):
        for number, disease in enumerate(("rosacea", "atopic dermatitis", "psoriasis")):
            scene = _painted(scene, skin, disease, 1.0, 11 + 3 * coat + number)
    return scene


def over_the_eyes(scene: Scene, disease: str = "psoriasis", coats: int = 3) -> Scene:
    """The scene with a disease over both eyes."""
    eyes = _features(scene)["eye"]
    skin = grow(eyes, 0.15 * _span_px(scene))
    for coat in range(coats):
        scene = _painted(scene, skin, disease, 1.0, 21 + coat)
    return scene


def inscribed(scene: Scene, lines: tuple[str, ...]) -> Scene:
    """The scene with text burned into its lower left corner."""
    image = scene.image.copy()
    height = image.shape[0]
    for number, line in enumerate(reversed(lines)):
        foot = (height // 40, height - height // 40 - number * height // 14)
        cv2.putText(
            image, line, foot, cv2.FONT_HERSHEY_SIMPLEX, height / 620, (255, 255, 120), 2, cv2.LINE_AA
        )
    return replace(scene, image=image)


def bare_skin(disease: str, *, side: int = 640, tone: float = 0.2, seed: int = 3) -> Scene:
    """A lesion on skin without a face."""
    image = skin_patch(side, tone, seed)
    everywhere = np.ones((side, side), np.bool_)
    made = paint(image, everywhere, disease, seed, severity=0.7, pixels_per_mm=side / FIELD_MM)
    return Scene(made.image, None, made.lesion)


def _portrait() -> Image:
    """uint8 RGB (512, 512, 3), from the wheel of scikit-image; nothing is fetched."""
    try:
        from skimage import data
    except ImportError as error:
        raise Misconfigured("The demonstration needs scikit-image: install anoskin-gateway[demo].") from error
    return np.asarray(data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]


def _painted(scene: Scene, skin: Mask, disease: str, severity: float, seed: int) -> Scene:
    made = paint(scene.image, skin, disease, seed, regions=_features(scene), severity=severity)
    return replace(scene, image=made.image, lesion=scene.lesion | made.lesion)


def _features(scene: Scene) -> dict[str, Mask]:
    """Masks (H, W) of both eyes, both brows, nose and mouth, by kind."""
    assert scene.landmarks is not None
    box = np.concatenate([scene.landmarks.min(0), scene.landmarks.max(0)])
    kinds: dict[str, Mask] = {}
    for name, mask in landmark_features(Face(box, scene.landmarks, 1.0), 1.0, *scene.lesion.shape).items():
        kind = name.split()[-1]
        kinds[kind] = kinds[kind] | mask if kind in kinds else mask
    return kinds


def _span(scene: Scene) -> Floats:
    """The vector from the middle of the eyes to the middle of the mouth, (2,)."""
    assert scene.landmarks is not None
    return np.asarray(scene.landmarks[3:].mean(0) - scene.landmarks[:2].mean(0), np.float32)


def _span_px(scene: Scene) -> float:
    return float(np.hypot(*_span(scene)))


def _skin(scene: Scene) -> Mask:
    """The skin of her face, from below the fringe to the chin."""
    assert scene.landmarks is not None
    span, length = _span(scene), _span_px(scene)
    centre = scene.landmarks[:2].mean(0) + 0.72 * span
    canvas = np.zeros(scene.lesion.shape, np.uint8)
    angle = float(np.degrees(np.arctan2(-span[0], span[1])))
    box = (tuple(float(v) for v in centre), (2 * 0.98 * length, 2 * 1.22 * length), angle)
    cv2.ellipse(canvas, box, 255, -1)
    return np.asarray(canvas > 0)
