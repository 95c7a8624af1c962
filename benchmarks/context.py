"""How much the surroundings of a face tell: what is hidden is painted grey, and face packs look at the rest.

    python benchmarks/context.py --data ../shared --study build/study

Takes the photographs of benchmarks/study.py. No method that leaves the surroundings can be recognised less than this by
chance; each margin is [pixels] hide_margin, a share of the face's width.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from inference.anonymize import BLANK, MaskOptions, plan
from inference.data.manifest import read
from inference.evaluate import methods
from inference.evaluate.identity import Identity, Judge
from inference.evaluate.looks import Looks
from inference.evaluate.scene import open_scene
from inference.local import load_models

ROOT = Path(__file__).resolve().parents[1]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANOSKIN_DATA", "../shared")))
    parser.add_argument("--study", type=Path, default=Path("build/study"))
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "nano")
    parser.add_argument("--margins", type=float, nargs="+", default=[0.05, 0.08, 0.12, 0.2])
    given = parser.parse_args()
    models, everything = load_models(given.bundle, threads=1), read(given.study)
    tested = [one for one in everything if one.split == "test"]
    looks = Looks(given.study / "report" / "looks")
    packs = sorted((given.data / "models/insightface/models").iterdir())
    others = [one for one in everything if one.split != "test"]
    identities = [Identity(Judge(pack, tested, others, looks=looks)) for pack in packs]
    rows = {"masking": [], **{f"grey, margin {margin:g}": [] for margin in given.margins}}
    found = {}
    for photograph in {one.patient: one for one in reversed(tested)}.values():
        scene = open_scene(photograph)
        rows["masking"].append((scene, methods.masked(scene)))
        for margin in given.margins:
            found[scene.name] = intended = plan(
                scene.image,
                models,
                MaskOptions(hide_margin=margin),
                getattr(found.get(scene.name), "faces", None),
            )
            grey = np.where(intended.hide[..., None], np.uint8(BLANK), scene.image)
            rows[f"grey, margin {margin:g}"].append((scene, grey))
    print("| what is left | judge | cosine, mean | unrecognised at 1e-2 | at 1e-3 |\n|---|---|---|---|---|")
    for name, pictures in rows.items():
        for identity in identities:
            identity.reset()
            for scene, picture in pictures:
                identity.update(scene, picture, 0.0)
            said = identity.compute().figures
            shares = " | ".join(f"{said[f'unrecognised at {rate}'].value:.3f}" for rate in ("0.01", "0.001"))
            print(
                f"| {name} | {identity.name.partition(' ')[2]} | {said['cosine'].value:.3f} | {shares} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
