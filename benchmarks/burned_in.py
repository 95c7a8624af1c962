"""A name, a number and a date burned into a hundred photographs: can another reader still read them afterwards?

    python benchmarks/burned_in.py --data ../shared --count 100

Each photograph gets three lines, on skin, on a label and on the background, in one of five fonts, 12 to 80 pixels high,
turned by quarters; names, numbers and days change from one to the next. The gateway's own finder paints them out, or
says that the photograph has to be held. Debian's tesseract then reads every place where a line stood, in all four
turns, as it is, doubled, and scaled to the height it reads best. A line counts as readable if four of its letters or
digits stand in a row in what was read. As many photographs without text show how often something is painted that is
none. With --first and --count the work is done in portions.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gateway.burnin import TextFinder, painted_out

FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono-Bold", "STIXGeneral", "cmss10")
SURFACES = ("skin", "label", "background")
FAMILY = (
    "Zweifelsfrei", "Nilsson", "OConnor", "Papadopoulos", "Kowalczyk", "Yamamoto", "Fernandes", "MacGregor", "Öztürk",
    "Haugen", "Le Gall", "Rossi", "Novak", "Demir", "Whitfield", "Jung",
)  # fmt: skip
GIVEN = (
    "Adelheid", "Lars", "Maeve", "Eleni", "Zbigniew", "Haruka", "Joana", "Fiona", "Ayşe", "Kari", "Yann",
)  # fmt: skip
NAMES = ("{0} {1}", "{0}, {1}", "{0}^{1}", "Name: {1} {0}")
NUMBERS = ("PID {0}", "MRN {0}", "{0}", "ID: {0}")
DAYS = ("{2:02}.{1:02}.{0}", "{0}-{1:02}-{2:02}", "{2:02}/{1:02}/{0}", "{0}{1:02}{2:02}")
COLOURS = ((255, 255, 255), (255, 235, 60), (0, 0, 0), (160, 0, 0))
BEST_PX = 36
"""Height of capitals that tesseract reads best."""
IN_A_ROW = 4
"""Letters or digits of a line, in a row, that make it readable."""


@dataclass(frozen=True)
class Line:
    """One line of text in a photograph: what it says, where it stands (x0, y0, x1, y1), and its quarter turns."""

    secret: str
    surface: str
    font: str
    height_px: int
    box: tuple[int, int, int, int]
    turned: int


def secrets(number, draw):
    """A name, a number and a day, others for each photograph."""
    name = NAMES[number % 4].format(FAMILY[number % 16], GIVEN[number % 11])
    identity = NUMBERS[number // 2 % 4].format(draw.integers(10**5, 10**8))
    day = DAYS[number // 3 % 4].format(draw.integers(1930, 2024), draw.integers(1, 13), draw.integers(1, 29))
    return name, identity, day


def font_of(name, height_px):
    """A font whose capitals are this high."""
    import matplotlib

    file = f"{matplotlib.get_data_path()}/fonts/ttf/{name}.ttf"
    trial = ImageFont.truetype(file, 100)
    top, bottom = trial.getbbox("H")[1::2]
    return ImageFont.truetype(file, max(4, round(100 * height_px / (bottom - top))))


def _stamp(secret, name, height_px, colour, paper):
    """The line alone: its pixels and how much they cover."""
    font = font_of(name, height_px)
    x0, y0, x1, y1 = font.getbbox(secret)
    pad = max(3, height_px // 2)
    cover = Image.new("L", (x1 - x0 + 2 * pad, y1 - y0 + 2 * pad), 0)
    ImageDraw.Draw(cover).text((pad - x0, pad - y0), secret, fill=255, font=font)
    weight = np.asarray(cover, np.float32)[..., None] / 255
    pixels = np.broadcast_to(np.array(colour, np.float32), (*weight.shape[:2], 3))
    if paper is None:
        return pixels, weight
    return pixels * weight + np.array(paper, np.float32) * (1 - weight), np.ones_like(weight)


def burn_in(image, label, draw, number):
    """The photograph with the three secrets in it, and where each line stands."""
    picture, lines = image.copy(), []
    height, width = picture.shape[:2]
    for place, secret in enumerate(secrets(number, draw)):
        surface = SURFACES[(number + place) % 3]
        name = FONTS[(number // 4 + place) % 5]
        turned = (number + place) % 4
        wanted = round(float(np.exp(draw.uniform(np.log(12), np.log(80)))))
        room = 0.92 * (width if turned % 2 == 0 else height)
        for attempt in range(40):
            height_px = max(12, round(wanted * 0.95**attempt))
            ys, xs = np.nonzero((label == 1) if surface == "skin" else (label == 0))
            at = draw.integers(len(ys))
            paper = ((250, 250, 245), (250, 230, 120))[number % 2] if surface == "label" else None
            around = picture[max(0, ys[at] - 20) : ys[at] + 20, max(0, xs[at] - 20) : xs[at] + 20].mean()
            light = paper is not None or around > 125
            colour = COLOURS[2 + number % 2] if light else COLOURS[number % 2]
            pixels, weight = _stamp(secret, name, height_px, colour, paper)
            pixels, weight = np.rot90(pixels, turned), np.rot90(weight, turned)
            rows, columns = weight.shape[:2]
            if max(rows, columns) > room or rows > height or columns > width:
                continue
            y = int(np.clip(ys[at] - rows // 2, 0, height - rows))
            x = int(np.clip(xs[at] - columns // 2, 0, width - columns))
            box = (x, y, x + columns, y + rows)
            if all(
                box[2] <= b[0] or b[2] <= box[0] or box[3] <= b[1] or b[3] <= box[1]
                for b in (line.box for line in lines)
            ):
                break
        else:
            continue
        part = picture[y : y + rows, x : x + columns]
        picture[y : y + rows, x : x + columns] = np.rint(part * (1 - weight) + pixels * weight).astype(
            np.uint8
        )
        lines.append(Line(secret, surface, name, height_px, box, turned))
    return picture, lines


def signs(text):
    """Letters and digits alone."""
    return re.sub(r"[\W_]", "", text.casefold())


def tesseract(pictures, mode):
    """What Debian's tesseract reads in each picture, letters and digits only."""
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{number}.png" for number in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            Image.fromarray(picture).save(file, compress_level=1)
        listed = Path(name) / "list.txt"
        listed.write_text("\n".join(map(str, files)) + "\n", encoding="utf-8")
        done = subprocess.run(
            ["tesseract", str(listed), "stdout", "--psm", str(mode), "--dpi", "150"],
            capture_output=True, check=True, env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )  # fmt: skip
    pages = done.stdout.decode().split("\f")
    if len(pages) != len(pictures):
        raise RuntimeError(f"tesseract read {len(pages)} of {len(pictures)} pictures")
    return [signs(page) for page in pages]


def looks(picture, line, turns):
    """The place where a line stood, in these quarter turns from upright, as it is, at tesseract's best height, doubled.

    Those at its best height come first.
    """
    x0, y0, x1, y1 = line.box
    found = []
    for factor in (BEST_PX / line.height_px, 1.0, 2.0):
        if factor == 2 and line.height_px > BEST_PX:
            continue
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        for quarters in turns:
            part = np.rot90(picture[y0:y1, x0:x1], quarters - line.turned)
            part = cv2.resize(part, None, fx=factor, fy=factor, interpolation=way)
            found.append(cv2.copyMakeBorder(part, 20, 20, 20, 20, cv2.BORDER_REPLICATE))
    return found


def readable(picture, lines, turns=(0, 1, 2, 3)):
    """For each line, whether tesseract reads four of its letters in a row where it stood."""
    found = [False] * len(lines)
    for mode, share in ((6, slice(None)), (7, slice(0, len(turns)))):
        asked = [
            (place, look) for place, line in enumerate(lines) for look in looks(picture, line, turns)[share]
        ]
        for (place, _), read in zip(asked, tesseract([look for _, look in asked], mode), strict=True):
            secret = signs(lines[place].secret)
            match = SequenceMatcher(None, read, secret, autojunk=False).find_longest_match()
            found[place] |= match.size >= IN_A_ROW
    return found


def photographs(data, first, count):
    """Pictures and their labels, half studio portraits of the London set, half held-back ones, of several sizes."""
    from inference.inpaint.data import read_image
    from inference.split import held_back

    london = sorted((data / "data/london/images").glob("*_neutral.jpg"))
    names = {path.stem for path in (data / "data/portraits/images").glob("*.jpg")}
    portraits = [data / "data/portraits/images" / f"{name}.jpg" for name in sorted(held_back(names))]
    for index, path in enumerate(path for pair in zip(london, portraits, strict=False) for path in pair):
        if index < first:
            continue
        if index >= first + count:
            return
        image = read_image(path)
        label = read_image(path.parents[1] / "labels" / f"{path.stem}.png")[..., 0]
        factor = (1.0, 1.5, 2.2, 3.0)[index // 2 % 4]
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        yield (
            index,
            cv2.resize(image, size, interpolation=cv2.INTER_CUBIC),
            cv2.resize(label, size, interpolation=cv2.INTER_NEAREST),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANOSKIN_DATA", "../shared")))
    parser.add_argument("--first", type=int, default=0, help="photograph to begin with")
    parser.add_argument("--count", type=int, default=100, help="photographs from there on")
    parser.add_argument(
        "--out", type=Path, help="folder for pictures of lines still readable, or painted wrongly"
    )
    given = parser.parse_args()
    finder = TextFinder()
    found, left, painted, spent_s = Counter(), [], [], 0.0
    for number, image, label in photographs(given.data, given.first, given.count):
        _, wrong, _ = painted_out(finder, image)
        if wrong.any():
            painted.append(number)
        found["photographs without text painted"] += bool(wrong.any())
        picture, lines = burn_in(image, label, np.random.default_rng((6, number)), number)
        begun = time.process_time()
        result, mask, legible = painted_out(finder, picture)
        spent_s += time.process_time() - begun
        before = readable(picture, lines, turns=(0,))
        after = [line for line, read in zip(lines, readable(result, lines), strict=True) if read]
        found["photographs"] += 1
        found["photographs held: text is left after painting"] += legible > 0
        found["photographs that mode hold would release"] += not mask.any()
        found["photographs released with a readable line"] += bool(after) and not legible
        found["lines"] += len(lines)
        found["lines readable before"] += sum(before)
        found["lines readable afterwards"] += len(after)
        found["of them in photographs that are held"] += len(after) if legible else 0
        left += [(number, line.surface, line.font, line.height_px, line.turned * 90) for line in after]
        if given.out and (after or wrong.any() or legible):
            why = "left" if after else "held" if legible else "wrong"
            Image.fromarray(np.hstack([picture, result])).save(given.out / f"{why}-{number}.png")
        print(number, picture.shape, [(line.height_px, line.turned) for line in lines], before, len(after), legible,
              bool(wrong.any()), flush=True)  # fmt: skip
    taken = round(spent_s / max(found["photographs"], 1), 1)
    report = {**found, "left": left, "painted without text": painted, "s of a core per photograph": taken}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
