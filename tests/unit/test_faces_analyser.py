from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inference.faces import align, detector, recogniser
from inference.faces.analyser import InsightFaceAnalyser, PackUnusable

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
"""One for each landmark of a drawn face (RGB)."""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Detector and recogniser with random weights."""
    folder = tmp_path_factory.mktemp("pack")
    torch.manual_seed(4)
    detector.export(detector.Detector(8), folder / "detector.onnx")
    recogniser.export(recogniser.Recogniser(16), folder / "recogniser.onnx")
    return folder


@pytest.fixture
def analyser(pack: Path) -> InsightFaceAnalyser:
    return InsightFaceAnalyser(pack)


class DotDetector:
    """Finds the five coloured dots of a drawn face, if the picture suits it."""

    def __init__(self, *, upright: bool = False, clear_of_border: bool = False) -> None:
        self.upright = upright
        self.clear_of_border = clear_of_border
        self.largest = 0

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.largest = max(self.largest, *image.shape[:2])
        points = []
        for colour in COLOURS:
            near = np.abs(image[:, :, ::-1].astype(int) - colour).sum(axis=2) < 120
            rows, columns = np.nonzero(near)
            if not len(rows):
                return np.zeros((0, 5), np.float32), np.zeros((0, 5, 2), np.float32)
            points.append((columns.mean(), rows.mean()))
        found = np.array(points, np.float32)
        low, high = found.min(axis=0), found.max(axis=0)
        stands = found[:2, 1].max() < found[3:, 1].min() and found[0, 0] < found[1, 0]
        clear = bool((low > 0.2 * image.shape[0]).all())
        if (self.upright and not stands) or (self.clear_of_border and not clear):
            return np.zeros((0, 5), np.float32), np.zeros((0, 5, 2), np.float32)
        return np.array([[*low, *high, 0.9]], np.float32), found[None]


def _drawn(height: int, width: int, spots: np.ndarray, radius: int = 4) -> np.ndarray:
    image = np.full((height, width, 3), 128, np.uint8)
    for (x, y), colour in zip(spots, COLOURS, strict=True):
        cv2.circle(image, (int(x), int(y)), radius, colour, -1)
    return image


SPOTS = np.array([[30, 25], [70, 22], [50, 45], [33, 65], [69, 66]], np.float32)


def test_a_pack_of_random_weights_is_loaded_by_insightface_and_searched_at_both_sizes(pack: Path) -> None:
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(name=str(pack), root=str(pack.parent), providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=-1)
    assert set(app.models) == {"detection", "recognition"}
    assert app.det_model.use_kps
    assert app.models["recognition"].input_mean == 127.5
    assert app.models["recognition"].input_std == 127.5
    app.det_model.detect(np.zeros((90, 160, 3), np.uint8), det_thresh=0.0)
    assert app.det_model.resolution_session_input_sizes == ((128, 128), (640, 640))


def test_insightface_decodes_the_detector_as_it_was_trained(pack: Path) -> None:
    from insightface.model_zoo.scrfd import SCRFD

    torch.manual_seed(4)
    model = detector.Detector(8).eval()
    scrfd = SCRFD(str(pack / "detector.onnx"))
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    _, boxes, points = scrfd.forward(image, threshold=0.0)
    fed = (torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() - 127.5) / 128
    with torch.no_grad():
        places = torch.cat([each for _, each in model(fed)], dim=1)[0]
    anchors = detector.Anchors.of(128, 128)
    places = places * anchors.stride_px[:, None]
    expected = torch.cat([anchors.centres - places[:, :2], anchors.centres + places[:, 2:4]], dim=1)
    np.testing.assert_allclose(np.concatenate(boxes), expected.numpy(), atol=1e-2)
    expected_points = anchors.centres[:, None] + places[:, 4:].reshape(-1, 5, 2)
    np.testing.assert_allclose(np.concatenate(points), expected_points.numpy(), atol=1e-2)


@pytest.mark.parametrize(
    ("detecting", "thorough"),
    [({}, False), ({"clear_of_border": True}, False), ({"clear_of_border": True}, True)],
)
def test_a_face_is_found_in_the_coordinates_of_the_input(
    analyser: InsightFaceAnalyser, detecting: dict[str, bool], thorough: bool
) -> None:
    analyser._pack.det_model = DotDetector(**detecting)
    (face,) = analyser.find(_drawn(90, 100, SPOTS), thorough=thorough)
    np.testing.assert_allclose(face.landmarks, SPOTS, atol=0.6)
    np.testing.assert_allclose(face.box, [30, 22, 70, 66], atol=0.6)
    assert face.score == pytest.approx(0.9)
    assert face.box.dtype == face.landmarks.dtype == np.float32


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("clear_of_border", [False, True])
def test_a_turned_face_is_found_thoroughly_in_the_coordinates_of_the_input(
    analyser: InsightFaceAnalyser, quarters: int, clear_of_border: bool
) -> None:
    analyser._pack.det_model = DotDetector(upright=True, clear_of_border=clear_of_border)
    upright = _drawn(90, 120, SPOTS)
    turned = np.ascontiguousarray(np.rot90(upright, quarters))
    assert analyser.find(turned) == []
    (face,) = analyser.find(turned, thorough=True)
    for point, colour in zip(face.landmarks, COLOURS, strict=True):
        x, y = np.round(point).astype(int)
        assert tuple(int(each) for each in turned[y, x]) == colour


def test_a_large_picture_is_searched_smaller_and_answered_at_its_own_size(
    analyser: InsightFaceAnalyser,
) -> None:
    eye = DotDetector()
    analyser._pack.det_model = eye
    (face,) = analyser.find(_drawn(2700, 4000, SPOTS * 30, radius=120))
    assert eye.largest == 1280
    np.testing.assert_allclose(face.landmarks, SPOTS * 30, atol=4)


@pytest.mark.parametrize("shape", [(1, 900), (900, 1), (5, 5), (1, 1)])
def test_a_stripe_or_a_dot_has_no_face_and_is_no_error(
    analyser: InsightFaceAnalyser, shape: tuple[int, int]
) -> None:
    analyser._pack.det_model.det_thresh = 0.999
    assert analyser.find(np.zeros((*shape, 3), np.uint8), thorough=True) == []


def test_two_looks_at_one_face_are_one_face_and_the_better_one(analyser: InsightFaceAnalyser) -> None:
    class Twice:
        def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            boxes = [[10, 10, 50, 50, 0.6], [12, 11, 52, 50, 0.8], [60, 60, 80, 80, 0.7]]
            return np.array(boxes, np.float32), np.zeros((3, 5, 2), np.float32)

    analyser._pack.det_model = Twice()
    assert [face.score for face in analyser.find(np.zeros((90, 90, 3), np.uint8))] == pytest.approx(
        [0.8, 0.7]
    )


def test_an_embedding_has_unit_length_and_depends_on_the_picture(analyser: InsightFaceAnalyser) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 220, 3)).astype(np.uint8)
    landmarks = align.TEMPLATE + 40
    first = analyser.embed(image, landmarks)
    assert first.dtype == np.float32
    assert first.shape == (recogniser.LENGTH,)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(first, analyser.embed(image[::-1].copy(), landmarks))


def test_landmarks_outside_the_picture_are_never_compared(analyser: InsightFaceAnalyser) -> None:
    image = np.zeros((200, 220, 3), np.uint8)
    with pytest.raises(ValueError, match="outside the picture"):
        analyser.embed(image, align.TEMPLATE + 500)
    with pytest.raises(ValueError, match="finite"):
        analyser.embed(image, np.full((5, 2), np.nan, np.float32))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_embedding_that_says_nothing_is_an_error(analyser: InsightFaceAnalyser, value: float) -> None:
    class Mute:
        def get_feat(self, crop: np.ndarray) -> np.ndarray:
            return np.full((1, 128), value, np.float32)

    analyser._recogniser = Mute()
    with pytest.raises(ValueError, match="nothing that can be compared"):
        analyser.embed(np.zeros((200, 220, 3), np.uint8), align.TEMPLATE + 40)


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((0, 9, 3), np.uint8)]
)
def test_what_is_no_picture_is_an_error(analyser: InsightFaceAnalyser, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image must be uint8"):
        analyser.find(image)


def test_a_missing_pack_is_one_clear_sentence_and_nothing_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(PackUnusable, match=r"there is no face pack at .*absent"):
        InsightFaceAnalyser(tmp_path / "absent")
    with pytest.raises(PackUnusable, match="holds no ONNX files"):
        InsightFaceAnalyser(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pack_without_a_recogniser_or_with_broken_files_is_refused(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "detector.onnx").write_bytes((pack / "detector.onnx").read_bytes())
    with pytest.raises(PackUnusable, match="has no recogniser"):
        InsightFaceAnalyser(tmp_path)
    (tmp_path / "detector.onnx").write_bytes(b"broken")
    with pytest.raises(PackUnusable, match="cannot be loaded"):
        InsightFaceAnalyser(tmp_path)


def test_nothing_is_written_to_standard_output(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    InsightFaceAnalyser(pack).find(np.zeros((64, 64, 3), np.uint8))
    assert capsys.readouterr().out == ""
