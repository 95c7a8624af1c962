"""The one loop: every method over every photograph, every metric over every result.

Results are kept as PNG by the method's fingerprint and the photograph's content, so that a second run does only what
has changed.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inference.contract import Image
from inference.data.manifest import Photograph
from inference.data.pictures import read_image
from inference.evaluate.methods import Method, Withheld
from inference.evaluate.metrics import Leaving, Measured, Metric
from inference.evaluate.scene import Scene, open_scene

Tick = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was found of one method.

    Attributes
    ----------
    name
        The method's.
    measured
        By the metric's name.
    """

    name: str
    measured: dict[str, Measured]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a method made of one photograph.

    Attributes
    ----------
    image
        uint8 RGB (H, W, 3); ``None`` where it is withheld.
    seconds
        It took when it was made.
    held
        Why it is withheld; empty where it is not.
    """

    image: Image | None
    seconds: float
    held: str = ""


class Results:
    """Anonymised pictures, made once and kept.

    Parameters
    ----------
    folder
        Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, method: Method, scene: Scene) -> Result:
        """The method's result for a scene; one that is kept but cannot be read is made again.

        Raises
        ------
        ValueError
            The method gave a picture of another size or kind.
        inference.contract.Unavailable
            A model cannot answer now.
        """
        key = hashlib.sha256(method.fingerprint.encode()).hexdigest()[:16]
        file = self._folder / f"{method.name}-{key}" / f"{scene.name}-{scene.digest[:16]}.png"
        kept = _kept(file)
        if kept is not None and (kept.image is None or kept.image.shape == scene.image.shape):
            return kept
        begun = time.perf_counter()
        image, held = None, ""
        try:
            image = method.apply(scene)
        except Withheld as reason:
            held = str(reason)
        seconds = time.perf_counter() - begun
        file.parent.mkdir(parents=True, exist_ok=True)
        if image is not None:
            if image.shape != scene.image.shape or image.dtype != np.uint8:
                raise ValueError(
                    f"{method.name} gave a picture that does not fit the photograph {scene.name}"
                )
            shown = np.ascontiguousarray(image[..., ::-1])
            whole, png = cv2.imencode(".png", shown, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            if not whole:
                raise OSError(f"{file} cannot be written")
            _put(file, png.tobytes())
        _put(file.with_suffix(".json"), json.dumps({"seconds": seconds, "held": held}).encode())
        return Result(image, seconds, held)


def _kept(file: Path) -> Result | None:
    """The result that is kept as this picture and the JSON beside it; None where there is none, or it is damaged."""
    try:
        said = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        seconds, held = float(said["seconds"]), str(said["held"])
        return Result(None if held else read_image(file), seconds, held)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _put(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_bytes(content)
    fresh.replace(file)


def evaluate(
    methods: Sequence[Method],
    photographs: Sequence[Photograph],
    metrics: Sequence[Metric],
    results: Results,
    tick: Tick = lambda _: None,
) -> list[Evaluated]:
    """Apply every method to every photograph and measure every result; ``tick`` hears each method's name.

    What a method withholds nobody gets to see: it counts as withheld (:class:`inference.evaluate.metrics.Leaving`) and
    in no other figure.

    Raises
    ------
    inference.data.manifest.DataError
        A photograph cannot be read.
    inference.contract.Unavailable
        A model cannot answer now.
    """
    found = []
    for method in methods:
        method.prepare(photographs)
        leaving = Leaving()
        for metric in metrics:
            metric.reset()
        for photograph in photographs:
            scene = open_scene(photograph)
            result = results.of(method, scene)
            leaving.note_held(scene, result.held)
            if result.image is not None:
                for metric in metrics:
                    metric.update(scene, result.image, result.seconds)
            tick(method.name)
        measured = {metric.name: metric.compute() for metric in metrics}
        found.append(Evaluated(method.name, {leaving.name: leaving.compute(), **measured}))
    return found
