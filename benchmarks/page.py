"""Runs every command of a page as it is written, one block after another, and tells how long each took.

python benchmarks/page.py docs/training.md
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path


def blocks(page):
    """The fenced blocks without a language, in order."""
    return re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--first", type=int, default=1, help="block to begin with (default 1)")
    given = parser.parse_args()
    for block in blocks(given.page)[given.first - 1 :]:
        print(f"$ {block.strip()}", flush=True)
        begun = time.monotonic()
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], check=False)
        print(f"== {time.monotonic() - begun:.0f} s, exit status {done.returncode}\n", flush=True)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
