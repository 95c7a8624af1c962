"""What every engine promises, held by the one in this process and by a live Triton server over gRPC."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from served import NANO, Triton

from inference.contract import Floats, Image, Mask, Models
from inference.wire import LARGEST_REQUEST

pytestmark = [pytest.mark.models, pytest.mark.system, pytest.mark.filterwarnings("ignore")]

ENGINES = ("local", "triton", "triton without shared memory")
PROMPTS = ["clinical photograph of a face", "Gesicht, 乾癬"]
SEEDS = [7, 2**31 - 1]


@pytest.fixture(scope="module")
def engines(triton: Triton) -> Iterator[Callable[[str], Models]]:
    """The nano bundle's models by the name of an engine, each loaded once."""
    from inference import local
    from inference.triton import Terms, load_models

    threads = torch.get_num_threads()

    @cache
    def loaded(engine: str) -> Models:
        if engine == "local":
            return local.load_models(NANO, threads=1)
        return load_models(NANO, [triton.url], Terms(120, shared_memory=engine == "triton"), threads=1)

    loaded("local")  # sets the number of threads
    yield loaded
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def painted(engines: Callable[[str], Models]) -> Callable[[str], Image]:
    """The two pictures of `scene`, painted by an engine in one call."""

    @cache
    def result(engine: str) -> Image:
        inpainter = engines(engine).inpainter
        return inpainter.inpaint(*scene(inpainter.size_px), PROMPTS, SEEDS)

    return result


def noise(number: int, side: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (number, side, side, 3), np.uint8)


def scene(side: int) -> tuple[Image, Mask]:
    """Two pictures and what to hide of them: most of the first, a corner of the second."""
    hide = np.zeros((2, side, side), np.bool_)
    hide[0, side // 8 : -side // 8, side // 6 : -side // 6] = True
    hide[1, : side // 2, : side // 3] = True
    smooth = np.linspace(60, 200, side, dtype=np.float32)[None, :, None, None]
    return np.broadcast_to(smooth, (2, side, side, 3)).astype(np.uint8), hide


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_engines_agree_on_what_the_bundle_is(engines: Callable[[str], Models], engine: str) -> None:
    one, other = engines("local"), engines(engine)
    assert one.segmenter.classes == other.segmenter.classes
    assert one.segmenter.size_px == other.segmenter.size_px
    assert one.inpainter.size_px == other.inpainter.size_px
    assert (one.name, one.roles, one.prompts) == (other.name, other.roles, other.prompts)


def test_probabilities_are_those_of_the_engine_in_this_process(
    engines: Callable[[str], Models], engine: str
) -> None:
    segmenter = engines(engine).segmenter
    pictures = noise(3, segmenter.size_px)
    found = segmenter.segment(pictures)
    assert found.shape == (3, len(segmenter.classes), segmenter.size_px, segmenter.size_px)
    assert found.dtype == np.float32
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert (found >= 0).all()
    assert np.array_equal(found, engines("local").segmenter.segment(pictures))


def test_a_picture_is_segmented_alike_in_any_company(engines: Callable[[str], Models], engine: str) -> None:
    segmenter = engines(engine).segmenter
    pictures = noise(LARGEST_REQUEST + 1, segmenter.size_px)
    together = segmenter.segment(pictures)
    for place in (0, LARGEST_REQUEST):
        assert np.array_equal(segmenter.segment(pictures[place : place + 1])[0], together[place])


def test_the_same_seed_paints_the_same_pixels_as_in_this_process(
    engines: Callable[[str], Models], painted: Callable[[str], Image], engine: str
) -> None:
    result = painted(engine)
    assert result.dtype == np.uint8
    assert result.shape == (2, engines(engine).inpainter.size_px, engines(engine).inpainter.size_px, 3)
    assert np.array_equal(result, painted("local"))


def test_a_picture_is_painted_alike_in_any_company_and_whatever_it_hides(
    engines: Callable[[str], Models], painted: Callable[[str], Image], engine: str
) -> None:
    inpainter = engines(engine).inpainter
    pictures, hide = scene(inpainter.size_px)
    other = np.where(hide[..., None], noise(2, inpainter.size_px), pictures)
    assert (other != pictures)[hide].any()
    alone = inpainter.inpaint(other[1:], hide[1:], PROMPTS[1:], SEEDS[1:])
    assert np.array_equal(alone[0], painted(engine)[1])


@pytest.mark.parametrize("engine", ENGINES[:2])
def test_another_seed_paints_something_else(
    engines: Callable[[str], Models], painted: Callable[[str], Image], engine: str
) -> None:
    inpainter = engines(engine).inpainter
    pictures, hide = scene(inpainter.size_px)
    again = inpainter.inpaint(pictures[:1], hide[:1], PROMPTS[:1], [SEEDS[0] + 1])
    assert (again[0] != painted(engine)[0])[hide[0]].mean() > 0.5


@pytest.mark.parametrize("engine", ENGINES[:2])
def test_callers_at_the_same_time_get_what_each_would_get_alone(
    engines: Callable[[str], Models], painted: Callable[[str], Image], engine: str
) -> None:
    models = engines(engine)
    pictures, hide = scene(models.inpainter.size_px)
    views = noise(4, models.segmenter.size_px)
    expected = models.segmenter.segment(views)

    def paint(place: int) -> Image:
        part = slice(place, place + 1)
        return models.inpainter.inpaint(pictures[part], hide[part], PROMPTS[part], SEEDS[part])

    def look(place: int) -> Floats:
        return models.segmenter.segment(views[place : place + 1])

    with ThreadPoolExecutor(6) as pool:
        paintings = [pool.submit(paint, place) for place in (0, 1)]
        looks = [pool.submit(look, place) for place in range(4)]
        assert np.array_equal(np.concatenate([one.result() for one in paintings]), painted(engine))
        assert np.array_equal(np.concatenate([one.result() for one in looks]), expected)


@pytest.mark.parametrize("change", ["smaller", "grey", "floats", "one picture without its dimension"])
def test_pictures_of_another_shape_or_type_are_not_taken(
    engines: Callable[[str], Models], engine: str, change: str
) -> None:
    segmenter = engines(engine).segmenter
    pictures = noise(1, segmenter.size_px)
    wrong = {
        "smaller": pictures[:, :-1],
        "grey": pictures[..., 0],
        "floats": pictures.astype(np.float32),
        "one picture without its dimension": pictures[0],
    }
    with pytest.raises(ValueError, match="images must be uint8"):
        segmenter.segment(wrong[change])


@pytest.mark.parametrize("engine", ENGINES[:2])
def test_a_prompt_longer_than_the_model_reads_is_refused_and_not_cut(
    engines: Callable[[str], Models], engine: str
) -> None:
    inpainter = engines(engine).inpainter
    pictures, hide = scene(inpainter.size_px)
    with pytest.raises(ValueError, match="tokens"):
        inpainter.inpaint(pictures[:1], hide[:1], ["rosy skin, " * 200], [0])
