"""An answer key in the ten actions of MIDI-B over invented patients: how many checks, and how many are not passed.

Run ``python benchmarks/answer_key.py [--patients N] [--labelled N]``. The photographs, their key and the judge are
those of the tests (``tests/answer_key.py``); here there may be more of them. Metadata is treated with the profile
``research`` and the gates; pictures with burned-in text go through the whole treatment, with models that see nobody.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from answer_key import judge, labelled, legible_after, photographed, without_people
from photographs import save

from gateway import part10
from gateway.burnin import TextFinder
from gateway.deidentify import MetadataOnly
from gateway.errors import Held
from gateway.profile_files import load
from gateway.pseudonym import Pseudonyms

PROFILE = Path(__file__).resolve().parents[1] / "conf" / "profiles" / "research.toml"


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--labelled", type=int, default=40)
    options = parser.parse_args()
    profile, site = load(PROFILE), Pseudonyms(bytes(range(32)))
    begun = time.perf_counter()
    objects, key = photographed(options.patients)
    treat, results, legible, held = MetadataOnly(profile, site), {}, {}, 0
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "original.dcm"
        for number, ds in enumerate(objects):
            with part10.quiet():
                save(ds, file)
            try:
                results[number] = part10.read(treat(file).file)
            except Held:
                held += 1
        whole, finder = without_people(profile, site), TextFinder()
        for number in range(options.labelled):
            ds, check = labelled(number, len(objects) + number)
            legible[check.file] = legible_after(whole, save(ds, file), finder)
            key.append(check)
    made, failed = judge(key, results, legible)
    report = {
        "patients": options.patients,
        "objects": len(objects) + options.labelled,
        "held by a gate of metadata": held,
        "checks": {action: made[action] for action in sorted(made)},
        "all checks": made.total(),
        "not passed": len(set(failed)),
        "seconds": round(time.perf_counter() - begun, 1),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
