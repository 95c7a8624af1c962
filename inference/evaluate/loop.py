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
from inference.data.manifest import Photograph, read_image
from inference.evaluate.methods import Method
from inference.evaluate.metrics import Measured, Metric
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


class Results:
    """Anonymised pictures, made once and kept.

    Parameters
    ----------
    folder
        Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, method: Method, scene: Scene) -> tuple[Image, float]:
        """The method's result for a scene, and the seconds it took when it was made.

        Raises
        ------
        ValueError
            The method gave a picture of another size or kind.
        inference.contract.Unavailable
            A model cannot answer now.
        """
        key = hashlib.sha256(method.fingerprint.encode()).hexdigest()[:16]
        file = self._folder / f"{method.name}-{key}" / f"{scene.name}-{scene.digest[:16]}.png"
        timed = file.with_suffix(".json")
        if file.is_file() and timed.is_file():
            return read_image(file), float(json.loads(timed.read_text(encoding="utf-8"))["seconds"])
        begun = time.perf_counter()
        result = method.apply(scene)
        seconds = time.perf_counter() - begun
        if result.shape != scene.image.shape or result.dtype != np.uint8:
            raise ValueError(f"{method.name} gave a picture that does not fit the photograph {scene.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(
            str(file), np.ascontiguousarray(result[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1]
        ):
            raise OSError(f"{file} cannot be written")
        timed.write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
        return result, seconds


def evaluate(
    methods: Sequence[Method],
    photographs: Sequence[Photograph],
    metrics: Sequence[Metric],
    results: Results,
    tick: Tick = lambda _: None,
) -> list[Evaluated]:
    """Apply every method to every photograph and measure every result; ``tick`` hears each method's name.

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
        for metric in metrics:
            metric.reset()
        for photograph in photographs:
            scene = open_scene(photograph)
            result, seconds = results.of(method, scene)
            for metric in metrics:
                metric.update(scene, result, seconds)
            tick(method.name)
        found.append(Evaluated(method.name, {metric.name: metric.compute() for metric in metrics}))
    return found
