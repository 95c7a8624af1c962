"""A published detector is trained further from the very function that was published."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from inference.faces import detector
from inference.faces.unfold import PublishedMismatch, unfold

PUBLISHED = Path(__file__).parents[2] / "bundles" / "nano" / "faces" / "detector.onnx"


def test_the_unfolded_detector_answers_as_its_file() -> None:
    generator = torch.Generator().manual_seed(1)
    model = detector.Detector(16)
    unfold(PUBLISHED, model, torch.randn(6, 3, 96, 96, generator=generator))
    images = torch.randn(1, 3, 64, 96, generator=generator)
    answers = onnxruntime.InferenceSession(str(PUBLISHED)).run(None, {"images": images.numpy()})
    with torch.no_grad():
        found = model.eval()(images)
    for index, (logits, places) in enumerate(found):
        np.testing.assert_allclose(answers[index], logits.sigmoid().reshape(-1, 1), atol=1e-4)
        np.testing.assert_allclose(answers[3 + index], places[0, :, :4], atol=1e-2)


def test_a_file_of_another_detector_is_one_clear_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    for path, width in ((PUBLISHED, 8), (broken, 16)):
        with pytest.raises(PublishedMismatch, match=r"detector|ONNX"):
            unfold(path, detector.Detector(width), torch.zeros(1, 3, 64, 64))
