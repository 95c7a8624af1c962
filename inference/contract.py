"""What crosses the border to the models: arrays in, arrays out.

Shape letters: N batch, C classes, H × W native size, S the model's own square size, D embedding length.
Images are uint8 RGB in [0, 255]; masks are bool; geometry is in pixels, x before y, origin at the upper left corner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

CLASSES = ("background", "skin", "brow", "eye", "nose", "mouth", "lesion")
"""Classes of the nano bundle's segmenter, in the order of its channels."""

DISEASES = ("psoriasis", "atopic dermatitis", "acne", "rosacea", "seborrheic dermatitis")

CLEARLY_OTHERS = 0.1
"""Margin of a verifier of which nothing else is said."""


class Unavailable(Exception):
    """A model could not answer now (server away, deadline passed); the same call may succeed later."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face a detector found.

    Attributes
    ----------
    box
        float32 (4,): x0, y0, x1, y1 in pixels of the image searched.
    landmarks
        float32 (5, 2): the eyes (subject's right first), nose tip, mouth corners (subject's right first), x and y.
    score
        Detector's confidence in [0, 1].
    """

    box: Floats
    landmarks: Floats
    score: float


class Segmenter(Protocol):
    """Names each pixel's class."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in channel order."""

    @property
    def size_px(self) -> int:
        """S, the side of the square input."""

    def segment(self, images: Image) -> Floats:
        """Class probabilities in [0, 1], float32 (N, C, S, S), of uint8 RGB (N, S, S, 3).

        Raises
        ------
        Unavailable
            The model cannot answer now.
        """


class Inpainter(Protocol):
    """Paints new content where the mask says so, never having seen what was there."""

    @property
    def size_px(self) -> int:
        """S, the side of the square input and output."""

    def inpaint(self, images: Image, hide: Mask, prompts: Sequence[str], seeds: Sequence[int]) -> Image:
        """Painted uint8 RGB (N, S, S, 3) of images (N, S, S, 3), True in ``hide`` (N, S, S) being replaced.

        The same inputs and seeds give the same output; pixels under ``hide`` have no influence on it.

        Raises
        ------
        Unavailable
            The model cannot answer now.
        """


class FaceAnalyser(Protocol):
    """Finds faces and tells persons apart."""

    def find(self, image: Image, *, thorough: bool = False, doubtful: bool = False) -> list[Face]:
        """Faces in one uint8 RGB (H, W, 3) image, best first; an empty list when there is none.

        ``thorough`` searches turned pictures too: the evidence that there is no face. ``doubtful`` adds what is less
        sure than a face has to be: the evidence that nobody else is there.
        """

    def embed(self, image: Image, landmarks: Floats) -> Floats:
        """Unit-length float32 (D,) identity of the face whose five landmarks (5, 2) are given.

        Raises
        ------
        ValueError
            The landmarks lie too far outside the picture, or nothing comparable came out.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Verifier:
    """Who says whether two faces are one person.

    Attributes
    ----------
    analyser
        Gives the embeddings.
    limit
        Cosine in [-1, 1] from which on two faces count as one person.
    margin
        How far below the limit a cosine has to lie for two persons to be clearly others; 0 or more.
    """

    analyser: FaceAnalyser
    limit: float
    margin: float = CLEARLY_OTHERS


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """The models of one bundle, ready to answer, and what the bundle says about using them.

    Attributes
    ----------
    name
        Name and version of the bundle, for markers and reports.
    demonstration
        The bundle is for trying and testing; production refuses it unless told otherwise.
    roles
        Role of each of the segmenter's classes: ``"identity"``, ``"lesion"`` or ``"context"``.
    features
        The identity classes that show a feature (eye, brow, nose, mouth); the others are skin.
    similarity_limit
        Cosine in [-1, 1] from which on two embeddings count as the same person.
    prompts
        Prompt per disease, ``""`` for when none is known, and perhaps ``"template"`` for other diseases.
    second
        Another, independent verifier; the strictest decides.
    objection
        Why the bundle may not treat photographs (:mod:`inference.signoff`); empty where nothing is said against it.
    similarity_margin
        How far below the limit two persons are clearly others: what is aimed at while seeds are left.
    """

    name: str
    demonstration: bool
    segmenter: Segmenter
    inpainter: Inpainter
    faces: FaceAnalyser
    roles: Mapping[str, str]
    features: tuple[str, ...]
    similarity_limit: float
    prompts: Mapping[str, str]
    second: Verifier | None = None
    objection: str = ""
    similarity_margin: float = CLEARLY_OTHERS

    def words(self, disease: str = "", text: str = "") -> str:
        """What the painter is told: ``text`` where there is some, else the bundle's prompt of the disease.

        In ``text`` and in the bundle's template ``{disease}`` stands for the disease. A disease that the bundle has no
        words for, and no template, gets the default; names are compared without regard to case.
        """
        by_name = {name.casefold(): prompt for name, prompt in self.prompts.items() if name != "template"}
        own = by_name.get(disease.casefold())
        chosen = text or own or self.prompts.get("template", "") or self.prompts[""]
        return " ".join(chosen.replace("{disease}", disease).split())

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """Everyone who has to say that the person is another one."""
        first = Verifier(self.faces, self.similarity_limit, self.similarity_margin)
        return (first,) if self.second is None else (first, self.second)
