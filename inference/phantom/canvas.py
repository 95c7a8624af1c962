"""What a look is painted on, and what it hands back.

Shape letters: H × W, the part of the picture that holds skin. Colours are CIELAB (L in [0, 100]).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.contract import Mask
from inference.phantom.anatomy import Frame
from inference.phantom.texture import Field


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """The skin to paint on.

    Attributes
    ----------
    lab
        float32 (H, W, 3): the skin's own colours.
    room
        float32 (H, W) in [0, 1]: 0 where no lesion may be, rising to 1 a little inside the skin's border.
    frame
        Where the face's parts are.
    darkness
        0 for fair skin, 1 for the darkest: erythema turns from red to violet-brown along it.
    """

    lab: NDArray[np.float32]
    room: Field
    frame: Frame
    darkness: float

    @property
    def shape(self) -> tuple[int, int]:
        """H and W."""
        return self.room.shape[0], self.room.shape[1]

    @property
    def mm(self) -> float:
        """Pixels per millimetre."""
        return self.frame.pixels_per_mm

    def erythema(self, strength: float) -> NDArray[np.float32]:
        """CIELAB offset (3,) of inflamed skin; on dark skin less red and more violet-brown."""
        d = self.darkness
        return np.array(
            [-(7.0 + 5.0 * d) * strength, (21.0 - 9.0 * d) * strength, (6.0 - 11.0 * d) * strength],
            np.float32,
        )


class Layer:
    """A lesion under construction: its cover of each pixel, and its colour against the skin's.

    Attributes
    ----------
    cover
        float32 (H, W) in [0, 1].
    shift
        float32 (H, W, 3): CIELAB offset where ``cover`` is 1.
    """

    __slots__ = ("cover", "shift")

    def __init__(self, shape: tuple[int, int]) -> None:
        self.cover: Field = np.zeros(shape, np.float32)
        self.shift: NDArray[np.float32] = np.zeros((*shape, 3), np.float32)

    def blend(self, at: tuple[slice, slice], amount: Field, shift: NDArray[np.float32]) -> None:
        """Lays a mark over a part: ``amount`` (h, w) of it, coloured ``shift`` (3,) or (h, w, 3)."""
        under = self.cover[at]
        over = np.clip(amount, 0.0, 1.0)
        total = over + under * (1.0 - over)
        share = (over / np.maximum(total, 1e-6))[..., None]
        self.shift[at] += share * (shift - self.shift[at])
        self.cover[at] = total


def everywhere() -> tuple[slice, slice]:
    """The window that is the whole layer."""
    return slice(None), slice(None)


def fade_from_border(skin: Mask, width_px: float) -> Field:
    """0 outside the skin, rising to 1 over ``width_px`` inside its border; float32 (H, W)."""
    # The border of the picture is no border of the skin: pad with the nearest pixels before measuring.
    padded = cv2.copyMakeBorder(skin.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    return np.asarray(np.clip(distance / np.float32(max(width_px, 1.0)), 0.0, 1.0), np.float32)
