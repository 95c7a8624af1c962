import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inference.faces import course, detector, portraits, recogniser, scenes, strangers, train
from inference.faces.portraits import Portrait
from inference.split import held_back

ROOT = Path(__file__).resolve().parents[2]


def _portrait(name: str, tone: int) -> Portrait:
    """A drawn face, looking straight on, the subject's right eye (image left) green and the left one blue."""
    image = np.full((256, 256, 3), 40 + tone // 2, np.uint8)
    cv2.ellipse(image, (128, 130), (52, 66), 0, 0, 360, (200, 150 - tone // 4, 130), -1)
    cv2.circle(image, (105, 112), 8, (0, 255, 0), -1)
    cv2.circle(image, (151, 112), 8, (0, 0, 255), -1)
    cv2.circle(image, (128, 135), 6, (120, 60, 40), -1)
    cv2.line(image, (108, 165), (148, 165), (180, 30, 60), 5)
    landmarks = np.array([[105, 112], [151, 112], [128, 135], [108, 165], [148, 165]], np.float32)
    return Portrait(name, image, np.array([76, 64, 180, 196], np.float32), landmarks)


PEOPLE = [_portrait(f"person-{each}", each * 30) for each in range(4)]

DETECTING = train.DetectorTraining(
    seed=1,
    steps=4,
    batch=2,
    sizes_px=(64, 96),
    width=8,
    rate=1e-3,
    decay=0.0,
    plates=2,
    crowded=(),
    checkpoint_every=2,
)
RECOGNISING = train.RecogniserTraining(
    seed=1, steps=3, batch=4, crops=8, width=16, rate=1e-3, decay=0.0, relation=1.0, checkpoint_every=2
)


class KilledError(Exception):
    """Stands for SIGKILL between two steps."""


def _teacher(crop: np.ndarray) -> np.ndarray:
    direction = cv2.resize(crop, (6, 7)).astype(np.float32).ravel()[:126]
    direction = np.concatenate([direction, [1, 1]]).astype(np.float32)
    return direction / np.float32(np.linalg.norm(direction))


def test_the_held_back_portraits_do_not_depend_on_order_and_are_the_smallest_digests() -> None:
    names = [f"name-{each}" for each in range(436)]
    kept = held_back(names)
    assert len(kept) == 50
    assert kept == held_back(reversed(names))
    moved = held_back([*names, "one-more"]) ^ kept
    assert len(moved) in (0, 2)


def test_no_held_back_portrait_is_trained_on(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    entries = []
    for each in range(53):
        entries.append({"name": f"p{each}", "box": [1, 1, 5, 5], "landmarks5": [[1, 1]] * 5})
        cv2.imwrite(str(tmp_path / "images" / f"p{each}.jpg"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "faces.json").write_text(json.dumps(entries), encoding="utf-8")
    learnt = {each.name for each in portraits.for_training(tmp_path)}
    checked = {each.name for each in portraits.for_validation(tmp_path)}
    assert len(learnt) == 3
    assert len(checked) == 50
    assert not learnt & checked


def test_missing_portraits_are_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(portraits.PortraitsMissing, match=r"no readable faces\.json"):
        portraits.for_training(tmp_path)
    entry = {"name": "p", "box": [1, 1, 5, 5], "landmarks5": [[1, 1]] * 5}
    (tmp_path / "faces.json").write_text(json.dumps([entry]), encoding="utf-8")
    with pytest.raises(portraits.PortraitsMissing, match="its picture cannot be read"):
        portraits.read(tmp_path)


def test_landmarks_of_a_drawn_scene_lie_on_the_features_and_sides_are_exchanged_when_mirrored() -> None:
    rng = np.random.default_rng(5)
    right_first = 0
    for _ in range(30):
        sketch = scenes._Sketch(np.zeros((128, 128, 3), np.uint8), [], [], [])
        scenes._paste(rng, sketch, PEOPLE[0], 90, np.array([64, 64], np.float32))
        (landmarks,) = sketch.landmarks
        eyes = [sketch.image[round(float(y)), round(float(x))] for x, y in landmarks[:2]]
        # In a mirrored picture the eye on the left is the blue one, and it is the first landmark again.
        assert {int(np.argmax(each)) for each in eyes} == {1, 2}
        assert landmarks[0, 0] < landmarks[1, 0]
        assert landmarks[3, 0] < landmarks[4, 0]
        right_first += int(np.argmax(eyes[0])) == 1
    assert 5 < right_first < 25


def test_scenes_repeat_with_the_seed_and_faces_that_count_are_seen() -> None:
    backdrop = scenes.plates(np.random.default_rng(0), PEOPLE, 3)
    counted = 0
    for seed in range(40):
        first = scenes.draw(np.random.default_rng(seed), PEOPLE, backdrop, 96)
        again = scenes.draw(np.random.default_rng(seed), PEOPLE, backdrop, 96)
        np.testing.assert_array_equal(first.image, again.image)
        assert first.image.shape == (96, 96, 3)
        for box, landmarks in zip(first.boxes[first.counted], first.landmarks[first.counted], strict=True):
            assert min(box[2:] - box[:2]) >= scenes.SMALLEST_PX
            assert ((landmarks >= 0) & (landmarks <= 96)).all(axis=1).sum() >= 3
            counted += 1
    assert counted > 30


def _truth(box: list[float], *, counted: bool = True) -> detector.Truth:
    yes = torch.tensor([[True]])
    centre = torch.tensor([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    return detector.Truth(torch.tensor([[box]]), centre.repeat(1, 1, 5, 1), yes, torch.tensor([[counted]]))


@pytest.mark.parametrize("side", [12, 20, 45, 90, 140, 200, 300])
def test_every_size_of_face_has_an_anchor_that_answers_for_it(side: float) -> None:
    middle = 131.3
    half = side / 2
    face, _ = detector.assign(
        detector.Anchors.of(256, 256),
        _truth([middle - half, middle - half, middle + half, middle + half]),
        256,
    )
    assert (face == 0).any()


def test_a_face_that_does_not_count_is_neither_asked_for_nor_denied() -> None:
    anchors = detector.Anchors.of(128, 128)
    face, ignored = detector.assign(anchors, _truth([40, 40, 80, 80], counted=False), 128)
    assert (face < 0).all()
    at_centre = (anchors.centres - 60).norm(dim=1) < 10
    assert ignored[0, at_centre & (anchors.scale_px == 32)].all()


def test_the_loss_of_a_perfect_answer_is_nothing() -> None:
    anchors = detector.Anchors.of(128, 128)
    truth = _truth([40, 40, 80, 84])
    face, _ = detector.assign(anchors, truth, 128)
    sides = torch.cat(
        [anchors.centres - truth.boxes[0, 0, :2], truth.boxes[0, 0, 2:] - anchors.centres], dim=1
    )
    points = (truth.landmarks[0, 0] - anchors.centres[:, None]).flatten(1)
    places = torch.cat([sides, points], dim=1) / anchors.stride_px[:, None]
    logits = torch.where(face[0] >= 0, 20.0, -20.0)[:, None]
    perfect = detector.loss([(logits[None], places[None])], truth, 128)
    assert float(perfect.total) < 1e-3
    wrong = detector.loss([(-logits[None], places[None] + 0.3)], truth, 128)
    assert float(wrong.total) > 1


def test_a_killed_training_continues_to_the_weights_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.train_detector(DETECTING, PEOPLE, tmp_path / "whole")

    exports: list[Path] = []
    export = detector.export

    def killed(model: detector.Detector, path: Path) -> None:
        export(model, path)
        exports.append(path)
        if len(exports) == 1:
            raise KilledError

    monkeypatch.setattr(detector, "export", killed)
    with pytest.raises(KilledError):
        train.train_detector(DETECTING, PEOPLE, tmp_path / "cut")
    train.train_detector(DETECTING, PEOPLE, tmp_path / "cut")
    assert len(exports) == 2  # steps 2 and 4: the first two were not repeated
    whole = torch.load(tmp_path / "whole" / "detector.pt", weights_only=True)
    cut = torch.load(tmp_path / "cut" / "detector.pt", weights_only=True)
    assert cut["step"] == whole["step"] == 4
    for name, value in whole["average"].items():
        torch.testing.assert_close(cut["average"][name], value, msg=name)


def test_a_checkpoint_of_another_shape_is_one_clear_sentence(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    plan = course.Plan("small", tmp_path / "small.pt", seed=0, steps=1, rate=0.1, decay=0, checkpoint_every=1)

    def step(rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        return model(torch.ones(1, 2)).square().sum(), {}

    course.run(model, step, plan, lambda averaged: None)
    with pytest.raises(course.CheckpointMismatch, match="another shape"):
        course.run(torch.nn.Linear(3, 3), step, plan, lambda averaged: None)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    plan = course.Plan("small", tmp_path / "small.pt", seed=0, steps=1, rate=0.1, decay=0, checkpoint_every=1)
    with pytest.raises(FloatingPointError, match="step 0"):
        course.run(
            model, lambda rng: (model(torch.full((1, 2), torch.nan)).sum(), {}), plan, lambda averaged: None
        )
    assert not (tmp_path / "small.pt").exists()


def test_the_recogniser_learns_from_answers_made_once(tmp_path: Path) -> None:
    asked = 0

    def teacher(crop: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += 1
        assert crop.shape == (112, 112, 3)
        return _teacher(crop)

    path, seconds = train.train_recogniser(RECOGNISING, PEOPLE, teacher, tmp_path)
    assert path.stat().st_size > 10_000
    assert seconds > 0
    first = asked
    strangers.answered(teacher, PEOPLE, tmp_path / "answers", count=RECOGNISING.crops, seed=RECOGNISING.seed)
    assert asked == first + 1  # only its length is asked for again


def test_the_answers_are_those_of_the_teacher_to_the_middle_of_the_crop(tmp_path: Path) -> None:
    answers = strangers.answered(_teacher, PEOPLE, tmp_path, count=3, seed=9)
    for crop, embedding in zip(answers.crops, answers.embeddings, strict=True):
        expected = _teacher(np.ascontiguousarray(crop[8:-8, 8:-8]))
        np.testing.assert_allclose(embedding.astype(np.float32), expected, atol=1e-3)
    before = np.array(answers.crops)
    other = strangers.answered(_teacher, PEOPLE, tmp_path, count=3, seed=10)
    assert not np.array_equal(other.crops, before)


def test_embeddings_like_the_teachers_cost_nothing_and_a_turned_set_costs_only_the_first_part() -> None:
    taught = torch.nn.functional.normalize(
        torch.randn(6, 128, generator=torch.Generator().manual_seed(0)), dim=1
    )
    assert float(recogniser.loss(taught * 3, taught, 2.0).total) == pytest.approx(0, abs=1e-5)
    mirrored = recogniser.loss(-taught, taught, 2.0)
    assert mirrored.cosine == pytest.approx(2, abs=1e-5)
    assert mirrored.relation == pytest.approx(0, abs=1e-5)


def test_a_missing_teacher_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(recogniser.TeacherMissing, match="cannot be read"):
        recogniser.teacher(tmp_path / "absent.onnx")


def test_the_configuration_that_is_shipped_is_complete_and_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    shipped = ROOT / "conf" / "training" / "faces.toml"
    assert train.configured(shipped, "detector", train.DetectorTraining).steps > 0
    assert train.configured(shipped, "recogniser", train.RecogniserTraining).crops > 0
    changed = tmp_path / "faces.toml"
    changed.write_text(shipped.read_text(encoding="utf-8").replace("plates =", "plaits ="), encoding="utf-8")
    with pytest.raises(train.UnknownKey, match="plaits"):
        train.configured(changed, "detector", train.DetectorTraining)
