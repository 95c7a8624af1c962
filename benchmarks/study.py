"""The study of docs/performance.md in one command: held-back people with painted lesions, every method that can run.

    python benchmarks/study.py --data ../shared --out build/study

Learns on the 386 portraits that are not held back, judges on the 50 that are and on 51 further people photographed
twice (Face Research Lab London Set, CC BY 4.0). What is made once (pictures, the judge of diseases, results of a
method that has not changed) is kept in --out; only what changed is done again.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from inference.data import manifest, synthetic
from inference.evaluate.classifier import CARD

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("none", "blurring", "pixelation", "k-same", "masking", "anoskin", "anoskin-once")
LONDON = 51
ATTACKED = ("blurring", "masking", "anoskin")


def pictures(data, out):
    """The study's photographs: six of each portrait to learn from, one of each photograph to judge by."""

    def unneeded():
        raise SystemExit("The portraits have no labels/; the study needs the test data as it is distributed.")

    portraits, london = data / "portraits", data / "london"
    learnt = synthetic.pictures(portraits, held=False)
    judged = [*synthetic.pictures(portraits, held=True), *synthetic.pictures(london)[: 2 * LONDON]]
    rows = synthetic.make(
        synthetic.people(learnt, unneeded),
        out / "learnt",
        each=6,
        seed=1,
        wanted={"train": 0.9, "validation": 0.1},
    )
    rows += synthetic.make(
        synthetic.people(judged, unneeded), out / "judged", each=1, seed=2, wanted={"test": 1.0}
    )
    manifest.write(out, rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANOSKIN_DATA", "../shared")))
    parser.add_argument("--out", type=Path, default=Path("build/study"))
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "nano")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("rest", nargs="*", help="further options of gateway-models evaluate, after --")
    given = parser.parse_args()
    if not (given.out / manifest.NAME).exists():
        pictures(given.data / "data", given.out)
    command = [sys.executable, "-m", "inference.cli"]
    judge = given.out / "classifier"
    if not (judge / CARD).exists():
        recipe = ["--steps", "1200", "--size-px", "128", "--mixed-precision", "--threads", "1"]
        subprocess.run(
            [*command, "train", "classifier", "--data", given.out, "--out", judge, *recipe], check=True
        )
    packs = given.data / "models/insightface/models"
    subprocess.run(
        [*command, "evaluate", "--methods", *given.methods, "--data", given.out, "--out", given.out / "report",
         "--bundle", given.bundle, "--classifier", judge,
         "--judges", *sorted(packs.iterdir()), "--one-each",
         "--attack", *ATTACKED, "--attack-patients", "100", "--attack-steps", "400", *given.rest],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
