"""Makes a set to try every command with: any portraits, lesions painted on them, and a manifest.

Shape letters: H × W. Images are uint8 RGB; labels index :data:`inference.contract.CLASSES`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from inference.anonymize import MaskOptions, paint, plan
from inference.contract import CLASSES, DISEASES, Image, Models
from inference.data import DataError
from inference.data.manifest import NORMAL, Photograph, write
from inference.data.patients import assign
from inference.data.pictures import Labels, read_image, read_labels
from inference.pointrend.scenes import LESION, SKIN, Scene, diseased
from inference.regions import segment
from inference.split import held_back

KINDS = (NORMAL, *DISEASES)
"""What a picture shows, in the order in which they follow one another."""

QUALITY = 95
"""JPEG quality of what is written; photographs of a clinic are JPEG too."""


HEAD = (slice(0, 280), slice(90, 370))
"""Rows and columns of scikit-image's portrait that show the head."""


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One portrait to paint on.

    Attributes
    ----------
    name
        File name without suffix; what stands before the first underscore is the patient.
    image
        uint8 RGB (H, W, 3).
    labels
        uint8 (H, W), without lesions.
    """

    name: str
    image: Image
    labels: Labels

    @property
    def patient(self) -> str:
        """Who this is."""
        return self.name.partition("_")[0]


def pictures(folder: Path, limit: int = 0, *, held: bool | None = None) -> list[Path]:
    """The pictures of a folder of portraits, or of its ``images/``, sorted by name.

    Parameters
    ----------
    folder
        Holds ``images/<name>.jpg`` (or ``.png``), or the pictures themselves.
    limit
        At most so many, evenly taken from all (0: all).
    held
        Only those that every training of the project holds back (:mod:`inference.split`), or only the others.

    Raises
    ------
    DataError
        No picture there.
    """
    inside = folder / "images" if (folder / "images").is_dir() else folder
    files = sorted(p for p in inside.glob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if held is not None:
        behind = held_back(file.stem for file in files)
        files = [file for file in files if (file.stem in behind) == held]
    if not files:
        raise DataError(f"{folder} holds no pictures (.jpg, .png), nor a folder images/ with some.")
    if limit and limit < len(files):
        files = [files[index] for index in np.linspace(0, len(files) - 1, limit).round().astype(int)]
    return files


def people(files: Iterable[Path], models: Callable[[], Models]) -> Iterator[Person]:
    """The portraits in these files, with the index masks without lesions that lie in ``labels/`` beside ``images/``.

    Where a picture has no labels, the models find them; ``models`` loads them and is only called where needed.

    Raises
    ------
    DataError
        A picture or its labels cannot be read, or they differ in size.
    inference.contract.Unavailable
        A model cannot answer now.
    """
    loaded: list[Models] = []
    for file in files:
        image, known = read_image(file), file.parent.parent / "labels" / f"{file.stem}.png"
        if known.is_file():
            labels = read_labels(known)
        else:
            if not loaded:
                loaded.append(models())
            labels = seen(image, loaded[0])
        if labels.shape != image.shape[:2]:
            raise DataError(f"labels/{file.stem}.png has not the size of its picture.")
        yield Person(file.stem, image, labels)


def invented(models: Models, count: int, seed: int) -> Iterator[Person]:
    """People who do not exist: faces that the bundle paints over the portrait which scikit-image carries.

    Raises
    ------
    inference.contract.Unavailable
        A model cannot answer now.
    """
    from skimage import data

    portrait = np.ascontiguousarray(data.astronaut()[HEAD], np.uint8)  # type: ignore[no-untyped-call]
    intended = plan(portrait, models, MaskOptions())
    for number in range(count):
        image = paint(portrait, intended, models.inpainter, models.prompts[""], seed * 100_003 + number)
        yield Person(f"invented{number:03}", image, seen(image, models))


def seen(image: Image, models: Models) -> Labels:
    """The likeliest class but lesion of each pixel that the gateway would hide, uint8 (H, W); the rest background."""
    intended = plan(image, models, MaskOptions())
    regions = segment(image, intended.faces, models.segmenter)
    order = [regions.classes.index(name) for name in CLASSES[:LESION]]
    small = regions.probabilities[order].argmax(axis=0).astype(np.uint8)
    labels = cv2.resize(small, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.where(intended.hide | intended.keep, labels, 0).astype(np.uint8)


def make(  # noqa: PLR0913 - who, where to, how many, which split, and what is told
    portraits: Iterable[Person],
    out: Path,
    *,
    each: int,
    seed: int,
    wanted: Mapping[str, float],
    tested: Collection[str] = (),
    tick: Callable[[], None] = lambda: None,
) -> list[Photograph]:
    """Write ``images/``, ``masks/`` and ``manifest.csv`` into ``out``.

    Parameters
    ----------
    portraits
        Two of one patient are kept in one split.
    out
        Folder, made where it does not exist.
    each
        Pictures of every portrait; no disease and the five of :data:`inference.contract.DISEASES` follow one
        another, beginning with another one for each portrait.
    seed
        Decides lesions and splits; the same arguments make the same set.
    wanted
        Share of each split.
    tested
        Names of portraits whose patients are in the test set, whatever the shares say of the others.
    tick
        Called after each portrait.

    Raises
    ------
    DataError
        A portrait on which nothing can be painted: no skin was found.
    """
    for name in ("images", "masks"):
        (out / name).mkdir(parents=True, exist_ok=True)
    rows: list[Photograph] = []
    groups: dict[str, str] = {}
    kept: set[str] = set()
    for index, person in enumerate(portraits):
        if not (person.labels == SKIN).any():
            raise DataError(f"No skin was found on {person.name}; leave that portrait out.")
        for turn in range(each):
            disease = KINDS[(index + turn) % len(KINDS)]
            shown = Scene(person.image, person.labels)
            if disease != NORMAL:
                shown = diseased(shown, disease, (seed * 1_000_003 + index * 101 + turn) % 2**31)
            name = f"{person.name}-{turn}"
            image, mask = out / "images" / f"{name}.jpg", out / "masks" / f"{name}.png"
            _write(image, shown.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            _write(mask, shown.labels, [])
            groups.setdefault(person.patient, disease)
            rows.append(Photograph(image, mask, disease, person.patient, ""))
        if person.name in tested:
            kept.add(person.patient)
        tick()
    chosen = assign({p: group for p, group in groups.items() if p not in kept}, wanted, seed)
    chosen |= dict.fromkeys(kept, "test")
    rows = [replace(row, split=chosen[row.patient]) for row in rows]
    write(out, rows)
    return rows


def _write(file: Path, picture: Image | Labels, options: list[int]) -> None:
    if not cv2.imwrite(str(file), np.ascontiguousarray(picture), options):
        raise OSError(f"{file} cannot be written")
