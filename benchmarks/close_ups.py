"""Close-ups of the held-back portraits, 2–5 times nearer and turned any way, and bare skin: what would leave?

    python benchmarks/close_ups.py --data ../shared

A close-up may leave only with 90 % of each visible brow, eye, nose and mouth hidden; skin without a face should leave
untouched. Coverage and similarity are the gateway's own gates.
"""

import argparse
import json
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from gateway import release
from gateway.errors import Held
from gateway.instance import Evidence
from gateway.redact import Redactor
from inference.anonymize import MaskOptions
from inference.contract import DISEASES
from inference.inpaint.data import read_image
from inference.local import load_models
from inference.phantom import paint, skin_patch
from inference.split import held_back

ROOT = Path(__file__).resolve().parents[1]
SIDE = 512


def outcome(redactor, image, seed):
    """The gates' word on one picture (``"released"`` or the reason it is held), and what was done."""
    done = redactor.redact(image[None], redactor.models.prompts[""], seed)
    evidence = Evidence(
        faces=done.faces,
        features=done.features,
        hidden_pixels=int(done.hide.sum()),
        uncovered_pixels=done.uncovered_pixels,
        doubtful=done.doubtful,
        similarity=done.similarity,
        similarity_limit=done.similarity_limit,
    )
    try:
        release.check(evidence, [release.coverage, release.similarity])
    except Held as held:
        return held.reason, done
    return "released", done


def close_up(image, label, draw):
    """A part of a face, (512, 512), and its labels."""
    ys, xs = np.nonzero(label > 0)
    at = draw.integers(len(ys))
    turn = cv2.getRotationMatrix2D((float(xs[at]), float(ys[at])), draw.uniform(0, 360), draw.uniform(2, 5))
    turn[:, 2] += SIDE / 2 - np.array([xs[at], ys[at]])
    near = cv2.warpAffine(image, turn, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return near, cv2.warpAffine(label, turn, (SIDE, SIDE), flags=cv2.INTER_NEAREST)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANOSKIN_DATA", "../shared")))
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "nano")
    parser.add_argument("--count", type=int, default=200)
    given = parser.parse_args()
    redactor = Redactor(load_models(given.bundle, threads=1), MaskOptions(), attempts=1)
    portraits = given.data / "data/portraits"
    names = sorted(held_back(path.stem for path in (portraits / "images").glob("*.jpg")))
    draw = np.random.default_rng(3)
    ends, skin, missed = Counter(), Counter(), []
    for index in track(range(given.count), "close-ups"):
        name = names[index % len(names)]
        label = read_image(portraits / "labels" / f"{name}.png")[..., 0]
        image, near = close_up(read_image(portraits / "images" / f"{name}.jpg"), label, draw)
        end, done = outcome(redactor, image, index)
        covered = (done.hide | done.keep)[0]
        shares = [float(covered[near == part].mean()) for part in (2, 3, 4, 5) if (near == part).sum() > 50]
        if end == "released" and shares:
            end = "released, every part hidden to 0.9" if min(shares) >= 0.9 else "released, a part shows"
            if min(shares) < 0.9:
                missed.append({"index": index, "least": min(shares), "visible": int((near >= 2).sum())})
        elif end == "released":
            end = "released, no feature in it"
        ends[end] += 1
    for index in track(range(given.count // 4), "bare skin"):
        patch = skin_patch(SIDE, (index % 10) / 10, index)
        whole = np.ones((SIDE, SIDE), bool)
        sick = paint(patch, whole, DISEASES[index % 5], index, severity=0.5, pixels_per_mm=SIDE / 60)
        skin[outcome(redactor, sick.image, index)[0]] += 1
    print(json.dumps({"close-ups": ends, "shown": missed, "bare skin": skin}, indent=1))


if __name__ == "__main__":
    main()
