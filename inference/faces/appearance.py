"""What happens to a picture between the skin and the archive: light, lens, compression, lesions, bars.

Pictures are uint8 RGB (H, W, 3); every function returns a new picture and draws only from the generator
given.
"""

import cv2
import numpy as np

from inference.contract import Floats, Image


def _uint8(values: Floats) -> Image:
    return np.clip(values, 0, 255).astype(np.uint8)


def light(rng: np.random.Generator, image: Image) -> Image:
    """Another brightness, contrast, gamma, white balance and saturation; sometimes grey."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)
    gamma = np.exp(rng.normal(0, 0.25))
    gain = rng.uniform(0.7, 1.25) * rng.uniform(0.88, 1.12, 3)
    offset = rng.normal(0, 12) + rng.normal(0, 5, 3)
    table = (ramp[:, None] ** gamma) * gain[None] * 255 + offset[None]
    table = (table - 110) * rng.uniform(0.75, 1.2) + 110
    out = np.asarray(cv2.LUT(image, _uint8(table.astype(np.float32))[None]), np.uint8)
    saturation = 0.0 if rng.random() < 0.05 else rng.uniform(0.6, 1.35)
    grey = cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[:, :, None].repeat(3, axis=2)
    return np.asarray(cv2.addWeighted(out, saturation, grey, 1 - saturation, 0), np.uint8)


def shade(rng: np.random.Generator, image: Image) -> Image:
    """A light that falls off across the picture."""
    height, width = image.shape[:2]
    low = rng.uniform(0.45, 1.35, (2, 2)).astype(np.float32)
    field = cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR)
    return _uint8(image.astype(np.float32) * field[:, :, None])


def lens(rng: np.random.Generator, image: Image) -> Image:
    """Blur, loss of resolution, noise, or JPEG blocks; often none of them."""
    height, width = image.shape[:2]
    out = image
    draw = rng.random()
    if draw < 0.15:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 2.2)), np.uint8)
    elif draw < 0.3:
        factor = rng.uniform(0.3, 0.9)
        small = cv2.resize(
            out, (max(8, int(width * factor)), max(8, int(height * factor))), interpolation=cv2.INTER_AREA
        )
        out = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < 0.25:
        noise = rng.normal(0, rng.uniform(1, 10), (height, width, 1)).astype(np.float32)
        out = _uint8(out.astype(np.float32) + noise)
    if rng.random() < 0.3:
        done, code = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 95))])
        if done:
            out = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    return out


def lesions(rng: np.random.Generator, image: Image, box: Floats) -> Image:
    """Reddish, whitish or dark patches painted over a face; the face stays one."""
    out = image.astype(np.float32)
    side = float(max(box[2] - box[0], box[3] - box[1]))
    red = np.array([rng.uniform(120, 225), rng.uniform(40, 130), rng.uniform(40, 120)], np.float32)
    for _ in range(int(rng.integers(1, 8))):
        centre = box[:2] + rng.uniform(0, 1, 2) * (box[2:] - box[:2])
        axes = np.maximum(1, side * rng.uniform(0.02, 0.22, 2)).astype(int)
        stencil: Floats = np.zeros(image.shape[:2], np.float32)
        where = (int(centre[0]), int(centre[1]))
        cv2.ellipse(stencil, where, (int(axes[0]), int(axes[1])), rng.uniform(0, 180), 0, 360, 1.0, -1)
        soft = cv2.GaussianBlur(stencil, (0, 0), max(0.5, side * rng.uniform(0.005, 0.03)))
        weight = (soft * rng.uniform(0.2, 0.75))[:, :, None]
        colour = red if rng.random() < 0.8 else rng.uniform(60, 240, 3).astype(np.float32)
        out = out * (1 - weight) + colour * weight
    return _uint8(out)


def eye_bar(rng: np.random.Generator, image: Image, landmarks: Floats) -> Image:
    """The black bar that archives draw over eyes, here also in other plain colours."""
    right, left = landmarks[0], landmarks[1]
    across = left - right
    apart = float(np.hypot(across[0], across[1]))
    middle = (right + left) / 2
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    size = (apart * rng.uniform(1.5, 2.4), apart * rng.uniform(0.3, 0.7))
    corners = cv2.boxPoints(((float(middle[0]), float(middle[1])), size, angle))
    shade_of = int(rng.integers(0, 256)) if rng.random() < 0.3 else int(rng.integers(0, 25))
    out = image.copy()
    cv2.fillConvexPoly(out, corners.astype(np.int32), (shade_of, shade_of, shade_of))
    return out


def patch(rng: np.random.Generator, image: Image, box: Floats) -> Image:
    """Something in front of a part of the face: a hand, a ruler, a cloth of one colour."""
    side = float(max(box[2] - box[0], box[3] - box[1]))
    centre = box[:2] + rng.uniform(0, 1, 2) * (box[2:] - box[:2])
    size = side * rng.uniform(0.1, 0.45, 2)
    corners = cv2.boxPoints(
        ((float(centre[0]), float(centre[1])), (float(size[0]), float(size[1])), rng.uniform(0, 90))
    )
    colour = tuple(int(each) for each in rng.integers(0, 256, 3))
    out = image.copy()
    cv2.fillConvexPoly(out, corners.astype(np.int32), colour)
    return out
