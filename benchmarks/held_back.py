"""What the nano bundle does to the fifty held-back portraits, judged by models it never saw: one table, one JSON.

    python benchmarks/held_back.py --data ../shared --out held-back.json

Lesions are painted on each portrait (five diseases in turn); the treatment is the gateway's own, without DICOM. The
file is written after each portrait; `--resume` goes on where an interrupted run ended.
"""

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from close_ups import outcome, people
from rich.progress import track
from skimage.color import deltaE_ciede2000, rgb2lab

from gateway.redact import Redactor
from inference.anonymize import MaskOptions
from inference.contract import DISEASES
from inference.faces.analyser import InsightFaceAnalyser
from inference.inpaint.data import REGIONS, read_image
from inference.local import load_models
from inference.phantom import paint

ROOT = Path(__file__).resolve().parents[1]


def seam(result, hide):
    """Median ΔE₀₀ across the outline of what was painted: two pixels inside against two outside."""
    inside = cv2.erode(hide.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    outside = cv2.dilate(hide.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    lab = rgb2lab(cv2.GaussianBlur(result, (3, 3), 0))
    rim_in, rim_out = hide & ~inside, outside & ~hide
    points = np.argwhere(rim_out)
    differences = []
    for y, x in points[:: max(1, len(points) // 400)]:
        window = rim_in[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        if window.any():
            near = lab[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3][window].mean(0)
            differences.append(float(deltaE_ciede2000(near, lab[y, x])))
    return float(np.median(differences)) if differences else float("nan")


def measured(redactor, judge, image, label, index):
    """One portrait with lesions through the treatment, and what the judge and the labels say of the result."""
    regions = {key: label == value for key, value in REGIONS.items()}
    sick = paint(image, label == 1, DISEASES[index % 5], index, regions=regions, severity=0.5)
    begun = time.perf_counter()
    done = redactor.redact(sick.image[None], redactor.models.prompts[""], index)
    seconds = time.perf_counter() - begun
    result, hide, keep = done.frames[0], done.hide[0], done.keep[0]
    end = outcome(done)
    faces = judge.find(sick.image)
    cosine = max((float(judge.embed(sick.image, f.landmarks) @ judge.embed(result, f.landmarks)) for f in faces),
                 default=None)  # fmt: skip
    return {
        "passed": end == "released",
        "end": end,
        "uncovered": done.uncovered_pixels,
        "doubtful": done.doubtful,
        "similarity": done.similarity,
        "independent_cosine": cosine,
        "outside_identical": bool((result[~hide] == sick.image[~hide]).all()),
        "kept_identical": bool((result[keep] == sick.image[keep]).all()),
        "faces_by_scrfd": len(judge.find(result)),
        "seam_delta_e": seam(result, hide | keep),
        "feature_recall": float((hide | keep)[label >= 2].mean()),
        "lesion_kept": float(keep[sick.lesion].mean()) if sick.lesion.any() else None,
        "attempts": done.attempts,
        "seconds": seconds,
    }


def summary(rows):
    ok = [row for row in rows if row["passed"]]
    # A result in which nobody could be compared is told, and is no small cosine.
    told = [row["independent_cosine"] for row in ok if row["independent_cosine"] is not None]
    return {
        "portraits": len(rows),
        "passed": len(ok),
        "ends": Counter(row["end"] for row in rows),
        "outside_identical": sum(row["outside_identical"] for row in rows),
        "kept_identical": sum(row["kept_identical"] for row in rows),
        "one_face_by_scrfd": sum(row["faces_by_scrfd"] == 1 for row in rows),
        "independent_cosine_largest_of_passed": max(told, default=None),
        "independent_cosine_mean_of_passed": float(np.mean(told)) if told else None,
        "passed_at_or_above_0.35": sum(not cosine < 0.35 for cosine in told),
        "passed_without_independent_cosine": len(ok) - len(told),
        "seam_delta_e_median": float(np.nanmedian([row["seam_delta_e"] for row in rows])),
        "feature_recall_mean": float(np.mean([row["feature_recall"] for row in rows])),
        "feature_recall_least": float(np.min([row["feature_recall"] for row in rows])),
        "lesion_kept_mean": float(np.mean([r["lesion_kept"] for r in rows if r["lesion_kept"] is not None])),
        "attempts_mean": float(np.mean([row["attempts"] for row in rows])),
        "seconds_median": float(np.median([row["seconds"] for row in rows])),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANOSKIN_DATA", "../shared")))
    parser.add_argument("--out", type=Path, default=Path("held-back.json"))
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "nano")
    parser.add_argument("--count", type=int, default=50, help="portraits (default all 50)")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    redactor = Redactor(load_models(given.bundle, threads=1), MaskOptions(), attempts=6)
    judge = InsightFaceAnalyser(given.data / "models/insightface/models/scrfd500m_mbf512")
    known = people(given.data, "portraits")[: given.count]
    rows = json.loads(given.out.read_text())["rows"] if given.resume and given.out.exists() else []
    for index, (picture, labels) in enumerate(track(known)):
        if index < len(rows):
            continue
        rows.append(measured(redactor, judge, read_image(picture), read_image(labels)[..., 0], index))
        given.out.write_text(json.dumps({"summary": summary(rows), "rows": rows}, indent=1))
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
