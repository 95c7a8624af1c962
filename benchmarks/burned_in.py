"""A name, a number and a date burned into a hundred photographs: can another reader still read them afterwards?

    python benchmarks/burned_in.py --data ../shared --count 100

Each photograph gets three lines, on skin, on a label and on the background, in one of five fonts, 12 to 80 pixels high,
turned by quarters. The gateway's own finder paints them out; Debian's tesseract reads what is left, upright and
enlarged, where the lines stood. As many photographs without text show how often something is painted that is none.
"""

import argparse
import json
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gateway.burnin import TextFinder, painted_out

FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono-Bold", "STIXGeneral", "cmss10")
SURFACES = ("skin", "label", "background")
SECRETS = ("Zweifelsfrei Adelheid", "PID 77310428", "17.04.1951")
COLOURS = ((255, 255, 255), (255, 235, 60), (0, 0, 0), (160, 0, 0))


@dataclass(frozen=True)
class Line:
    """One line of text in a photograph: what it says, where it stands (x0, y0, x1, y1), and its quarter turns."""

    secret: str
    surface: str
    font: str
    height_px: int
    box: tuple[int, int, int, int]
    turned: int


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
    for place, secret in enumerate(SECRETS):
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


def tesseract(picture, mode):
    """What Debian's tesseract reads, letters and digits only."""
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    done = subprocess.run(
        ["tesseract", "stdin", "stdout", "--psm", str(mode), "--dpi", "150"],
        input=stream.getvalue(), capture_output=True, check=True, env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )  # fmt: skip
    return re.sub(r"[^a-z0-9]", "", done.stdout.decode().lower())


def readable(picture, line):
    """Whether tesseract still reads half of a line's letters in a row, at least four, where it stood."""
    x0, y0, x1, y1 = line.box
    part = np.rot90(picture[y0:y1, x0:x1], -line.turned)
    factor = max(1.0, 36 / line.height_px)
    part = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    part = cv2.copyMakeBorder(part, 20, 20, 20, 20, cv2.BORDER_REPLICATE)
    secret = re.sub(r"[^a-z0-9]", "", line.secret.lower())
    for mode in (6, 7):
        read = tesseract(part, mode)
        match = SequenceMatcher(None, read, secret, autojunk=False).find_longest_match()
        if match.size >= max(4, len(secret) // 2):
            return True
    return False


def photographs(data, count):
    """Pictures and their labels, half studio portraits of the London set, half held-back ones, of several sizes."""
    from inference.inpaint.data import read_image
    from inference.split import held_back

    london = sorted((data / "data/london/images").glob("*_neutral.jpg"))
    names = {path.stem for path in (data / "data/portraits/images").glob("*.jpg")}
    portraits = [data / "data/portraits/images" / f"{name}.jpg" for name in sorted(held_back(names))]
    for index, path in enumerate(path for pair in zip(london, portraits, strict=False) for path in pair):
        if index >= count:
            return
        image = read_image(path)
        label = read_image(path.parents[1] / "labels" / f"{path.stem}.png")[..., 0]
        factor = (1.0, 1.5, 2.2, 3.0)[index // 2 % 4]
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        yield (
            cv2.resize(image, size, interpolation=cv2.INTER_CUBIC),
            cv2.resize(label, size, interpolation=cv2.INTER_NEAREST),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANOSKIN_DATA", "../shared")))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument(
        "--out", type=Path, help="folder for the pictures of lines still readable, or painted wrongly"
    )
    given = parser.parse_args()
    finder = TextFinder()
    draw = np.random.default_rng(6)
    found, left, painted = Counter(), [], []
    for number, (image, label) in enumerate(photographs(given.data, given.count)):
        clean, wrong, _ = painted_out(finder, image)
        if wrong.any():
            painted.append(number)
            if given.out:
                Image.fromarray(np.hstack([image, clean])).save(given.out / f"painted-{number}.png")
        picture, lines = burn_in(image, label, draw, number)
        result, _, legible = painted_out(finder, picture)
        found["photographs"] += 1
        found["held: text is left"] += legible > 0
        found["lines"] += len(lines)
        found["lines readable before"] += sum(readable(picture, line) for line in lines)
        after = [line for line in lines if readable(result, line)]
        found["lines readable afterwards"] += len(after)
        found["photographs released with a readable line"] += bool(after) and not legible
        left += [(number, line.surface, line.font, line.height_px, line.turned * 90) for line in after]
        if after and given.out:
            Image.fromarray(np.hstack([picture, result])).save(given.out / f"left-{number}.png")
        print(
            number,
            picture.shape,
            [(line.height_px, line.turned) for line in lines],
            len(after),
            bool(wrong.any()),
            flush=True,
        )
    print(json.dumps({**found, "left": left, "painted without text": painted}, indent=1))


if __name__ == "__main__":
    main()
