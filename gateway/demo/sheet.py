"""``sheet.png``: every case before, with its masks, and after, side by side. Shape letters: H × W, P panel side."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from gateway.demo.judge import Finding

PANEL_PX = 248
GAP_PX = 6
MARGIN_PX = 18
CAPTION_PX = 62
COLUMNS = 4

HIDE = (40, 150, 255)
KEEP = (255, 150, 0)
PAPER = (255, 255, 255)
INK = (25, 25, 25)
QUIET = (236, 238, 240)
GOOD, BAD = (20, 120, 60), (190, 30, 30)

Rgb = NDArray[np.uint8]


def write_sheet(findings: Sequence[Finding], file: Path) -> None:
    """Draw all findings into one PNG: four cases a row, three panels a case; the first frame of each object."""
    wide = 3 * PANEL_PX + 2 * GAP_PX
    rows = -(-len(findings) // COLUMNS)
    size = (
        COLUMNS * wide + (COLUMNS + 1) * MARGIN_PX,
        rows * (PANEL_PX + CAPTION_PX) + MARGIN_PX + CAPTION_PX,
    )
    page = Pictures.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    _legend(draw, (MARGIN_PX, MARGIN_PX))
    for index, finding in enumerate(findings):
        x = MARGIN_PX + (index % COLUMNS) * (wide + MARGIN_PX)
        y = CAPTION_PX + (index // COLUMNS) * (PANEL_PX + CAPTION_PX)
        for number, panel in enumerate(_panels(finding)):
            page.paste(Pictures.fromarray(panel), (x + number * (PANEL_PX + GAP_PX), y))
        if finding.shown.after is None:
            _verdict_panel(draw, finding, x + 2 * (PANEL_PX + GAP_PX), y)
        _caption(draw, finding, x, y + PANEL_PX + 4)
    page.save(file, optimize=True)


def _panels(finding: Finding) -> list[Rgb]:
    """Before, masks and after, each uint8 RGB (P, P, 3), showing what matters of the picture."""
    shown = finding.shown
    before, hide, keep = shown.before[-1], shown.hide[-1], shown.keep[-1]
    nothing = np.zeros_like(hide)
    window = _window(nothing if shown.after is None else hide | keep)
    masked = before.astype(np.float32)
    for mask, colour in ((hide, HIDE), (keep, KEEP)):
        masked[mask] = 0.45 * masked[mask] + 0.55 * np.array(colour, np.float32)
    after = np.full_like(before, 240) if shown.after is None else shown.after[-1]
    return [_fitted(picture[window]) for picture in (before, masked.astype(np.uint8), after)]


def _window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The square about the largest part of a mask (H, W); the middle of the picture where the mask is empty."""
    height, width = mask.shape
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count > 1:
        mask = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    ys, xs = np.nonzero(mask)
    if not ys.size:
        ys, xs = np.array([0, height - 1]), np.array([0, width - 1])
    side = int(min(1.35 * max(np.ptp(ys), np.ptp(xs)) + 1, height, width))
    top = int(np.clip((ys.min() + ys.max() - side) // 2, 0, height - side))
    left = int(np.clip((xs.min() + xs.max() - side) // 2, 0, width - side))
    return slice(top, top + side), slice(left, left + side)


def _fitted(picture: Rgb) -> Rgb:
    shrinks = picture.shape[0] > PANEL_PX
    way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (PANEL_PX, PANEL_PX), interpolation=way), np.uint8)


def _verdict_panel(draw: ImageDraw.ImageDraw, finding: Finding, x: int, y: int) -> None:
    """In the place of *after* where nothing left."""
    draw.rectangle((x, y, x + PANEL_PX - 1, y + PANEL_PX - 1), fill=QUIET)
    state = "not settled" if finding.state is None else str(finding.state)
    text = state if finding.reason is None else f"{state}:\n{finding.reason}"
    middle = (x + PANEL_PX / 2, y + PANEL_PX / 2)
    colour = INK if finding.as_expected else BAD
    draw.multiline_text(middle, text, fill=colour, font=_font(27), anchor="mm", align="center", spacing=8)


def _caption(draw: ImageDraw.ImageDraw, finding: Finding, x: int, y: int) -> None:
    facts = [] if finding.similarity is None else [f"cosine {finding.similarity:.2f}"]
    if finding.lesion_kept is not None:
        facts.append(f"{finding.lesion_kept:.0%} of the lesion kept")
    if finding.shown.after is not None and not finding.shown.hide.any():
        facts.append("not a pixel changed" if finding.kept_pixels_identical else "pixels changed")
    draw.text((x, y), finding.name, fill=INK if finding.as_expected else BAD, font=_font(27))
    draw.text((x, y + 30), ", ".join(facts), fill=(110, 110, 110), font=_font(21))


def _legend(draw: ImageDraw.ImageDraw, at: tuple[int, int]) -> None:
    x, y = at
    draw.text((x, y), "before, masks, after.", fill=INK, font=_font(27))
    x += 290
    for colour, text in ((HIDE, "hidden"), (KEEP, "lesion, kept bit for bit")):
        draw.rectangle((x, y + 4, x + 26, y + 28), fill=colour)
        draw.text((x + 36, y), text, fill=INK, font=_font(27))
        x += 160
    x += 230
    draw.text(
        (x, y), "cosine: likeness to the original, as the face verifier measures it", fill=INK, font=_font(27)
    )


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
