"""Names and shapes of what travels between the gateway and a Triton server; both sides import it.

Shape letters: N pictures in a request, C classes, S square side, L length of a text. ``model_repository/`` declares
the same tensors.

============== =============== ======= ================ ==========================================
model          tensor          type    shape            meaning
============== =============== ======= ================ ==========================================
``pointrend``  ``images``      UINT8   (N, S, S, 3)     RGB
..             ``probabilities`` FP32  (N, C, S, S)     class probabilities in [0, 1]
``inpaint``    ``images``      UINT8   (N, S, S, 3)     RGB
..             ``hide``        UINT8   (N, S, S)        1 where the picture is replaced, else 0
..             ``prompts``     UINT8   (N, L)           UTF-8, zeros behind
..             ``seeds``       INT64   (N, 1)           seed of each picture
..             ``painted``     UINT8   (N, S, S, 3)     RGB
============== =============== ======= ================ ==========================================

A request's parameter ``bundle`` is the digest of the part that has to answer. Text travels as UINT8, because Triton's
BYTES do not reach a Python model whole under numpy 2.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

POINTREND = "pointrend"
INPAINT = "inpaint"
PARTS = {POINTREND: "segmenter", INPAINT: "inpainter"}
"""The part of a bundle that each model serves."""
LARGEST_REQUEST = 8
"""Pictures in one request; the server's ``max_batch_size`` is no smaller."""
BUNDLE = "bundle"
TEXT_BLOCK = 256
"""Texts are filled up to a multiple of this many bytes: only tensors of one shape share a batch."""


def pack(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Texts as UINT8 (N, L).

    Raises
    ------
    ValueError
        A text ends in a zero, which could not be told from filling.
    """
    encoded = [text.encode() for text in texts]
    if any(one.endswith(b"\0") for one in encoded):
        raise ValueError("a text for the model ends in a zero character")
    length = max((len(one) for one in encoded), default=0)
    width = TEXT_BLOCK * max(1, -(-length // TEXT_BLOCK))
    return np.stack([np.frombuffer(one.ljust(width, b"\0"), np.uint8) for one in encoded])


def unpack(rows: NDArray[np.uint8]) -> list[str]:
    """The texts of UINT8 (N, L).

    Raises
    ------
    ValueError
        A row is not UTF-8.
    """
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]
