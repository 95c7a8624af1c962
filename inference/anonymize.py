"""One photograph: what to hide, what to keep, and new pixels for what is hidden.

Two steps that share nothing but masks and geometry. :func:`plan` looks at the photograph and says what to hide.
:func:`paint` blanks that at native resolution *first* and paints from what is left, so that no hidden pixel can
influence the result (non-interference). Outside *hide* the result is the input, bit for bit.
Shape letters: H × W native, h × w working scale (:mod:`inference.regions`), S the inpainter's square.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from inference.blend import faded, matched
from inference.contract import Face, Floats, Image, Inpainter, Mask, Models
from inference.crops import Crop, crops_for, within
from inference.doubt import doubts
from inference.regions import Regions, face_oval, grow, landmark_features, segment, to_native
from inference.search import aligned
from inference.search import search as search  # noqa: PLC0414 - the gateway takes it from here

LesionRule = Literal["hide", "keep", "hold"]
BLANK = 127
"""What the generator sees in place of hidden pixels."""
LEAST_SIGN = 0.1
"""Probability of a feature from which on what looks like a lesion at a face is not kept: red lips look like one."""
LIPS_SPANS = 0.12
"""How far beyond the mouth that the landmarks place a full or open lip reaches, in spans."""
SURE_LESION = 0.7
"""Probability of a lesion above which one is kept there: what is lips is never so sure."""
LEAST_FEATURE = 1e-4
"""Share of the picture below which something that looks like a feature is a speck."""
LEAST_LONE_FEATURE = 1e-3
"""The same for what is more likely a feature than not, in a picture that shows no face."""
CLOSE_UP_SKIN = 0.5
"""Share of a picture that shows the skin of a face, from which on it is a close-up of one."""
LEAST_FACE_SKIN, LEAST_WEAK_FEATURES = 0.1, 5e-3
"""The same where weak signs of features take up some share too. Close-ups of faces in which no detector finds one show
0.29 of skin and 0.012 of features and more; drawings of bare skin mostly none, rarely up to 0.2 and 0.002."""
FACE_WIDTH_SPANS = 2.2
"""Width of a face in spans (median of frontal portraits)."""


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How masks are made from what was seen.

    Attributes
    ----------
    lesion_over_features
        What becomes of a lesion that covers eyes, nose or mouth: ``hide`` paints over the part on the feature,
        ``keep`` leaves it as photographed, ``hold`` asks for a person.
    keep_margin
        Lesions are grown by this fraction of the face's width before they are kept.
    hide_margin
        Faces and features are grown by this fraction of it before they are hidden: hairline, ears and outline tell
        the person too (docs/performance.md).
    keep_most
        Largest share of a photograph's hidden region that is kept as lesion; where lesions take more, their surest
        pixels. What is left of a face's own skin tells the person too. What a person drew is kept whole.
    """

    lesion_over_features: LesionRule = "hide"
    keep_margin: float = 0.02
    hide_margin: float = 0.25
    keep_most: float = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A caller's own masks for one photograph, instead of what the segmentation would say; ``None`` leaves it to it.

    They decide what is painted, not what may leave: every gate looks at the result as ever.

    Attributes
    ----------
    hide
        bool (H, W): painted over, exactly this.
    keep
        bool (H, W): lesion, exactly this; the rule for lesions over features holds for it too.
    """

    hide: Mask | None = None
    keep: Mask | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is to be done with one photograph; nothing in it holds a hidden pixel.

    Attributes
    ----------
    hide, keep
        bool (H, W): painted over; lesion inside a face, as photographed. They do not overlap.
    features
        bool (H, W): eyes, brows, nose and mouth that were seen.
    crops
        Where to paint, one entry a face or a part of one.
    faces
        The faces found in the original.
    confirmed
        The segmentation sees eyes, nose and mouth where every one of these faces has its landmarks.
    covered
        Names of features that a lesion covers and the rule ``hold`` wants a person to see.
    doubtful
        What may be further faces, confirmed by no search and not hidden.
    """

    hide: Mask
    keep: Mask
    features: Mask
    crops: tuple[Crop, ...]
    faces: tuple[Face, ...]
    confirmed: bool
    covered: tuple[str, ...]
    doubtful: tuple[Face, ...] = ()


def plan(
    image: Image,
    models: Models,
    options: MaskOptions,
    faces: Sequence[Face] | None = None,
    given: Given | None = None,
) -> Plan:
    """Decide what to hide and what to keep of a photograph, uint8 RGB (H, W, 3).

    ``faces`` spares the search where the caller has done it; ``given`` are the caller's own masks.

    Raises
    ------
    inference.contract.Unavailable
        A model cannot answer now.
    ValueError
        A given mask is not bool (H, W).
    """
    given = given or Given()
    for mask in (given.hide, given.keep):
        if mask is not None and (mask.dtype != np.bool_ or mask.shape != image.shape[:2]):
            raise ValueError("a given mask must be bool and of the picture's height and width")
    height, width = image.shape[:2]
    found = tuple(search(image, models) if faces is None else faces)
    regions = segment(image, found, models.segmenter)
    scale = regions.scale
    lesion = _lesions(regions, models) if given.keep is None else _small(given.keep, regions)
    near = _near(found, scale, *lesion.shape)
    seen = _features(regions, models, near)
    unit = _span_px(found, scale, seen)
    face = np.zeros_like(seen)
    named: dict[str, Mask] = {}
    for index, one in enumerate(found):
        face |= face_oval(one, scale, *seen.shape)
        for name, mask in landmark_features(one, scale, *seen.shape).items():
            named[f"{name} {index}"] = mask
    for mask in named.values():
        face |= mask
    face |= seen
    if face.any():
        around = near if found else np.ones_like(near)
        face |= _connected(_identity(regions, models) & around, grow(face, 0.05 * unit))
    hide = grow(face, options.hide_margin * FACE_WIDTH_SPANS * unit)
    keep = grow(lesion, options.keep_margin * FACE_WIDTH_SPANS * unit) & hide
    covered = _covered(named, lesion)
    over = np.zeros_like(seen)
    if options.lesion_over_features != "keep":
        over |= seen
        for mask in named.values():
            over |= mask
        # What a person drew is a lesion; what the segmentation takes for one may be red lips.
        lips = np.zeros_like(seen)
        for name, mask in named.items():
            if name.startswith("mouth"):
                lips |= grow(mask, LIPS_SPANS * unit)
        unsure = lips & ~(_lesion_probability(regions, models) > SURE_LESION)
        keep &= ~(over | unsure | (near & (regions.of(models.features) > LEAST_SIGN)))
    if given.keep is None:
        keep = _surest(keep, _lesion_probability(regions, models), int(options.keep_most * hide.sum()))
    hide_full = to_native(hide, height, width) if given.hide is None else given.hide.copy()
    keep_full = (
        to_native(keep, height, width) if given.keep is None else given.keep & ~to_native(over, height, width)
    )
    keep_full = keep_full & hide_full
    hide_full &= ~keep_full
    crops = tuple(crops_for(hide_full, found, models.inpainter.size_px))
    sure = aligned(image, found, models)
    asked = covered if options.lesion_over_features == "hold" else ()
    doubtful = doubts(image, found, models.faces, hide_full | keep_full)
    return Plan(hide_full, keep_full, to_native(seen, height, width), crops, found, sure, asked, doubtful)


def paint(image: Image, plan: Plan, inpainter: Inpainter, prompt: str, seed: int) -> Image:
    """The photograph with new pixels under ``plan.hide``, uint8 RGB (H, W, 3); everything else bit for bit.

    The same plan, prompt and seed give the same output whatever stands under ``plan.hide``.

    Raises
    ------
    inference.contract.Unavailable
        The inpainter cannot answer now.
    """
    if not plan.hide.any():
        return image.copy()
    result = image.copy()
    result[plan.hide] = BLANK
    views, masks, arounds = [], [], []
    for crop in plan.crops:
        mask = crop.take_mask(plan.hide)
        view = crop.take(result)
        view[mask] = BLANK
        views.append(view)
        masks.append(mask)
        arounds.append(~(mask | crop.take_mask(plan.keep)))
    seeds = [(seed + 7919 * index) % 2**31 for index in range(len(views))]
    painted = inpainter.inpaint(np.stack(views), np.stack(masks), [prompt] * len(views), seeds)
    open_pixels = plan.hide.copy()
    for crop, view, mask, around, answer in zip(plan.crops, views, masks, arounds, painted, strict=True):
        new = faded(matched(answer, view, mask), view, around)
        patch, rows, columns = crop.put(new, *image.shape[:2])
        inside = open_pixels[rows, columns] & within(crop, rows, columns)
        target = result[rows, columns]
        target[inside] = np.clip(np.rint(patch[inside]), 0, 255).astype(np.uint8)
        open_pixels[rows, columns] &= ~inside
    return result


def uncovered(image: Image, plan: Plan, models: Models, tolerance: float = 0.06) -> int:
    """Pixels of features that a second look sees outside *hide* and *keep*: the evidence of the coverage gate.

    The second look segments the mirror image, and places features by the landmarks of every face found. A rim of
    ``tolerance`` spans about the masks is allowed, and specks of less than a hundredth of a span² are not counted.
    """
    faces = plan.faces
    regions = segment(image, faces, models.segmenter, mirrored=True)
    near = _near(faces, regions.scale, *regions.probabilities.shape[1:])
    seen = _features(regions, models, near)
    if near.any() and (seen & ~near).any():
        straight = _features(segment(image, faces, models.segmenter), models, near)
        seen &= near | straight  # away from every face, both looks have to agree
    for one in faces:
        for mask in landmark_features(one, regions.scale, *seen.shape).values():
            seen = seen | mask
    done = (
        cv2.resize((plan.hide | plan.keep).astype(np.uint8), seen.shape[::-1], interpolation=cv2.INTER_AREA)
        > 0
    )
    unit = _span_px(faces, regions.scale, seen)
    missed = (seen & ~grow(done, tolerance * unit)).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(missed)
    sizes = stats[1:count, cv2.CC_STAT_AREA]
    return int(sizes[sizes > 0.01 * unit**2].sum() / regions.scale**2)


def _lesion_probability(regions: Regions, models: Models) -> Floats:
    return regions.of([name for name, role in models.roles.items() if role == "lesion"])


def _lesions(regions: Regions, models: Models) -> Mask:
    return np.asarray(_lesion_probability(regions, models) > 0.5)


def _surest(keep: Mask, probability: Floats, most: int) -> Mask:
    """At most ``most`` pixels of ``keep`` (h, w): those with the largest probability; of equal ones all or none."""
    if keep.sum() <= most:
        return keep
    if most <= 0:
        return np.zeros_like(keep)
    least = np.partition(probability[keep], -most)[-most]
    return np.asarray(keep & (probability > least))


def _small(mask: Mask, regions: Regions) -> Mask:
    """A native mask (H, W) at working scale: a pixel of it that is hit at all belongs to it."""
    height, width = regions.probabilities.shape[1:]
    return np.asarray(cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0)


def _near(faces: Sequence[Face], scale: float, height: int, width: int) -> Mask:
    """Where a face or its surroundings are, bool (h, w); nowhere without a face."""
    near = np.zeros((height, width), np.bool_)
    for one in faces:
        oval = face_oval(one, scale, height, width)
        near |= grow(oval, 0.45 * _span_px([one], scale, oval))
    return near


def _features(regions: Regions, models: Models, near: Mask) -> Mask:
    """Features seen, bool (h, w): a weak sign is enough near a face, or where the skin of one is seen.

    Away from the faces of a picture that shows some, cloth and jewellery are taken for features too easily; there
    only a clear sign counts. A picture of bare skin shows no face's skin; there a sign has to be of some size.
    """
    probability = regions.of(models.features)
    alone = not near.any()
    skin = [name for name, role in models.roles.items() if role == "identity" and name not in models.features]
    share = float((regions.of(skin) > 0.5).mean())
    seen = (probability > np.where(near | alone, 0.35, 0.7)).astype(np.uint8)
    weak = share >= LEAST_FACE_SKIN and float(seen.mean()) >= LEAST_WEAK_FEATURES
    close_up = alone and (share >= CLOSE_UP_SKIN or weak)
    seen = np.asarray(cv2.morphologyEx(seen, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
    count, labels = cv2.connectedComponents(seen)
    strong = np.bincount(labels[probability > 0.5], minlength=count) / seen.size
    areas = np.bincount(labels.ravel(), minlength=count) / seen.size
    enough = strong >= LEAST_LONE_FEATURE if alone and not close_up else areas >= LEAST_FEATURE
    enough[0] = False
    return np.asarray(enough[labels])


def _identity(regions: Regions, models: Models) -> Mask:
    names = [name for name, role in models.roles.items() if role in {"identity", "lesion"}]
    return np.asarray(regions.of(names) > 0.5)


def _connected(mask: Mask, seed: Mask) -> Mask:
    """The components of ``mask`` that touch ``seed``."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    touched = np.unique(labels[seed & mask])
    return np.asarray(np.isin(labels, touched[touched > 0]))


def _span_px(faces: Sequence[Face], scale: float, seen: Mask) -> float:
    """The span in working pixels: of the largest face, else guessed from the features seen, else from the side."""
    lengths = [float(np.hypot(*(f.landmarks[3:].mean(0) - f.landmarks[:2].mean(0)))) * scale for f in faces]
    if lengths:
        longest: float = max(lengths)
        return longest
    if seen.any():
        # A feature covers roughly a fifth of a span² on a face seen from the front.
        count, _, stats, _ = cv2.connectedComponentsWithStats(seen.astype(np.uint8))
        largest: float = stats[1:count, cv2.CC_STAT_AREA].max()
        return math.sqrt(largest * 5.0)
    longest_side: int = max(seen.shape)
    return longest_side / 4


def _covered(named: dict[str, Mask], lesion: Mask) -> tuple[str, ...]:
    names = []
    for name, mask in named.items():
        kind = name.rsplit(" ", 1)[0]
        if "brow" not in kind and (lesion & mask).sum() > 0.3 * max(int(mask.sum()), 1):
            names.append(kind)
    return tuple(dict.fromkeys(names))
