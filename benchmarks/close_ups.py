"""Close-ups of people whom no training saw, nearer and turned any way, and bare skin: what would leave?

    python benchmarks/close_ups.py --data ../shared --out close-ups.json
    python benchmarks/close_ups.py --data ../shared --people portraits --count 200 --nearer 2 5 --recall 0.9

A close-up may leave only with 95 % of each visible brow, eye, nose and mouth painted over; skin without a face should
leave untouched. Coverage and similarity are the gateway's own gates. The exit status is 1 where anything left that
must not. The file is written after each picture; `--resume` goes on where an interrupted run ended.
"""

import argparse
import json
import os
import sys
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
from inference.inpaint.data import REGIONS, read_image
from inference.local import load_models
from inference.phantom import paint, skin_patch
from inference.split import held_back

ROOT = Path(__file__).resolve().parents[1]
SIDE = 512
VISIBLE_PX = 50
"""Pixels of a feature below which nothing of it can be told."""
PARTS = {name: REGIONS[name] for name in ("brow", "eye", "nose", "mouth")}
SHOWN = "released, a part shows"


def outcome(done):
    """The gates' word on one redacted picture: ``"released"``, or the reason it is held."""
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
        return held.reason
    return "released"


def close_up(image, label, draw, nearer):
    """A part of a face, (512, 512), and its labels."""
    ys, xs = np.nonzero(label > 0)
    at = draw.integers(len(ys))
    # Times nearer: a picture as it is fills the square at 1.
    scale = draw.uniform(*nearer) * SIDE / max(image.shape[:2])
    turn = cv2.getRotationMatrix2D((float(xs[at]), float(ys[at])), draw.uniform(0, 360), scale)
    turn[:, 2] += SIDE / 2 - np.array([xs[at], ys[at]])
    near = cv2.warpAffine(image, turn, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return near, cv2.warpAffine(label, turn, (SIDE, SIDE), flags=cv2.INTER_NEAREST)


def judged(redactor, image, label, seed, recall):
    """One close-up through the gateway's treatment and gates, and what of its features is painted over."""
    done = redactor.redact(image[None], redactor.models.prompts[""], seed)
    visible = {name: label == value for name, value in PARTS.items() if (label == value).sum() > VISIBLE_PX}
    shares = {name: float(done.hide[0][mask].mean()) for name, mask in visible.items()}
    end = outcome(done)
    if end == "released":
        low = [name for name, share in shares.items() if not share >= recall]
        end = SHOWN if low else "released, every part hidden" if shares else "released, no feature in it"
    return {
        "end": end,
        "faces": done.faces,
        "features_visible": sorted(shares),
        "least_hidden": min(shares.values(), default=None),
        "similarity": done.similarity,
        "untouched": not done.hide.any(),
    }


def people(data, which):
    """Pictures and label maps of people whom no training saw."""
    folder = data / "data" / which
    names = sorted(path.stem for path in (folder / "images").glob("*.jpg"))
    if which == "portraits":
        names = sorted(held_back(names))
    return [(folder / "images" / f"{name}.jpg", folder / "labels" / f"{name}.png") for name in names]


def summary(rows, skin, given):
    nobody = [row for row in rows if row["faces"] == 0]
    return {
        "people": given.people,
        "nearer": given.nearer,
        "least_recall": given.recall,
        "close_ups": len(rows),
        "ends": Counter(row["end"] for row in rows),
        "violations": sum(row["end"] == SHOWN for row in rows),
        "no_face_found": len(nobody),
        "no_face_found_and_features_visible": sum(bool(row["features_visible"]) for row in nobody),
        "of_those_released": sum(
            bool(row["features_visible"]) and row["end"].startswith("released") for row in nobody
        ),
        "bare_skin": Counter(skin),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANOSKIN_DATA", "../shared")))
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "nano")
    parser.add_argument("--people", choices=["london", "portraits"], default="london")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--nearer", type=float, nargs=2, default=(1.5, 6), metavar=("LEAST", "MOST"))
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--skin", type=int, default=50, help="drawings of bare skin (default 50)")
    parser.add_argument("--out", type=Path, default=Path("close-ups.json"))
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    redactor = Redactor(load_models(given.bundle, threads=1), MaskOptions(), attempts=6)
    known = people(given.data, given.people)
    if not known:
        parser.error(f"there are no pictures in {given.data / 'data' / given.people}")
    before = json.loads(given.out.read_text()) if given.resume and given.out.exists() else {}
    rows, skin = before.get("rows", []), before.get("skin", [])

    def write():
        found = {"summary": summary(rows, skin, given), "rows": rows, "skin": skin}
        given.out.write_text(json.dumps(found, indent=1))
        return found["summary"]

    for index in track(range(given.count), "close-ups"):
        if index < len(rows):
            continue
        picture, labels = known[index % len(known)]
        draw = np.random.default_rng([3, index])
        image, label = close_up(read_image(picture), read_image(labels)[..., 0], draw, given.nearer)
        rows.append(judged(redactor, image, label, index, given.recall))
        write()
    for index in track(range(given.skin), "bare skin"):
        if index < len(skin):
            continue
        patch = skin_patch(SIDE, (index % 10) / 10, index)
        whole = np.ones((SIDE, SIDE), bool)
        sick = paint(patch, whole, DISEASES[index % 5], index, severity=0.5, pixels_per_mm=SIDE / 60)
        skin.append(outcome(redactor.redact(sick.image[None], redactor.models.prompts[""], index)))
        write()
    found = write()
    print(json.dumps(found, indent=1))
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
