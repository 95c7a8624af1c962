"""Text in the pixels: names that were burned in are found, portraits are not taken for text."""

import builtins
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photographs import skin
from PIL import Image, ImageDraw, ImageFont

from gateway.burnin import ALLOWED, Text, TextFinder, painted_out
from gateway.errors import Held, Misconfigured
from gateway.looks import NEAREST_PX, places

pytest.importorskip("rapidocr")
BURNED_IN = "DOE^JANE 1970-01-02 MRN 12345678"
WHITE, YELLOW, BLACK, GREEN = (255, 255, 255), (255, 255, 0), (0, 0, 0), (0, 255, 0)


@pytest.fixture(scope="module")
def finder() -> TextFinder:
    return TextFinder()


def font(height_px: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans whose capitals are this high."""
    import matplotlib

    return ImageFont.truetype(
        f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", round(height_px / 0.73)
    )


def written(
    picture: np.ndarray, text: str, height_px: int = 16, colour: tuple[int, int, int] = WHITE
) -> np.ndarray:
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((8, 10), text, fill=colour, font=font(height_px))
    return np.asarray(image)


@pytest.mark.parametrize(("height_px", "colour"), [(12, WHITE), (16, BLACK), (20, GREEN), (12, YELLOW)])
def test_a_burned_in_name_is_found(finder: TextFinder, height_px: int, colour: tuple[int, int, int]) -> None:
    texts = finder.find(written(skin(200, 640), BURNED_IN, height_px, colour))
    read = " ".join(t.text for t in texts)
    assert "12345678" in read
    box = np.concatenate([t.box for t in texts])
    assert box[:, 1].max() < 10 + 3 * height_px


def test_text_in_a_large_picture_is_found_where_it_is(finder: TextFinder) -> None:
    picture = written(np.tile(skin(300, 400), (1, 8, 1)), "DOE^JANE 12345678", 60)
    texts = finder.find(picture)
    assert texts
    left, right = texts[0].box[:, 0].min(), texts[0].box[:, 0].max()
    assert left < 60
    assert 500 < right < 1000  # in pixels of the picture itself, not of the reduced one


def test_upright_text_along_the_edge_is_found(finder: TextFinder) -> None:
    assert finder.find(np.ascontiguousarray(np.rot90(written(skin(200, 520), BURNED_IN, 16))))


@pytest.mark.parametrize("text", ["10 mm", "0 1 2 3 4 5 cm", "LEFT", "5 cm", "0  1  2  3  4"])
def test_scale_bars_and_sides_are_allowed(finder: TextFinder, text: str) -> None:
    assert finder.find(written(skin(200, 300), text, 20)) == []
    assert TextFinder(allow=()).find(written(skin(200, 300), "LEFT SIDE", 20)) != []


def test_a_number_that_stands_alone_is_found_beside_a_scale_bar(finder: TextFinder) -> None:
    scale, number = (written(skin(100, 300), text, 20) for text in ("0 1 2 3 4 5 cm", "012345"))
    found = finder.find(np.concatenate([scale, number]))
    assert found
    assert all(text.box[:, 1].min() > 95 for text in found)


@pytest.mark.parametrize(
    "text",
    [
        "12345678",
        "L. Doe",
        "1970-01-02",
        "19700102 mm",
        "02.01.70",
        "MRN 5 cm",
        "1 2",
        "0123",
        "1 2 4",
        "17 04 1951",
        "1 2 3 5",
        "2 3 4 5",
    ],
)
def test_nothing_else_is_allowed(text: str) -> None:
    import re

    assert not any(re.fullmatch(pattern, text, re.IGNORECASE) for pattern in ALLOWED)


def test_skin_shows_no_text(finder: TextFinder) -> None:
    assert finder.find(skin(300, 400)) == []


def test_portraits_show_no_text(finder: TextFinder, shared: Path) -> None:
    folder = shared / "data" / "portraits" / "images"
    for file in sorted(folder.iterdir())[::110]:
        assert finder.find(np.asarray(Image.open(file).convert("RGB"))) == [], file.name


@pytest.mark.parametrize(
    ("text", "score", "counts"),
    [("长长", 0.95, False), ("山田", 0.9, True), ("★", 0.99, False), ("AB", 0.99, False), ("ABC", 0.79, False),
     ("ABC", 0.8, True), ("11111111", 0.9, True), ("MeV*", 0.7, False), ("L", 0.99, False)],
)  # fmt: skip
def test_a_word_counts_and_a_pattern_does_not(
    finder: TextFinder, monkeypatch: pytest.MonkeyPatch, text: str, score: float, counts: bool
) -> None:
    class Result:
        txts, boxes, scores = (text,), np.zeros((1, 4, 2)), (score,)

    monkeypatch.setattr(finder, "_reader", lambda picture: Result())
    assert bool(finder.find(skin())) is counts


def test_a_text_does_not_print_itself() -> None:
    assert "Doe" not in repr(Text(np.zeros((4, 2), np.float32), "Doe", 0.9))


def test_a_score_that_is_no_number_counts_as_text(
    finder: TextFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Result:
        txts, boxes, scores = ("DOE JANE",), np.zeros((1, 4, 2)), (float("nan"),)

    monkeypatch.setattr(finder, "_reader", lambda picture: Result())
    assert finder.find(skin()) != []


def test_a_reader_that_fails_holds(finder: TextFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(picture: np.ndarray) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(finder, "_reader", fail)
    with pytest.raises(Held, match="text") as raised:
        finder.find(skin())
    assert "secret" not in str(raised.value)


def test_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "rapidocr":
            raise ImportError(name)
        return original(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Misconfigured, match=r"anoskin-gateway\[treat\]"):
        TextFinder()


def test_a_wrong_pattern_is_a_wrong_configuration() -> None:
    with pytest.raises(Misconfigured, match="regular expressions"):
        TextFinder(allow=["("])


def test_a_name_is_painted_out_and_nothing_is_left_of_it(finder: TextFinder) -> None:
    picture = np.ascontiguousarray(np.rot90(written(skin(120, 640), BURNED_IN, 16)))
    clean, mask, left = painted_out(finder, picture)
    assert left == 0
    assert np.array_equal(clean[~mask], picture[~mask])
    assert mask.mean() < 0.6
    assert finder.find(clean) == []


def test_the_rest_of_a_line_is_read_beside_what_was_painted_out(finder: TextFinder) -> None:
    picture = written(skin(300, 900), "      12345678", 20)
    painted = np.zeros(picture.shape[:2], np.bool_)
    painted[8:40, 4:60] = True
    texts = finder.left(picture, painted)
    assert {text.text for text in texts} == {"12345678"}
    box = np.concatenate([text.box for text in texts])
    assert 50 < box[:, 0].min() < box[:, 0].max() < 400  # in pixels of the picture


def test_a_text_that_goes_on_outside_is_read_whole(
    finder: TextFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def find(picture: np.ndarray) -> list[Text]:
        asked.append(picture.shape)
        width = picture.shape[1]
        corners = [(width - 30, 5), (width - 1, 5), (width - 1, 15), (width - 30, 15)]
        return [] if width == 400 else [Text(np.array(corners, np.float32), "100 m", 0.9)]

    monkeypatch.setattr(finder, "find", find)
    painted = np.zeros((300, 400), np.bool_)
    painted[100:120, 100:200] = True
    assert finder.left(skin(300, 400), painted) == []
    assert asked == [(20 + 80, 100 + 80, 3), (300, 400, 3)]


@given(st.lists(st.tuples(*[st.integers(0, 199)] * 4), max_size=6))
def test_places_hold_all_that_was_painted_and_what_is_near_and_do_not_overlap(
    corners: list[tuple[int, int, int, int]],
) -> None:
    painted = np.zeros((210, 230), np.bool_)
    for x, y, across, down in corners:
        painted[y : y + 1 + down // 8, x : x + 1 + across // 4] = True
    covered = np.zeros(painted.shape, np.int64)
    for x0, y0, x1, y1 in places(painted):
        covered[y0:y1, x0:x1] += 1
    assert covered.max() <= 1
    for x, y in {(x, y) for x, y, *_ in corners}:
        near = covered[
            max(0, y - NEAREST_PX) : y + NEAREST_PX + 1, max(0, x - NEAREST_PX) : x + NEAREST_PX + 1
        ]
        assert near.all()
    assert bool(covered.any()) is bool(corners)
